//! Files about the kernel as a whole.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::text::number;
use crate::arch;
use crate::block;
use crate::error::{Errno, Result};
use crate::mm::{PAGE_SIZE, frame, heap};
use crate::process::{self, fork, info, tree};
use crate::sched;
use crate::security::{capability, cred, random};
use crate::sync::{Rank, SpinLock};
use crate::time::{self, NS_PER_SEC};
use crate::uts;
use crate::vfs::dentry;
use crate::vm::{page_cache, vma};

/// Clock ticks per second that programs count in (USER_HZ).
pub const HZ: u64 = 100;

/// Nanoseconds as clock ticks.
pub fn ticks(ns: u64) -> u64 {
    ns / (NS_PER_SEC / HZ)
}

fn kib(pages: usize) -> u64 {
    pages as u64 * (PAGE_SIZE as u64 / 1024)
}

/// /proc/meminfo.
pub fn meminfo() -> Result<Vec<u8>> {
    let frames = frame::stats();
    let cache = page_cache::stats();
    // What reclaim can give back: clean pages of files.
    let clean = cache.cached.saturating_sub(cache.dirty + cache.writeback);
    let slab = heap::bytes_used() / PAGE_SIZE;
    let names = (dentry::bytes() / PAGE_SIZE).min(slab);
    // Names that are in use do not go, nor slabs that others use as well.
    let spare = names - (names / 2).min(frames.reserve);
    let available = (frames.free + clean + spare).saturating_sub(frames.reserve);
    let mut out = String::new();
    for (name, value) in [
        ("MemTotal", kib(frames.total)),
        ("MemFree", kib(frames.free)),
        ("MemAvailable", kib(available)),
        ("Buffers", 0),
        ("Cached", kib(cache.cached + cache.shmem)),
        ("SwapCached", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", kib(cache.dirty)),
        ("Writeback", kib(cache.writeback)),
        ("Shmem", kib(cache.shmem)),
        ("Slab", kib(slab)),
        ("SReclaimable", kib(names)),
        ("SUnreclaim", kib(slab - names)),
    ] {
        let _ = writeln!(out, "{:<16}{value:>8} kB", alloc::format!("{name}:"));
    }
    Ok(out.into_bytes())
}

/// /proc/slabinfo: one line for each size of objects of the kernel's heap (man 5 slabinfo).
pub fn slabinfo() -> Result<Vec<u8>> {
    let mut out = String::from(
        "slabinfo - version: 2.1\n\
         # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
         : tunables <limit> <batchcount> <sharedfactor> \
         : slabdata <active_slabs> <num_slabs> <sharedavail>\n",
    );
    for class in heap::usage() {
        let _ = writeln!(
            out,
            "{:<17} {:>6} {:>6} {:>6} {:>4} {:>4} : tunables    0    0    0 \
             : slabdata {slabs:>6} {slabs:>6}      0",
            alloc::format!("kmalloc-{}", class.size),
            class.used,
            class.slabs * class.per_slab,
            class.size,
            class.per_slab,
            1,
            slabs = class.slabs,
        );
    }
    Ok(out.into_bytes())
}

/// /proc/cpuinfo.
pub fn cpuinfo() -> Result<Vec<u8>> {
    Ok(super::cpuinfo::cpuinfo(arch::nr_cpus(), tsc_hz()))
}

fn tsc_hz() -> u64 {
    #[cfg(target_os = "none")]
    {
        arch::clock::tsc_hz()
    }
    #[cfg(not(target_os = "none"))]
    NS_PER_SEC
}

/// /proc/stat.
pub fn stat() -> Result<Vec<u8>> {
    let mut out = String::new();
    let cpus: Vec<_> = (0..arch::nr_cpus()).filter_map(sched::cpu_times).collect();
    let line = |out: &mut String, name: &str, [user, nice, system, idle]: [u64; 4]| {
        let _ = writeln!(out, "{name} {user} {nice} {system} {idle} 0 0 0 0 0 0");
    };
    let sum = cpus.iter().fold([0; 4], |sum: [u64; 4], c| {
        [
            sum[0] + c.user_ns,
            sum[1] + c.nice_ns,
            sum[2] + c.system_ns,
            sum[3] + c.idle_ns,
        ]
    });
    line(&mut out, "cpu ", sum.map(ticks));
    for (n, c) in cpus.iter().enumerate() {
        let own = [c.user_ns, c.nice_ns, c.system_ns, c.idle_ns].map(ticks);
        line(&mut out, &alloc::format!("cpu{n}"), own);
    }
    let interrupts: u64 = (0x20..=0xff).map(arch::interrupts::count).sum();
    let boot_s = time::realtime_ns().saturating_sub(time::now_ns()) / NS_PER_SEC;
    let (_, last) = info::counts();
    let _ = write!(
        out,
        "intr {interrupts}\n\
         ctxt {}\n\
         btime {boot_s}\n\
         processes {last}\n\
         procs_running {}\n\
         procs_blocked {}\n",
        sched::context_switches(),
        sched::nr_running().max(1),
        sched::nr_uninterruptible(),
    );
    Ok(out.into_bytes())
}

/// /proc/loadavg.
pub fn loadavg() -> Result<Vec<u8>> {
    let mut out = String::new();
    for load in sched::load_averages() {
        // Rounded to hundredths.
        let hundredths = (load * 100 + (1 << (sched::LOAD_SHIFT - 1))) >> sched::LOAD_SHIFT;
        let _ = write!(out, "{}.{:02} ", hundredths / 100, hundredths % 100);
    }
    let (tasks, last) = info::counts();
    let _ = writeln!(out, "{}/{tasks} {last}", sched::nr_running().max(1));
    Ok(out.into_bytes())
}

/// /proc/uptime: since boot, and idle over all CPUs.
pub fn uptime() -> Result<Vec<u8>> {
    let idle: u64 = (0..arch::nr_cpus())
        .filter_map(sched::cpu_times)
        .map(|c| c.idle_ns)
        .sum();
    let show = |ns: u64| (ns / NS_PER_SEC, ns % NS_PER_SEC / (NS_PER_SEC / 100));
    let ((up, up_c), (idle, idle_c)) = (show(time::now_ns()), show(idle));
    Ok(alloc::format!("{up}.{up_c:02} {idle}.{idle_c:02}\n").into_bytes())
}

/// /proc/cmdline.
pub fn cmdline() -> Result<Vec<u8>> {
    Ok(alloc::format!("{}\n", crate::cmdline::get()).into_bytes())
}

/// /proc/filesystems.
pub fn filesystems() -> Result<Vec<u8>> {
    Ok(super::mounts::filesystems())
}

/// /proc/partitions.
pub fn partitions() -> Result<Vec<u8>> {
    let mut out = String::from("major minor  #blocks  name\n\n");
    for disk in block::disks() {
        let (major, minor) = disk.number;
        let blocks = disk.device.nr_sectors() / 2;
        let _ = writeln!(
            out,
            "{major:4}  {minor:7} {blocks:10} {}",
            disk.device.name()
        );
    }
    Ok(out.into_bytes())
}

fn line(value: impl core::fmt::Display) -> Result<Vec<u8>> {
    Ok(alloc::format!("{value}\n").into_bytes())
}

/// /proc/sys/kernel/pid_max.
pub fn pid_max() -> Result<Vec<u8>> {
    line(tree::PID_MAX)
}
/// /proc/sys/kernel/threads-max.
pub fn threads_max() -> Result<Vec<u8>> {
    line(fork::max_tasks())
}
/// /proc/sys/kernel/ngroups_max.
pub fn ngroups_max() -> Result<Vec<u8>> {
    line(cred::MAX_GROUPS)
}
/// /proc/sys/kernel/cap_last_cap.
pub fn cap_last_cap() -> Result<Vec<u8>> {
    line(capability::CAP_LAST)
}
/// /proc/sys/fs/file-max: no limit but memory.
pub fn file_max() -> Result<Vec<u8>> {
    line(i64::MAX)
}
/// /proc/sys/fs/nr_open.
pub fn nr_open() -> Result<Vec<u8>> {
    line(process::limits::NR_OPEN)
}
/// /proc/sys/vm/max_map_count.
pub fn max_map_count() -> Result<Vec<u8>> {
    line(vma::MAX_AREAS)
}
/// /proc/sys/vm/mmap_min_addr.
pub fn mmap_min_addr() -> Result<Vec<u8>> {
    line(crate::mm::addr::USER_START)
}
/// /proc/sys/vm/overcommit_memory: mappings are not counted against memory.
pub fn overcommit_memory() -> Result<Vec<u8>> {
    line(1)
}

fn uuid() -> String {
    let mut b: [u8; 16] = random::bytes();
    // RFC 9562, 5.4: version 4, variant 10.
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let mut out = String::new();
    for (i, byte) in b.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// /proc/sys/kernel/random/uuid: another one each time.
pub fn random_uuid() -> Result<Vec<u8>> {
    line(uuid())
}

/// /proc/sys/kernel/random/boot_id: one for this boot.
pub fn boot_id() -> Result<Vec<u8>> {
    static ID: SpinLock<Option<String>> = SpinLock::new(Rank::Object, None);
    let fresh = uuid();
    let id = ID.lock().get_or_insert(fresh).clone();
    line(id)
}

/// A value from -1000 to 1000 that a program wrote.
pub fn adjustment(text: &[u8]) -> Result<i32> {
    i32::try_from(number(text)?).map_err(|_| Errno::EINVAL)
}

/// /proc/version.
pub fn version() -> Result<Vec<u8>> {
    line(uts::banner())
}
/// /proc/sys/kernel/ostype.
pub fn ostype() -> Result<Vec<u8>> {
    line(uts::SYSNAME)
}
/// /proc/sys/kernel/osrelease.
pub fn osrelease() -> Result<Vec<u8>> {
    line(uts::RELEASE)
}
/// /proc/sys/kernel/version.
pub fn os_version() -> Result<Vec<u8>> {
    line(uts::VERSION)
}
/// /proc/sys/kernel/hostname.
pub fn hostname() -> Result<Vec<u8>> {
    Ok(with_newline(uts::hostname()))
}
/// Takes a name written to /proc/sys/kernel/hostname. EINVAL when it is too long.
pub fn set_hostname(text: &[u8]) -> Result<()> {
    uts::set_hostname(first_line(text))
}
/// /proc/sys/kernel/domainname.
pub fn domainname() -> Result<Vec<u8>> {
    Ok(with_newline(uts::domainname()))
}
/// Takes a name written to /proc/sys/kernel/domainname. EINVAL when it is too long.
pub fn set_domainname(text: &[u8]) -> Result<()> {
    uts::set_domainname(first_line(text))
}

fn with_newline(mut name: Vec<u8>) -> Vec<u8> {
    name.push(b'\n');
    name
}

fn first_line(text: &[u8]) -> &[u8] {
    text.split(|&b| b == b'\n' || b == 0).next().unwrap_or(&[])
}
