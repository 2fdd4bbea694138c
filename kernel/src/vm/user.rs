//! User memory: the only code that follows a program's pointers.
//! (Skeleton: the vm owner fills in the two copies, with an exception table.)

use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::error::{Errno, Result};
use crate::mm::UserAddr;

/// Copies from the running thread's address space; faults pages in, may sleep.
/// EFAULT when any byte is not readable by the program (bytes before it may be copied).
pub fn copy_from_user(_dst: &mut [u8], _src: UserAddr) -> Result<()> {
    todo!()
}

/// Copies into the running thread's address space; faults pages in, breaks copy-on-write,
/// may sleep. EFAULT when any byte is not writable by the program.
pub fn copy_to_user(_dst: UserAddr, _src: &[u8]) -> Result<()> {
    todo!()
}

/// Reads a NUL-terminated string of at most `max` bytes, NUL not counted.
/// EFAULT, or `too_long` when no NUL comes within `max` bytes.
pub fn read_cstr(_src: UserAddr, _max: usize, _too_long: Errno) -> Result<Vec<u8>> {
    todo!()
}

/// Reads an aligned word of the running thread's memory in one load. EFAULT; EINVAL when not
/// aligned.
pub fn load_u32(_src: UserAddr) -> Result<u32> {
    todo!()
}

/// Atomically replaces an aligned word of the running thread's memory with `new` if it holds
/// `old`; returns what it held. Faults the page in for writing. EFAULT; EINVAL when not aligned.
pub fn compare_exchange_u32(_at: UserAddr, _old: u32, _new: u32) -> Result<u32> {
    todo!()
}

/// Types that are plain bytes: any bit pattern is valid, no padding matters.
///
/// # Safety
/// Every bit pattern of the type's size is a valid value, and the type has no padding that
/// could carry kernel bytes out (zero the value first where it has).
pub unsafe trait Pod: Copy + 'static {}

macro_rules! pod {
    ($($t:ty),* $(,)?) => {
        // SAFETY: integers, and C structures of integers; bindings are built zeroed.
        $(unsafe impl Pod for $t {})*
    };
}
pod!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);
use crate::abi;
pod!(
    abi::stat,
    abi::statx,
    abi::statfs64,
    abi::__kernel_timespec,
    abi::__kernel_old_timeval,
    abi::kernel_sigaction,
    abi::siginfo_t,
    abi::stack_t,
    abi::pollfd,
    abi::epoll_event,
    abi::iovec,
    abi::rlimit,
    abi::rlimit64,
    abi::rusage,
    abi::termios,
    abi::termios2,
    abi::winsize,
    abi::system::new_utsname,
    abi::timezone,
    abi::flock,
);
// SAFETY: an array of plain bytes is plain bytes.
unsafe impl<T: Pod, const N: usize> Pod for [T; N] {}

/// A program's pointer to a `T`.
#[derive(Debug)]
pub struct UserPtr<T> {
    addr: UserAddr,
    _type: PhantomData<*mut T>,
}

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserPtr<T> {}

impl<T: Pod> UserPtr<T> {
    /// The pointer a program passed.
    pub const fn new(addr: UserAddr) -> Self {
        Self {
            addr,
            _type: PhantomData,
        }
    }
    /// Its address.
    pub fn addr(self) -> UserAddr {
        self.addr
    }
    /// Whether it is NULL.
    pub fn is_null(self) -> bool {
        self.addr.0 == 0
    }
    /// `None` for NULL.
    pub fn non_null(self) -> Option<Self> {
        (!self.is_null()).then_some(self)
    }
    /// The pointer to element `index`. EFAULT on overflow.
    pub fn at(self, index: usize) -> Result<Self> {
        let bytes = index.checked_mul(size_of::<T>()).ok_or(Errno::EFAULT)?;
        Ok(Self::new(
            self.addr.checked_add(bytes as u64).ok_or(Errno::EFAULT)?,
        ))
    }
    /// Copies the value in. EFAULT.
    pub fn read(self) -> Result<T> {
        let mut value = core::mem::MaybeUninit::<T>::zeroed();
        // SAFETY: the slice covers the zeroed value exactly.
        let bytes = unsafe {
            core::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<T>())
        };
        copy_from_user(bytes, self.addr)?;
        // SAFETY: Pod: every bit pattern is valid.
        Ok(unsafe { value.assume_init() })
    }
    /// Copies the value out. EFAULT.
    pub fn write(self, value: T) -> Result<()> {
        // SAFETY: Pod: the value is plain initialised bytes.
        let bytes =
            unsafe { core::slice::from_raw_parts((&raw const value).cast::<u8>(), size_of::<T>()) };
        copy_to_user(self.addr, bytes)
    }
    /// Copies `count` values in. EFAULT; ENOMEM. The caller bounds `count`.
    pub fn read_vec(self, count: usize) -> Result<Vec<T>> {
        let mut out = Vec::new();
        out.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        for i in 0..count {
            out.push(self.at(i)?.read()?);
        }
        Ok(out)
    }
}
