//! The running thread: finding it, starting and ending kernel threads.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use super::Thread;
use crate::error::Result;

/// The running thread. Not `Send`: it is only true on this CPU's stack.
pub struct Current {
    /// Borrowed from the scheduler, which keeps a running thread alive.
    thread: ManuallyDrop<Arc<Thread>>,
    _not_send: PhantomData<*mut ()>,
}

impl core::ops::Deref for Current {
    type Target = Arc<Thread>;
    #[inline]
    fn deref(&self) -> &Arc<Thread> {
        &self.thread
    }
}

/// The running thread.
#[inline]
pub fn current() -> Current {
    // SAFETY: the pointer came from an Arc that the scheduler holds while the thread runs;
    // it is not dropped here.
    let thread = unsafe { ManuallyDrop::new(Arc::from_raw(crate::sched::current_ptr())) };
    Current {
        thread,
        _not_send: PhantomData,
    }
}

/// A stand-in for host tests, which run on threads of the host.
#[cfg(not(target_os = "none"))]
pub(in crate::sched) fn host_thread() -> *const Thread {
    use core::sync::atomic::{AtomicPtr, Ordering};
    static HOST: AtomicPtr<Thread> = AtomicPtr::new(core::ptr::null_mut());
    let known = HOST.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    let fresh = Arc::into_raw(Arc::new(Thread::blank("host".into(), None, None))).cast_mut();
    match HOST.compare_exchange(
        core::ptr::null_mut(),
        fresh,
        Ordering::AcqRel,
        Ordering::Acquire,
    ) {
        Ok(_) => fresh,
        // The other one stays; this one is lost, once.
        Err(other) => other,
    }
}

/// Starts a kernel thread.
pub fn spawn_kernel(
    name: impl Into<Cow<'static, str>>,
    entry: impl FnOnce() + Send + 'static,
) -> Result<Arc<Thread>> {
    let thread = Thread::new(name, None, None, Box::new(entry))?;
    thread.start();
    Ok(thread)
}

/// Ends the running thread. Its stack is freed once it is off it.
pub fn exit_current() -> ! {
    #[cfg(target_os = "none")]
    {
        current().replace_space(None);
        crate::sched::runqueue::switch::exit()
    }
    #[cfg(not(target_os = "none"))]
    unreachable!("no thread of ours on the host")
}
