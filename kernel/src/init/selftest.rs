//! A test of the machine from within, in builds with debug assertions and with `selftest` on
//! the command line: threads on all CPUs, timers, calls between CPUs, TLB shootdowns, heap and
//! frames under contention.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::arch::{self, clock, ipi, tlb};
use crate::mm::frame::{FrameRef, Purpose};
use crate::mm::{self, PAGE_SIZE};
use crate::sched::{self, Mutex, WaitQueue};
use crate::sync::{Rank, SpinLock};

/// Runs `body` in a thread on each CPU at once and waits for all.
fn on_all_cpus(what: &str, body: fn(usize)) {
    let n = arch::nr_cpus();
    let start = clock::now_ns();
    let left = Arc::new((AtomicUsize::new(n), WaitQueue::new()));
    for cpu in 0..n {
        let left = left.clone();
        let thread = sched::Thread::new(
            "selftest",
            None,
            None,
            Box::new(move || {
                body(cpu);
                left.0.fetch_sub(1, Ordering::AcqRel);
                left.1.wake_all();
            }),
        )
        .expect("thread");
        thread.set_affinity(1 << cpu).expect("affinity");
        thread.start();
    }
    left.1
        .wait_until(|| (left.0.load(Ordering::Acquire) == 0).then_some(()));
    info!("selftest: {what}: {} us", (clock::now_ns() - start) / 1000);
}

static COUNT: AtomicU64 = AtomicU64::new(0);
static SPIN: SpinLock<u64> = SpinLock::new(Rank::Object, 0);
static SLEEP: Mutex<u64> = Mutex::new(0);
#[allow(clippy::vec_box)] // Each item is an allocation of its own: that is what is tested.
static SHARED: SpinLock<Vec<Box<[u64; 24]>>> = SpinLock::new(Rank::Object, Vec::new());

/// Fewer rounds with more CPUs than the host may have: each waits for all.
fn rounds() -> u64 {
    (400 / (arch::nr_cpus() * arch::nr_cpus()) as u64).max(3)
}

/// Panics when something is wrong.
pub fn run(word: &str) {
    if word == "overflow" {
        sched::spawn_kernel("overflow", || {
            overflow(0);
        })
        .expect("thread");
        loop {
            sched::yield_now();
        }
    }
    let cpus = arch::nr_cpus();
    on_all_cpus("threads stay where they must", |cpu| {
        for _ in 0..1000 {
            assert_eq!(arch::cpu_id(), cpu);
            sched::yield_now();
        }
    });
    on_all_cpus("sleeping", |_| {
        for ms in [1, 5, 10] {
            let until = clock::now_ns() + ms * 1_000_000;
            sched::sleep_until(until).expect("not interrupted");
            assert!(clock::now_ns() >= until);
        }
    });
    on_all_cpus("calls between CPUs", |_| {
        for _ in 0..rounds() {
            ipi::call(
                arch::CpuMask::MAX,
                |by| {
                    COUNT.fetch_add(by as u64, Ordering::Relaxed);
                },
                3,
            );
        }
    });
    assert_eq!(
        COUNT.load(Ordering::Relaxed),
        3 * rounds() * (cpus * cpus) as u64
    );
    on_all_cpus("locks that spin and sleep", |_| {
        for _ in 0..2000 {
            *SPIN.lock() += 1;
            *SLEEP.lock() += 1;
        }
    });
    assert_eq!(*SPIN.lock(), 2000 * cpus as u64);
    assert_eq!(*SLEEP.lock(), 2000 * cpus as u64);
    on_all_cpus("TLB shootdowns, some under a lock", |cpu| {
        for i in 0..rounds() {
            let at = 0x1000_0000 + i * PAGE_SIZE as u64;
            if i % 3 == cpu as u64 % 3 {
                let held = SPIN.lock();
                tlb::shootdown(arch::CpuMask::MAX, at, at + PAGE_SIZE as u64);
                drop(held);
            } else {
                tlb::shootdown(arch::CpuMask::MAX, at, at + 100 * PAGE_SIZE as u64);
            }
        }
    });
    on_all_cpus("frames", |cpu| {
        let mut held = Vec::new();
        for i in 0..3000usize {
            if i % 3 == 2 {
                held.swap_remove(i % held.len());
            } else {
                let f = FrameRef::alloc_zeroed(Purpose::User).expect("frame");
                // SAFETY: the frame is this thread's.
                unsafe {
                    let p = f.as_ptr().cast::<usize>();
                    assert_eq!(p.read(), 0);
                    p.write(cpu + 1);
                    assert_eq!(f.ref_count(), 1);
                }
                held.push(f);
            }
        }
        for f in &held {
            // SAFETY: as above.
            assert_eq!(unsafe { f.as_ptr().cast::<usize>().read() }, cpu + 1);
        }
    });
    on_all_cpus("heap, freed on other CPUs", |cpu| {
        for i in 0..2000u64 {
            let fresh = Box::new([i ^ cpu as u64; 24]);
            let other = {
                let mut shared = SHARED.lock();
                shared.push(fresh);
                let n = shared.len();
                shared.swap_remove((i as usize * 7) % n)
            };
            assert!(other.iter().all(|&v| v == other[0]));
            let mut v = Vec::new();
            v.resize(i as usize % 9000, cpu as u8);
            assert!(v.iter().all(|&b| b == cpu as u8));
        }
    });
    let stats = mm::frame::stats();
    info!(
        "selftest: passed; {} of {} frames free, heap {} KiB",
        stats.free,
        stats.total,
        mm::heap::bytes_used() / 1024
    );
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "on purpose")]
fn overflow(depth: u64) -> u64 {
    let big = core::hint::black_box([depth; 64]);
    overflow(core::hint::black_box(depth + 1)) + big[(depth % 64) as usize]
}
