//! Who dies when memory runs out: the process that frees most, as its `oom_score_adj`
//! weighs it (man 5 proc, /proc/pid/oom_score_adj).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::task::Process;
use super::{all, signal, try_current};

/// SIGKILL (man 7 signal).
const SIGKILL: u32 = 9;
/// Never killed.
const NEVER: i32 = -1000;

/// Bytes that count against a process: what it holds, shifted by its adjustment in
/// thousandths of all memory. `None`: not to be killed.
fn badness(resident: u64, adjustment: i32, total: u64) -> Option<u64> {
    if adjustment <= NEVER || resident == 0 {
        return None;
    }
    let shift = i128::from(total) * i128::from(adjustment) / 1000;
    Some((i128::from(resident) + shift).clamp(1, u64::MAX.into()) as u64)
}

fn is_dying(process: &Process) -> bool {
    process.sig.lock().group_exit.is_some()
}

/// Kills the process that frees most, the first excepted; one that is dying already is
/// enough. False when there is none, or it is the caller's own.
fn kill_worst() -> bool {
    let own = try_current().map(|task| task.pid());
    let total = crate::mm::frame::stats().total as u64 * crate::mm::PAGE_SIZE as u64;
    let mut worst: Option<(u64, Arc<Process>)> = None;
    for process in all() {
        let Some(space) = process.space() else {
            continue;
        };
        if process.pid() == 1 {
            continue;
        }
        if is_dying(&process) {
            // Its memory is on the way.
            return own != Some(process.pid());
        }
        let adjustment = process.oom_score_adj.load(Ordering::Relaxed);
        if let Some(score) = badness(space.resident_bytes(), adjustment, total)
            && worst.as_ref().is_none_or(|(most, _)| score > *most)
        {
            worst = Some((score, process));
        }
    }
    let Some((_, victim)) = worst else {
        return false;
    };
    let resident = victim.space().map_or(0, |s| s.resident_bytes());
    warn!(
        "out of memory: process {} with {} KiB is killed",
        victim.pid(),
        resident / 1024
    );
    signal::kill_process(&victim, SIGKILL);
    own != Some(victim.pid())
}

/// Registers with `vm`; boot calls it before the first program runs.
pub fn init() {
    crate::vm::oom::set_killer(kill_worst);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_the_worst_unless_adjusted() {
        let total = 256 << 20;
        assert!(badness(50 << 20, 0, total) > badness(40 << 20, 0, total));
        assert!(badness(50 << 20, -500, total) < badness(1 << 20, 0, total));
        assert!(badness(1 << 20, 1000, total) > badness(200 << 20, 0, total));
        assert_eq!(badness(50 << 20, NEVER, total), None);
        assert_eq!(badness(0, 1000, total), None);
    }
}
