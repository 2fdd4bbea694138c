//! A storm over the scheduler from within, in builds with debug assertions and with `stress=N`
//! (rounds) on the command line: threads that come and go, locks, wait queues, timers and
//! migrations, all at once on all CPUs. Panics when something is wrong; hangs when a wake-up
//! is lost, which a watchdog turns into a panic.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::arch;
use crate::sched::{self, Mutex, RwLock, Thread, WaitError, WaitQueue};
use crate::sync::{IrqLock, Rank};
use crate::time::{self, Timer, TimerCallback, now_ns};

/// Threads still at work, and who waits for them.
struct Crew {
    left: AtomicUsize,
    done: WaitQueue,
}

impl Crew {
    fn new() -> Arc<Crew> {
        Arc::new(Crew {
            left: AtomicUsize::new(0),
            done: WaitQueue::new(),
        })
    }
    fn hire(
        self: &Arc<Self>,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> Arc<Thread> {
        self.left.fetch_add(1, Ordering::AcqRel);
        let crew = self.clone();
        sched::spawn_kernel(name, move || {
            work();
            if crew.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                crew.done.wake_all();
            }
        })
        .expect("thread")
    }
    fn wait(&self, what: &str, start: u64) {
        let deadline = now_ns() + 60 * time::NS_PER_SEC;
        let ended = self.done.wait_until_deadline(deadline, || {
            (self.left.load(Ordering::Acquire) == 0).then_some(())
        });
        if ended.is_err() {
            panic!(
                "stress: {what}: {} threads hang",
                self.left.load(Ordering::Acquire)
            );
        }
        info!("stress: {what}: {} us", (now_ns() - start) / 1000);
    }
}

/// A small generator: threads need not agree.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Runs every storm `rounds` times.
pub fn run(rounds: u32) {
    let before = sched::nr_threads();
    for round in 0..rounds {
        comings_and_goings();
        ping_pong();
        locks();
        queue();
        timers();
        migrations();
        interruptions();
        fairness();
        info!("stress: round {round} passed");
    }
    // The reaper needs a moment.
    let deadline = now_ns() + 10 * time::NS_PER_SEC;
    while sched::nr_threads() > before && now_ns() < deadline {
        let _ = sched::sleep_until(now_ns() + 10_000_000);
    }
    assert_eq!(sched::nr_threads(), before, "threads are left over");
    for cpu in 0..arch::nr_cpus() {
        info!("stress: CPU {cpu}: {:?}", sched::cpu_times(cpu));
    }
    info!(
        "stress: passed, {} switches, load {:?}",
        sched::context_switches(),
        sched::load_averages()
    );
}

/// Threads that start threads and end at once.
fn comings_and_goings() {
    let start = now_ns();
    let crew = Crew::new();
    for _ in 0..8 {
        let inner = crew.clone();
        crew.hire("parent", move || {
            for _ in 0..100 {
                inner.hire("child", || {});
            }
        });
    }
    crew.wait("800 threads come and go", start);
}

/// Pairs that wake each other in turn.
fn ping_pong() {
    struct Table {
        turn: AtomicU64,
        queue: WaitQueue,
    }
    let start = now_ns();
    let crew = Crew::new();
    for _ in 0..8 {
        let table = Arc::new(Table {
            turn: AtomicU64::new(0),
            queue: WaitQueue::new(),
        });
        for side in 0..2 {
            let table = table.clone();
            crew.hire("ping", move || {
                for _ in 0..500 {
                    table.queue.wait_until(|| {
                        (table.turn.load(Ordering::Acquire) % 2 == side).then_some(())
                    });
                    table.turn.fetch_add(1, Ordering::AcqRel);
                    table.queue.wake_one();
                }
            });
        }
    }
    crew.wait("8 pairs play ping-pong", start);
}

/// Mutex and RwLock under contention, with holders that sleep.
fn locks() {
    let start = now_ns();
    let crew = Crew::new();
    let mutex = Arc::new(Mutex::new((0u64, 0u64)));
    let rwlock = Arc::new(RwLock::new((0u64, 0u64)));
    for who in 0..12u64 {
        let (mutex, rwlock) = (mutex.clone(), rwlock.clone());
        crew.hire("lock", move || {
            let mut seed = 77 + who;
            for i in 0..300 {
                {
                    let mut m = mutex.lock();
                    m.0 += 1;
                    match random(&mut seed) % 16 {
                        0 => sched::yield_now(),
                        1 if i % 10 == 0 => {
                            let _ = sched::sleep_until(now_ns() + 50_000);
                        }
                        _ => {}
                    }
                    m.1 += 1;
                    assert_eq!(m.0, m.1);
                }
                if random(&mut seed).is_multiple_of(4) {
                    let mut w = rwlock.write();
                    w.0 += 1;
                    if random(&mut seed).is_multiple_of(8) {
                        sched::yield_now();
                    }
                    w.1 += 1;
                } else {
                    let r = rwlock.read();
                    if random(&mut seed).is_multiple_of(8) {
                        sched::yield_now();
                    }
                    assert_eq!(r.0, r.1);
                }
            }
        });
    }
    crew.wait("12 threads contend for locks", start);
    assert_eq!(mutex.lock().0, 12 * 300);
}

/// Producers and consumers over a short ring, with `wake_one`.
fn queue() {
    struct Ring {
        items: IrqLock<Vec<u64>>,
        room: WaitQueue,
        filled: WaitQueue,
    }
    const EACH: u64 = 600;
    let start = now_ns();
    let crew = Crew::new();
    let ring = Arc::new(Ring {
        items: IrqLock::new(Rank::Leaf, Vec::with_capacity(4)),
        room: WaitQueue::new(),
        filled: WaitQueue::new(),
    });
    let sum = Arc::new(AtomicU64::new(0));
    for who in 0..6u64 {
        let ring = ring.clone();
        if who % 2 == 0 {
            crew.hire("producer", move || {
                for i in 1..=EACH {
                    ring.room.wait_until(|| {
                        let mut items = ring.items.lock();
                        (items.len() < 4).then(|| items.push(i))
                    });
                    ring.filled.wake_one();
                }
            });
        } else {
            let sum = sum.clone();
            crew.hire("consumer", move || {
                for _ in 0..EACH {
                    let item = ring.filled.wait_until(|| ring.items.lock().pop());
                    sum.fetch_add(item, Ordering::Relaxed);
                    ring.room.wake_one();
                }
            });
        }
    }
    crew.wait("3 producers, 3 consumers", start);
    assert_eq!(sum.load(Ordering::Relaxed), 3 * EACH * (EACH + 1) / 2);
}

struct Alarm {
    fired: AtomicU64,
    early: AtomicBool,
    deadline: AtomicU64,
}
impl TimerCallback for Alarm {
    fn expired(&self, now: u64) {
        if now < self.deadline.load(Ordering::Relaxed) {
            self.early.store(true, Ordering::Relaxed);
        }
        self.fired.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sleeps of all lengths, timers armed, moved and cancelled.
fn timers() {
    let start = now_ns();
    let crew = Crew::new();
    let worst = Arc::new(AtomicU64::new(0));
    for who in 0..16u64 {
        let worst = worst.clone();
        crew.hire("sleeper", move || {
            let mut seed = 1234 + who;
            for _ in 0..40 {
                let until = now_ns() + random(&mut seed) % 3_000_000;
                sched::sleep_until(until).expect("nobody interrupts");
                let now = now_ns();
                assert!(now >= until);
                worst.fetch_max(now - until, Ordering::Relaxed);
            }
        });
        crew.hire("alarm", move || {
            let mut seed = 4321 + who;
            for _ in 0..60 {
                let alarm = Arc::new(Alarm {
                    fired: AtomicU64::new(0),
                    early: AtomicBool::new(false),
                    deadline: AtomicU64::new(0),
                });
                let timer = Timer::new(alarm.clone());
                timer.arm(now_ns() + 1_000_000_000);
                let deadline = now_ns() + random(&mut seed) % 200_000;
                alarm.deadline.store(deadline, Ordering::Relaxed);
                timer.arm(deadline);
                let cancelled = if random(&mut seed).is_multiple_of(2) {
                    timer.cancel()
                } else {
                    let _ = sched::sleep_until(deadline + 300_000);
                    false
                };
                // It fires on the CPU that armed it, which may be behind with its interrupts.
                let patience = now_ns() + time::NS_PER_SEC;
                while !cancelled && alarm.fired.load(Ordering::Relaxed) == 0 && now_ns() < patience
                {
                    sched::yield_now();
                }
                drop(timer);
                let fired = alarm.fired.load(Ordering::Relaxed);
                assert_eq!(fired, u64::from(!cancelled), "a timer fires once or never");
                assert!(!alarm.early.load(Ordering::Relaxed));
                assert_eq!(Arc::strong_count(&alarm), 1);
            }
        });
    }
    crew.wait("sleeps and timers", start);
    info!(
        "stress: the latest sleeper was {} us late",
        worst.load(Ordering::Relaxed) / 1000
    );
}

/// Threads whose affinity changes under their feet, by themselves and by others.
fn migrations() {
    let start = now_ns();
    let crew = Crew::new();
    let n = arch::nr_cpus() as u64;
    let victims: Vec<Arc<Thread>> = (0..6u64)
        .map(|who| {
            crew.hire("victim", move || {
                let mut seed = 99 + who;
                for i in 0..400u64 {
                    if random(&mut seed).is_multiple_of(4) {
                        let cpu = random(&mut seed) % n;
                        let _ = sched::current().set_affinity(1 << cpu);
                    }
                    match i % 8 {
                        0 => {
                            let _ = sched::sleep_until(now_ns() + 20_000);
                        }
                        1 | 2 => sched::yield_now(),
                        _ => core::hint::spin_loop(),
                    }
                }
                let _ = sched::current().set_affinity(arch::CpuMask::MAX);
            })
        })
        .collect();
    crew.hire("mover", move || {
        let mut seed = 5;
        for _ in 0..600 {
            let victim = &victims[random(&mut seed) as usize % victims.len()];
            let _ = victim.set_affinity(1 << (random(&mut seed) % n));
            if random(&mut seed).is_multiple_of(3) {
                victim.set_nice((random(&mut seed) % 40) as i8 - 20);
            }
            if random(&mut seed).is_multiple_of(8) {
                sched::yield_now();
            }
        }
        for victim in &victims {
            let _ = victim.set_affinity(arch::CpuMask::MAX);
            victim.set_nice(0);
        }
    });
    crew.wait("migrations", start);
}

/// Waits that end by interruption, by kill, by time and by their condition.
fn interruptions() {
    let start = now_ns();
    let crew = Crew::new();
    let queue = Arc::new(WaitQueue::new());
    let stop = Arc::new(AtomicBool::new(false));
    let sleepers: Vec<Arc<Thread>> = (0..6)
        .map(|who| {
            let (queue, stop) = (queue.clone(), stop.clone());
            crew.hire("waiter", move || {
                while !stop.load(Ordering::Acquire) {
                    let deadline = (who % 2 == 0).then(|| now_ns() + 400_000);
                    let end = queue.wait_interruptible(deadline, || {
                        stop.load(Ordering::Acquire).then_some(())
                    });
                    match end {
                        Err(WaitError::Interrupted) => sched::current().clear_interrupt(),
                        Err(WaitError::TimedOut) => assert!(deadline.is_some()),
                        Ok(()) => {}
                    }
                }
            })
        })
        .collect();
    let ready = queue.clone();
    crew.hire("nuisance", move || {
        let mut seed = 31;
        for _ in 0..2000 {
            match random(&mut seed) % 3 {
                0 => ready.wake_one(),
                1 => ready.wake_all(),
                _ => sleepers[random(&mut seed) as usize % sleepers.len()].interrupt(),
            }
        }
        stop.store(true, Ordering::Release);
        ready.wake_all();
    });
    let killed = crew.hire("doomed", || {
        let never = WaitQueue::new();
        assert_eq!(
            never.wait_killable(|| None::<()>),
            Err(WaitError::Interrupted)
        );
    });
    killed.interrupt();
    let _ = sched::sleep_until(now_ns() + 1_000_000);
    killed.kill();
    crew.wait("interruptions", start);
}

/// Hogs share the CPUs, and a sleeper is served in spite of them.
fn fairness() {
    let start = now_ns();
    let crew = Crew::new();
    let n = arch::nr_cpus();
    let end = start + 400_000_000;
    let hogs: Vec<Arc<Thread>> = (0..2 * n)
        .map(|_| {
            crew.hire("hog", move || {
                while now_ns() < end {
                    core::hint::spin_loop();
                }
            })
        })
        .collect();
    let worst = Arc::new(AtomicU64::new(0));
    let theirs = worst.clone();
    crew.hire("interactive", move || {
        while now_ns() < end {
            let until = now_ns() + 5_000_000;
            let _ = sched::sleep_until(until);
            theirs.fetch_max(now_ns() - until, Ordering::Relaxed);
        }
    });
    crew.wait("fairness", start);
    let times: Vec<u64> = hogs.iter().map(|t| t.runtime_ns() / 1_000_000).collect();
    info!(
        "stress: hogs ran {times:?} ms; a sleeper beside them was at most {} us late",
        worst.load(Ordering::Relaxed) / 1000
    );
    // A host that stops a CPU for long starves whoever waits there.
    if worst.load(Ordering::Relaxed) < 100_000_000 {
        assert!(times.iter().all(|&t| t > 0), "a thread starved");
    }
    drop(Box::new(hogs));
}
