//! Clocks and one-shot timers.
//!
//! Monotonic time comes from the machine's clock (TSC); wall time is an offset to it that
//! boot reads from the RTC and `clock_settime` changes. Timers live in per-CPU queues; the
//! local APIC is programmed for the earliest deadline only, so an idle CPU takes no ticks.
//!
//! Not responsible for the scheduler's ticks (`sched` arms timers of its own) nor for what a
//! process makes of timers (`syscall::time`).
//!
//! A timer is armed on the CPU of the caller and fires there, in interrupt context, with no
//! lock held. Lock order: `Rank::Timer`, alone.

#![cfg_attr(
    not(target_os = "none"),
    allow(
        dead_code,
        reason = "what interrupts drive is for the bare target only"
    )
)]

mod heap;

use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use crate::arch::{MAX_CPUS, cpu_id, vdso};
use crate::sync::{IrqLock, PerCpu, Rank, SpinLock, preempt_disable};
use heap::{HeapLinks, PairingHeap};

/// Nanoseconds per second.
pub const NS_PER_SEC: u64 = 1_000_000_000;

/// Monotonic nanoseconds since boot.
#[inline]
pub fn now_ns() -> u64 {
    #[cfg(target_os = "none")]
    {
        crate::arch::clock::now_ns()
    }
    #[cfg(all(not(target_os = "none"), test))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START
            .get_or_init(std::time::Instant::now)
            .elapsed()
            .as_nanos() as u64
    }
    #[cfg(all(not(target_os = "none"), not(test)))]
    crate::arch::tsc()
}

/// Wall clock minus monotonic clock, in nanoseconds.
static REALTIME_OFFSET: AtomicI64 = AtomicI64::new(0);

/// Wall clock: nanoseconds since 1970-01-01 UTC.
#[inline]
pub fn realtime_ns() -> u64 {
    now_ns().wrapping_add_signed(REALTIME_OFFSET.load(Ordering::Relaxed))
}

/// Wall clock minus monotonic clock: turns a wall-clock deadline into a monotonic one.
pub fn realtime_offset_ns() -> i64 {
    REALTIME_OFFSET.load(Ordering::Relaxed)
}

/// Counts changes of the wall clock, for sleeps and timers with wall-clock deadlines.
static REALTIME_CHANGES: AtomicU64 = AtomicU64::new(0);

/// Sets the wall clock. Sleepers with wall-clock deadlines are not moved by this call.
pub fn set_realtime_ns(ns: u64) {
    // Under a lock, so that programs and the kernel end with the same of two settings.
    static SETTING: SpinLock<()> = SpinLock::new(Rank::Leaf, ());
    let setting = SETTING.lock();
    let offset = ns.wrapping_sub(now_ns()) as i64;
    REALTIME_OFFSET.store(offset, Ordering::Relaxed);
    vdso::set_wall_offset(offset);
    drop(setting);
    REALTIME_CHANGES.fetch_add(1, Ordering::Release);
}

/// How often the wall clock was set (timerfd's TFD_TIMER_CANCEL_ON_SET).
pub fn realtime_changes() -> u64 {
    REALTIME_CHANGES.load(Ordering::Acquire)
}

/// What runs when a timer's deadline passes: in interrupt context, must not sleep.
pub trait TimerCallback: Send + Sync {
    /// `now` is monotonic nanoseconds.
    fn expired(&self, now: u64);
}

enum Callback {
    /// Of a [`Timer`]: the node is in an `Arc`, kept alive while the callback runs.
    Shared(Arc<dyn TimerCallback>),
    /// Of a [`BorrowedTimer`]: outlives the node, which waits for it when dropped.
    Borrowed(NonNull<dyn TimerCallback>),
}

/// A timer as the queues see it.
#[repr(C)]
struct Node {
    /// Guarded by the lock of the queue that `queue` names.
    links: HeapLinks,
    /// 1 + the CPU whose queue it is on, 0 for none. Leaves 0 under the new queue's lock and
    /// returns to 0 under the same.
    queue: AtomicUsize,
    /// CPUs that run its callback now. The last thing a firing CPU touches.
    running: AtomicU64,
    callback: Callback,
}

// SAFETY: `links` is guarded by queue locks, the rest is atomic or constant; a borrowed
// callback is Sync (trait bound) and outlives the node.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

struct Queue {
    heap: PairingHeap,
}

static QUEUES: PerCpu<IrqLock<Queue>> = PerCpu::new(
    [const {
        IrqLock::new(
            Rank::Timer,
            Queue {
                heap: PairingHeap::new(),
            },
        )
    }; MAX_CPUS],
);

/// Set once timers work on the booting CPU, for code that runs before.
static READY: AtomicBool = AtomicBool::new(false);

fn program(deadline: Option<u64>) {
    #[cfg(target_os = "none")]
    crate::arch::clock::set_oneshot(deadline);
    #[cfg(not(target_os = "none"))]
    let _ = deadline;
}

impl Node {
    const fn new(callback: Callback) -> Self {
        Self {
            links: HeapLinks::new(),
            queue: AtomicUsize::new(0),
            running: AtomicU64::new(0),
            callback,
        }
    }

    /// Arms on this CPU.
    ///
    /// # Safety
    /// The node stays at its place, alive, until `cancel` returned or it fired.
    unsafe fn arm(&self, deadline: u64) {
        let preempt = preempt_disable();
        loop {
            self.remove();
            let cpu = cpu_id();
            let mut queue = QUEUES.this(&preempt).lock();
            if self
                .queue
                .compare_exchange(0, cpu + 1, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
            {
                // Somebody armed it at the same time: the later call wins.
                continue;
            }
            let links = NonNull::from(self).cast::<HeapLinks>();
            // SAFETY: on no heap (`queue` was 0, and only we took it); lives (contract).
            unsafe { queue.heap.insert(links, deadline) };
            if queue.heap.peek() == Some(links) {
                program(Some(deadline));
            }
            return;
        }
    }

    /// Takes the node off its queue; whether it was on one.
    fn remove(&self) -> bool {
        loop {
            let at = self.queue.load(Ordering::Acquire);
            let Some(queue) = at.checked_sub(1).and_then(|cpu| QUEUES.of(cpu)) else {
                return false;
            };
            let mut queue = queue.lock();
            if self.queue.load(Ordering::Relaxed) == at {
                // SAFETY: `queue` names the heap it is on, and its lock is held.
                unsafe { queue.heap.remove(NonNull::from(self).cast::<HeapLinks>()) };
                self.queue.store(0, Ordering::Release);
                return true;
            }
        }
    }

    fn cancel(&self) -> bool {
        let was_armed = self.remove();
        let _preempt = preempt_disable();
        // A callback that cancels its own timer must not wait for itself.
        let me = 1u64 << cpu_id();
        while self.running.load(Ordering::Acquire) & !me != 0 {
            core::hint::spin_loop();
        }
        was_armed
    }

    fn armed(&self) -> bool {
        self.queue.load(Ordering::Acquire) != 0
    }
}

/// Runs what is due on this CPU and programs the next deadline. Called by the timer
/// interrupt, interrupts off.
pub fn on_interrupt() {
    let preempt = preempt_disable();
    let me = 1u64 << cpu_id();
    loop {
        let mut queue = QUEUES.this(&preempt).lock();
        let now = now_ns();
        let first = queue.heap.peek();
        let due = match (first, queue.heap.min_key()) {
            (Some(first), Some(deadline)) if deadline <= now => first,
            (_, next) => {
                program(next);
                return;
            }
        };
        // SAFETY: on the heap, so alive; every member is the first field of a `Node`.
        let node = unsafe {
            queue.heap.remove(due);
            due.cast::<Node>().as_ref()
        };
        node.running.fetch_or(me, Ordering::AcqRel);
        node.queue.store(0, Ordering::Release);
        match &node.callback {
            Callback::Shared(callback) => {
                let callback = callback.clone();
                let raw: *const Node = node;
                // SAFETY: a shared node lives in an Arc; it is alive now, because its owner
                // would have to take it off the queue, under this lock, before the last
                // reference goes. The count taken here is given back below.
                let hold = unsafe {
                    Arc::increment_strong_count(raw);
                    Arc::from_raw(raw)
                };
                drop(queue);
                callback.expired(now);
                hold.running.fetch_and(!me, Ordering::AcqRel);
            }
            Callback::Borrowed(callback) => {
                let callback = *callback;
                drop(queue);
                // SAFETY: outlives the node, and the node's owner waits for `running`.
                unsafe { callback.as_ref() }.expired(now);
                node.running.fetch_and(!me, Ordering::AcqRel);
            }
        }
    }
}

/// A one-shot timer; re-arming moves it, dropping cancels it.
pub struct Timer {
    node: Arc<Node>,
}

impl Timer {
    /// A disarmed timer that will call `callback`.
    pub fn new(callback: Arc<dyn TimerCallback>) -> Timer {
        Timer {
            node: Arc::new(Node::new(Callback::Shared(callback))),
        }
    }
    /// Arms for `deadline` (monotonic ns); replaces an earlier deadline.
    pub fn arm(&self, deadline: u64) {
        // SAFETY: in an Arc, and `drop` cancels before the last reference goes.
        unsafe { self.node.arm(deadline) };
    }
    /// Disarms; true if it was armed and had not fired. On return the callback is not
    /// running on another CPU. Not while holding a lock that the callback takes.
    pub fn cancel(&self) -> bool {
        self.node.cancel()
    }
    /// Whether it is armed and has not fired.
    pub fn armed(&self) -> bool {
        self.node.armed()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.node.cancel();
    }
}

/// A timer on the stack (or in a static) that borrows its callback: for waits, which must
/// not allocate. Dropping cancels it and waits for a running callback.
pub(crate) struct BorrowedTimer<'a> {
    node: Node,
    _callback: core::marker::PhantomData<&'a dyn TimerCallback>,
    _pin: core::marker::PhantomPinned,
}

impl<'a> BorrowedTimer<'a> {
    /// A disarmed timer that will call `callback`.
    pub fn new(callback: &'a (dyn TimerCallback + 'a)) -> Self {
        let raw: NonNull<dyn TimerCallback + 'a> = NonNull::from(callback);
        // SAFETY: only the lifetime is changed; `_callback` keeps it for the borrow checker,
        // and the node is off every queue and idle before `self` is gone.
        let raw = unsafe {
            core::mem::transmute::<NonNull<dyn TimerCallback + 'a>, NonNull<dyn TimerCallback>>(raw)
        };
        Self {
            node: Node::new(Callback::Borrowed(raw)),
            _callback: core::marker::PhantomData,
            _pin: core::marker::PhantomPinned,
        }
    }
    /// Arms for `deadline` (monotonic ns).
    pub fn arm(self: core::pin::Pin<&Self>, deadline: u64) {
        // SAFETY: pinned, and `drop` cancels.
        unsafe { self.get_ref().node.arm(deadline) };
    }
}

impl Drop for BorrowedTimer<'_> {
    fn drop(&mut self) {
        self.node.cancel();
    }
}

/// A timer in a static, with a callback in a static.
pub(crate) struct StaticTimer {
    node: Node,
}

impl StaticTimer {
    /// A disarmed timer that will call `callback`.
    pub const fn new(callback: &'static dyn TimerCallback) -> Self {
        Self {
            node: Node::new(Callback::Borrowed(NonNull::from_ref(callback))),
        }
    }
    /// Arms for `deadline` (monotonic ns); replaces an earlier deadline.
    pub fn arm(&'static self, deadline: u64) {
        // SAFETY: a static stays.
        unsafe { self.node.arm(deadline) };
    }
}

/// Says that the clock and the timer interrupt of the booting CPU work.
pub fn set_ready() {
    READY.store(true, Ordering::Release);
}

/// Whether timers fire yet.
pub fn is_ready() -> bool {
    READY.load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_is_an_offset() {
        set_realtime_ns(1_700_000_000 * NS_PER_SEC);
        let a = realtime_ns();
        assert!((1_700_000_000 * NS_PER_SEC..1_700_000_100 * NS_PER_SEC).contains(&a));
        assert!(realtime_changes() > 0);
    }

    struct Count(AtomicUsize);
    impl TimerCallback for Count {
        fn expired(&self, _now: u64) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn timers_fire_once_and_cancel() {
        // The host has one queue and no interrupt: the test plays it.
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let fired = || count.0.load(Ordering::Relaxed);
        let a = Timer::new(count.clone());
        let b = Timer::new(count.clone());
        a.arm(0);
        b.arm(u64::MAX);
        on_interrupt();
        assert_eq!(fired(), 1);
        assert!(!a.armed() && b.armed());
        assert!(!a.cancel());
        assert!(b.cancel());
        b.arm(0);
        b.arm(u64::MAX);
        on_interrupt();
        assert_eq!(fired(), 1);
        drop(b);
        let local = Count(AtomicUsize::new(0));
        {
            let t = core::pin::pin!(BorrowedTimer::new(&local));
            t.as_ref().arm(0);
        }
        on_interrupt();
        assert_eq!(local.0.load(Ordering::Relaxed), 0);
    }
}
