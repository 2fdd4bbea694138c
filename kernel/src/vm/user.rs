//! User memory: the only code that follows a program's pointers.
//!
//! Every copy checks first that the whole range lies in the user half, then runs a routine of
//! [`arch::user_copy`](crate::arch::user_copy) that survives faults: the page-fault handler
//! makes the page present, or continues at [`fixup`]'s address and the copy ends early. All of
//! this may sleep, so no spin lock is held by the caller.

use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::arch::{fpu, user_copy, user_fpu};
use crate::error::{Errno, Result};
use crate::mm::addr::USER_END;
use crate::mm::{PAGE_SIZE, UserAddr};

pub use crate::arch::recovery::{fixup, refused};

/// Whether `[addr, addr + len)` lies in the user half. It need not be mapped.
pub fn is_user_range(addr: UserAddr, len: usize) -> bool {
    addr.0
        .checked_add(len as u64)
        .is_some_and(|end| end <= USER_END)
}

/// EFAULT unless `[addr, addr + len)` lies in the user half.
pub fn check_range(addr: UserAddr, len: usize) -> Result<()> {
    is_user_range(addr, len).then_some(()).ok_or(Errno::EFAULT)
}

/// Copies up to `len` bytes in; returns how many came over before the first byte that the
/// program may not read. EFAULT when not even one did, or the range leaves the user half.
///
/// # Safety
/// `dst` is valid for writes of `len` bytes. Other CPUs may look at them meanwhile (a page
/// of the page cache): the caller makes no reference to them.
pub unsafe fn copy_in(dst: *mut u8, src: UserAddr, len: usize) -> Result<usize> {
    check_range(src, len)?;
    // SAFETY: the range was checked; `dst` is the caller's.
    let left = unsafe { user_copy::copy(dst, src.0 as *const u8, len) };
    if left == len && len > 0 {
        return Err(Errno::EFAULT);
    }
    Ok(len - left)
}

/// Copies up to `len` bytes out; returns how many went over before the first byte that the
/// program may not write. EFAULT when not even one did, or the range leaves the user half.
///
/// # Safety
/// `src` is valid for reads of `len` bytes; as [`copy_in`].
pub unsafe fn copy_out(dst: UserAddr, src: *const u8, len: usize) -> Result<usize> {
    check_range(dst, len)?;
    // SAFETY: the range was checked; `src` is the caller's.
    let left = unsafe { user_copy::copy(dst.0 as *mut u8, src, len) };
    if left == len && len > 0 {
        return Err(Errno::EFAULT);
    }
    Ok(len - left)
}

/// Copies from the running thread's address space; faults pages in, may sleep.
/// EFAULT when any byte is not readable by the program (bytes before it may be copied).
pub fn copy_from_user(dst: &mut [u8], src: UserAddr) -> Result<()> {
    // SAFETY: the slice is exclusively ours.
    let n = unsafe { copy_in(dst.as_mut_ptr(), src, dst.len()) }?;
    (n == dst.len()).then_some(()).ok_or(Errno::EFAULT)
}

/// Copies into the running thread's address space; faults pages in, breaks copy-on-write,
/// may sleep. EFAULT when any byte is not writable by the program.
pub fn copy_to_user(dst: UserAddr, src: &[u8]) -> Result<()> {
    // SAFETY: the slice is readable.
    let n = unsafe { copy_out(dst, src.as_ptr(), src.len()) }?;
    (n == src.len()).then_some(()).ok_or(Errno::EFAULT)
}

/// Saves the running thread's FPU registers at `dst`, with `software` in the bytes that the
/// format leaves to software; an XSAVE image is followed by the word `end`
/// ([`user_fpu::save`]). Faults as [`copy_to_user`]. EFAULT, also when `dst` is not aligned to 64.
pub fn save_fpu(dst: UserAddr, software: &[u64; 6], end: u32) -> Result<()> {
    check_range(dst, fpu::area_bytes() + size_of_val(&end))?;
    if !dst.0.is_multiple_of(64) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: aligned, and the range was checked.
    let saved = unsafe { user_fpu::save(dst.0 as *mut u8, software, end) };
    saved.then_some(()).ok_or(Errno::EFAULT)
}

/// Loads the running thread's FPU registers from `src` ([`user_fpu::load`]): the `components`
/// of an XSAVE image, or with `None` an FXSAVE image. EFAULT, also when the CPU refuses what is
/// there; the registers are then anything.
pub fn load_fpu(src: UserAddr, components: Option<u64>) -> Result<()> {
    if components.is_some() && fpu::xfeatures() == 0 {
        return Err(Errno::EFAULT);
    }
    check_range(src, fpu::area_bytes())?;
    // SAFETY: the range was checked, and the CPU has XSAVE where it is used.
    let loaded = unsafe { user_fpu::load(src.0 as *const u8, components) };
    loaded.then_some(()).ok_or(Errno::EFAULT)
}

fn check_word(addr: UserAddr) -> Result<()> {
    if !addr.0.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    check_range(addr, 4)
}

/// Loads an aligned word in one access (futexes). EINVAL when not aligned; EFAULT.
pub fn load_u32(addr: UserAddr) -> Result<u32> {
    check_word(addr)?;
    // SAFETY: aligned and in the user half.
    unsafe { user_copy::load32(addr.0 as *const u32) }.ok_or(Errno::EFAULT)
}

/// Stores `new` into an aligned word if it holds `expected`, atomically with respect to the
/// program's own accesses; returns what it held. EINVAL when not aligned; EFAULT.
pub fn compare_exchange_u32(addr: UserAddr, expected: u32, new: u32) -> Result<u32> {
    check_word(addr)?;
    // SAFETY: aligned and in the user half.
    unsafe { user_copy::cmpxchg32(addr.0 as *mut u32, expected, new) }.ok_or(Errno::EFAULT)
}

/// Reads a NUL-terminated string of at most `max` bytes, NUL not counted.
/// EFAULT, or `too_long` when no NUL comes within `max` bytes.
pub fn read_cstr(src: UserAddr, max: usize, too_long: Errno) -> Result<Vec<u8>> {
    /// Most strings are short paths; a piece never crosses a page, so that a string that ends
    /// just before an unmapped page is read whole.
    const PIECE: usize = 128;
    let mut out = Vec::new();
    let mut at = src;
    loop {
        let room = PAGE_SIZE - at.page_offset();
        // One byte more than `max`: the NUL may stand there.
        let n = PIECE.min(room).min(max + 1 - out.len());
        let start = out.len();
        out.try_reserve(n).map_err(|_| Errno::ENOMEM)?;
        out.resize(start + n, 0);
        copy_from_user(&mut out[start..], at)?;
        if let Some(end) = out[start..].iter().position(|&b| b == 0) {
            out.truncate(start + end);
            return Ok(out);
        }
        if out.len() > max {
            return Err(too_long);
        }
        at = at.checked_add(n as u64).ok_or(Errno::EFAULT)?;
    }
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
        let mut value = core::mem::MaybeUninit::<T>::uninit();
        // SAFETY: the value is as long.
        let n = unsafe { copy_in(value.as_mut_ptr().cast(), self.addr, size_of::<T>()) }?;
        if n != size_of::<T>() {
            return Err(Errno::EFAULT);
        }
        // SAFETY: Pod: every bit pattern is valid, and all bytes were written.
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
        let mut out: Vec<T> = Vec::new();
        out.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Errno::EFAULT)?;
        // SAFETY: `count` values were reserved.
        let n = unsafe { copy_in(out.as_mut_ptr().cast::<u8>(), self.addr, bytes) }?;
        if n != bytes {
            return Err(Errno::EFAULT);
        }
        // SAFETY: Pod: every bit pattern is valid, and all bytes were written.
        unsafe { out.set_len(count) };
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_outside_the_user_half_are_refused() {
        assert!(is_user_range(UserAddr(0), 0));
        assert!(is_user_range(UserAddr(USER_END - 1), 1));
        assert!(!is_user_range(UserAddr(USER_END - 1), 2));
        assert!(!is_user_range(UserAddr(USER_END), 1));
        assert!(!is_user_range(UserAddr(u64::MAX), 2));
        assert!(!is_user_range(UserAddr(0x1000), usize::MAX));
        assert!(!is_user_range(UserAddr(0xffff_8000_0000_0000), 8));
        assert_eq!(load_u32(UserAddr(0x1001)), Err(Errno::EINVAL));
    }
}
