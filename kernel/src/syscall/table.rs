//! The one table of system calls. Each row: number, handler, typed arguments.
//!
//! ```text
//! __NR_read "read" = file::read [] (fd: i32, buf: UserAddr, count: usize);
//! __NR_fork "fork" = process::fork [args] ();
//! ```
//! `[args]` passes the whole [`Args`](super::Args) first, for calls that need the trap frame.
//! The dispatcher, the tracer's names and `docs/syscalls.md` come from here.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{Row, file, memory, net, poll};
use crate::abi;
use crate::mm::UserAddr;
use crate::vm::UserPtr;

macro_rules! table {
    ($($nr:ident $name:literal = $handler:path [$($arg:ident),*] ($($param:ident: $t:ty),*);)*) => {
        /// All calls, in the order written.
        pub static ROWS: &[Row] = &[$(Row {
            nr: crate::abi::$nr as usize,
            name: $name,
            params: stringify!($($param: $t),*),
            call: |args| {
                #[allow(unused_mut, unused_variables, reason = "calls without arguments")]
                let mut n = 0;
                #[allow(unused_assignments, reason = "the last one")]
                { $handler($(table!(@whole args $arg),)* $({
                    let value = <$t as super::FromArg>::from_arg(args.raw(n));
                    n += 1;
                    value
                }),*) }
            },
        }),*];
    };
    (@whole $args:ident args) => { $args };
}

table! {
    // ---- file (descriptors, I/O, polling) ----
    __NR_read "read" = file::read [] (fd: i32, buf: UserAddr, count: usize);
    __NR_write "write" = file::write [] (fd: i32, buf: UserAddr, count: usize);
    __NR_readv "readv" = file::readv [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize);
    __NR_writev "writev" = file::writev [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize);
    __NR_pread64 "pread64" = file::pread64 [] (fd: i32, buf: UserAddr, count: usize, pos: i64);
    __NR_pwrite64 "pwrite64" = file::pwrite64 [] (fd: i32, buf: UserAddr, count: usize, pos: i64);
    __NR_preadv "preadv" = file::preadv [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize, pos: i64);
    __NR_pwritev "pwritev" = file::pwritev [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize, pos: i64);
    __NR_preadv2 "preadv2" = file::preadv2 [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize, pos: i64, pos_high: u64, flags: u32);
    __NR_pwritev2 "pwritev2" = file::pwritev2 [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize, pos: i64, pos_high: u64, flags: u32);
    __NR_lseek "lseek" = file::lseek [] (fd: i32, offset: i64, whence: u32);
    __NR_close "close" = file::close [] (fd: i32);
    __NR_close_range "close_range" = file::close_range [] (first: u32, last: u32, flags: u32);
    __NR_dup "dup" = file::dup [] (fd: i32);
    __NR_dup2 "dup2" = file::dup2 [] (old: i32, new: i32);
    __NR_dup3 "dup3" = file::dup3 [] (old: i32, new: i32, flags: u32);
    __NR_pipe "pipe" = file::pipe [] (fds: UserPtr<[i32; 2]>);
    __NR_pipe2 "pipe2" = file::pipe2 [] (fds: UserPtr<[i32; 2]>, flags: u32);
    __NR_fcntl "fcntl" = file::fcntl [] (fd: i32, cmd: u32, arg: u64);
    __NR_flock "flock" = file::flock [] (fd: i32, operation: u32);
    __NR_ioctl "ioctl" = file::ioctl [] (fd: i32, cmd: u32, arg: u64);
    __NR_fsync "fsync" = file::fsync [] (fd: i32);
    __NR_fdatasync "fdatasync" = file::fdatasync [] (fd: i32);
    __NR_ftruncate "ftruncate" = file::ftruncate [] (fd: i32, len: i64);
    __NR_sendfile "sendfile" = file::sendfile [] (out: i32, input: i32, offset: UserPtr<i64>, count: usize);
    __NR_copy_file_range "copy_file_range" = file::copy_file_range [] (input: i32, in_offset: UserPtr<i64>, output: i32, out_offset: UserPtr<i64>, count: usize, flags: u32);
    __NR_eventfd "eventfd" = file::eventfd [] (initial: u32);
    __NR_eventfd2 "eventfd2" = file::eventfd2 [] (initial: u32, flags: u32);
    __NR_timerfd_create "timerfd_create" = file::timerfd_create [] (clock: u32, flags: u32);
    __NR_timerfd_settime "timerfd_settime" = file::timerfd_settime [] (fd: i32, flags: u32, new: UserPtr<[i64; 4]>, old: UserPtr<[i64; 4]>);
    __NR_timerfd_gettime "timerfd_gettime" = file::timerfd_gettime [] (fd: i32, out: UserPtr<[i64; 4]>);
    __NR_poll "poll" = poll::poll [] (fds: UserPtr<abi::pollfd>, count: u32, timeout_ms: i32);
    __NR_ppoll "ppoll" = poll::ppoll [] (fds: UserPtr<abi::pollfd>, count: u32, timeout: UserPtr<[i64; 2]>, mask: UserPtr<u64>, size: usize);
    __NR_select "select" = poll::select [] (n: i32, read: UserPtr<u64>, write: UserPtr<u64>, except: UserPtr<u64>, timeout: UserPtr<[i64; 2]>);
    __NR_pselect6 "pselect6" = poll::pselect6 [] (n: i32, read: UserPtr<u64>, write: UserPtr<u64>, except: UserPtr<u64>, timeout: UserPtr<[i64; 2]>, mask: UserPtr<[u64; 2]>);
    __NR_epoll_create "epoll_create" = poll::epoll_create [] (size: i32);
    __NR_epoll_create1 "epoll_create1" = poll::epoll_create1 [] (flags: u32);
    __NR_epoll_ctl "epoll_ctl" = poll::epoll_ctl [] (epfd: i32, op: u32, fd: i32, event: UserPtr<abi::epoll_event>);
    __NR_epoll_wait "epoll_wait" = poll::epoll_wait [] (epfd: i32, events: UserPtr<abi::epoll_event>, max: i32, timeout_ms: i32);
    __NR_epoll_pwait "epoll_pwait" = poll::epoll_pwait [] (epfd: i32, events: UserPtr<abi::epoll_event>, max: i32, timeout_ms: i32, mask: UserPtr<u64>, size: usize);
    __NR_epoll_pwait2 "epoll_pwait2" = poll::epoll_pwait2 [] (epfd: i32, events: UserPtr<abi::epoll_event>, max: i32, timeout: UserPtr<[i64; 2]>, mask: UserPtr<u64>, size: usize);
    // ---- net ----
    __NR_socket "socket" = net::socket [] (family: u32, kind: u32, protocol: u32);
    __NR_socketpair "socketpair" = net::socketpair [] (family: u32, kind: u32, protocol: u32, fds: UserPtr<[i32; 2]>);
    __NR_sendto "sendto" = net::sendto [] (fd: i32, buf: UserAddr, len: usize, flags: u32, address: UserAddr, address_len: u32);
    __NR_recvfrom "recvfrom" = net::recvfrom [] (fd: i32, buf: UserAddr, len: usize, flags: u32, address: UserAddr, address_len: UserPtr<u32>);
    __NR_sendmsg "sendmsg" = net::sendmsg [] (fd: i32, message: UserPtr<[u64; 7]>, flags: u32);
    __NR_recvmsg "recvmsg" = net::recvmsg [] (fd: i32, message: UserPtr<[u64; 7]>, flags: u32);
    __NR_shutdown "shutdown" = net::shutdown [] (fd: i32, how: u32);
    __NR_getsockopt "getsockopt" = net::getsockopt [] (fd: i32, level: u32, option: u32, value: UserAddr, len: UserPtr<u32>);
    __NR_setsockopt "setsockopt" = net::setsockopt [] (fd: i32, level: u32, option: u32, value: UserAddr, len: u32);
    __NR_getsockname "getsockname" = net::getsockname [] (fd: i32, address: UserAddr, len: UserPtr<u32>);
    __NR_getpeername "getpeername" = net::getpeername [] (fd: i32, address: UserAddr, len: UserPtr<u32>);
    // ---- fs (paths, directories, mounts) ----
    // ---- memory ----
    __NR_mmap "mmap" = memory::mmap [] (addr: UserAddr, len: usize, prot: u32, flags: u32, fd: i32, offset: u64);
    __NR_munmap "munmap" = memory::munmap [] (addr: UserAddr, len: usize);
    __NR_mprotect "mprotect" = memory::mprotect [] (addr: UserAddr, len: usize, prot: u32);
    __NR_mremap "mremap" = memory::mremap [] (old: UserAddr, old_len: usize, new_len: usize, flags: u32, new: UserAddr);
    __NR_brk "brk" = memory::brk [] (want: UserAddr);
    __NR_madvise "madvise" = memory::madvise [] (addr: UserAddr, len: usize, advice: u32);
    __NR_msync "msync" = memory::msync [] (addr: UserAddr, len: usize, flags: u32);
    __NR_mincore "mincore" = memory::mincore [] (addr: UserAddr, len: usize, vec: UserAddr);
    __NR_mlock "mlock" = memory::mlock [] (addr: UserAddr, len: usize);
    __NR_mlock2 "mlock2" = memory::mlock2 [] (addr: UserAddr, len: usize, flags: u32);
    __NR_munlock "munlock" = memory::munlock [] (addr: UserAddr, len: usize);
    __NR_mlockall "mlockall" = memory::mlockall [] (flags: u32);
    __NR_munlockall "munlockall" = memory::munlockall [] ();
    __NR_membarrier "membarrier" = memory::membarrier [] (command: u32, flags: u32, cpu: i32);
    // ---- process ----
    // ---- signal ----
    // ---- time ----
    // ---- system ----
}

/// Calls above this number do not exist yet in Linux either.
const NR_MAX: usize = 512;

/// Row index by call number, built at compile time; `u16::MAX` for none.
static INDEX: [u16; NR_MAX] = {
    let mut index = [u16::MAX; NR_MAX];
    let mut i = 0;
    while i < ROWS.len() {
        assert!(
            index[ROWS[i].nr] == u16::MAX,
            "a system call stands in the table twice"
        );
        index[ROWS[i].nr] = i as u16;
        i += 1;
    }
    index
};

/// The row of call `nr`.
pub fn find(nr: usize) -> Option<&'static Row> {
    let i = *INDEX.get(nr)?;
    ROWS.get(i as usize)
}

static NOTED: [AtomicU64; NR_MAX / 64] = [const { AtomicU64::new(0) }; NR_MAX / 64];

/// Logs an unknown call once.
pub fn note_unknown(nr: usize) {
    let Some(word) = NOTED.get(nr / 64) else {
        return;
    };
    if word.fetch_or(1 << (nr % 64), Ordering::Relaxed) & (1 << (nr % 64)) == 0 {
        warn!("system call {nr} is not implemented (ENOSYS)");
    }
}
