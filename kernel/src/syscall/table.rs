//! The one table of system calls. Each row: number, handler, typed arguments.
//!
//! ```text
//! __NR_read "read" = file::io::read [] (fd: i32, buf: UserAddr, count: usize);
//! __NR_fork "fork" = process::fork [args] ();
//! ```
//! `[args]` passes the whole [`Args`](super::Args) first, for calls that need the trap frame.
//! The dispatcher, the tracer's names and `docs/syscalls.md` come from here.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{
    Row, cred, file, fs, futex, memory, net, poll, prctl, process, remote, sched, signal, system,
    time, timer,
};
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
                let _ = args;
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
    __NR_read "read" = file::io::read [] (fd: i32, buf: UserAddr, count: usize);
    __NR_write "write" = file::io::write [] (fd: i32, buf: UserAddr, count: usize);
    __NR_readv "readv" = file::io::readv [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize);
    __NR_writev "writev" = file::io::writev [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize);
    __NR_pread64 "pread64" = file::io::pread64 [] (fd: i32, buf: UserAddr, count: usize, pos: i64);
    __NR_pwrite64 "pwrite64" = file::io::pwrite64 [] (fd: i32, buf: UserAddr, count: usize, pos: i64);
    __NR_preadv "preadv" = file::io::preadv [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize, pos: i64);
    __NR_pwritev "pwritev" = file::io::pwritev [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize, pos: i64);
    __NR_preadv2 "preadv2" = file::io::preadv2 [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize, pos: i64, pos_high: u64, flags: u32);
    __NR_pwritev2 "pwritev2" = file::io::pwritev2 [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize, pos: i64, pos_high: u64, flags: u32);
    __NR_lseek "lseek" = file::io::lseek [] (fd: i32, offset: i64, whence: u32);
    __NR_close "close" = file::descriptors::close [] (fd: i32);
    __NR_close_range "close_range" = file::descriptors::close_range [] (first: u32, last: u32, flags: u32);
    __NR_dup "dup" = file::descriptors::dup [] (fd: i32);
    __NR_dup2 "dup2" = file::descriptors::dup2 [] (old: i32, new: i32);
    __NR_dup3 "dup3" = file::descriptors::dup3 [] (old: i32, new: i32, flags: u32);
    __NR_pipe "pipe" = file::anon::pipe [] (fds: UserPtr<[i32; 2]>);
    __NR_pipe2 "pipe2" = file::anon::pipe2 [] (fds: UserPtr<[i32; 2]>, flags: u32);
    __NR_fcntl "fcntl" = file::descriptors::fcntl [] (fd: i32, cmd: u32, arg: u64);
    __NR_flock "flock" = file::locks::flock [] (fd: i32, operation: u32);
    __NR_ioctl "ioctl" = file::descriptors::ioctl [] (fd: i32, cmd: u32, arg: u64);
    __NR_fsync "fsync" = file::content::fsync [] (fd: i32);
    __NR_fdatasync "fdatasync" = file::content::fdatasync [] (fd: i32);
    __NR_ftruncate "ftruncate" = file::content::ftruncate [] (fd: i32, len: i64);
    __NR_fallocate "fallocate" = file::content::fallocate [] (fd: i32, mode: u32, pos: i64, len: i64);
    __NR_sync_file_range "sync_file_range" = file::content::sync_file_range [] (fd: i32, pos: i64, len: i64, flags: u32);
    __NR_fadvise64 "fadvise64" = file::content::fadvise64 [] (fd: i32, pos: i64, len: i64, advice: u32);
    __NR_readahead "readahead" = file::content::readahead [] (fd: i32, pos: i64, count: usize);
    __NR_sendfile "sendfile" = file::copy::sendfile [] (out: i32, input: i32, offset: UserPtr<i64>, count: usize);
    __NR_copy_file_range "copy_file_range" = file::copy::copy_file_range [] (input: i32, in_offset: UserPtr<i64>, output: i32, out_offset: UserPtr<i64>, count: usize, flags: u32);
    __NR_splice "splice" = file::splice::splice [] (input: i32, in_offset: UserPtr<i64>, output: i32, out_offset: UserPtr<i64>, len: usize, flags: u32);
    __NR_tee "tee" = file::splice::tee [] (input: i32, output: i32, len: usize, flags: u32);
    __NR_vmsplice "vmsplice" = file::splice::vmsplice [] (fd: i32, iov: UserPtr<abi::iovec>, count: usize, flags: u32);
    __NR_memfd_create "memfd_create" = file::anon::memfd_create [] (name: UserAddr, flags: u32);
    __NR_inotify_init "inotify_init" = fs::inotify_init [] ();
    __NR_inotify_init1 "inotify_init1" = fs::inotify_init1 [] (flags: u32);
    __NR_inotify_add_watch "inotify_add_watch" = fs::inotify_add_watch [] (fd: i32, path: UserAddr, flags: u32);
    __NR_inotify_rm_watch "inotify_rm_watch" = fs::inotify_rm_watch [] (fd: i32, wd: i32);
    __NR_eventfd "eventfd" = file::anon::eventfd [] (initial: u32);
    __NR_eventfd2 "eventfd2" = file::anon::eventfd2 [] (initial: u32, flags: u32);
    __NR_timerfd_create "timerfd_create" = file::anon::timerfd_create [] (clock: u32, flags: u32);
    __NR_timerfd_settime "timerfd_settime" = file::anon::timerfd_settime [] (fd: i32, flags: u32, new: UserPtr<[i64; 4]>, old: UserPtr<[i64; 4]>);
    __NR_timerfd_gettime "timerfd_gettime" = file::anon::timerfd_gettime [] (fd: i32, out: UserPtr<[i64; 4]>);
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
    __NR_socket "socket" = net::sockets::socket [] (family: u32, kind: u32, protocol: u32);
    __NR_socketpair "socketpair" = net::sockets::socketpair [] (family: u32, kind: u32, protocol: u32, fds: UserPtr<[i32; 2]>);
    __NR_connect "connect" = net::sockets::connect [] (fd: i32, address: UserAddr, len: u32);
    __NR_bind "bind" = net::sockets::bind [] (fd: i32, address: UserAddr, len: u32);
    __NR_listen "listen" = net::sockets::listen [] (fd: i32, backlog: i32);
    __NR_accept "accept" = net::sockets::accept [] (fd: i32, address: UserAddr, len: UserPtr<u32>);
    __NR_accept4 "accept4" = net::sockets::accept4 [] (fd: i32, address: UserAddr, len: UserPtr<u32>, flags: u32);
    __NR_sendmmsg "sendmmsg" = net::messages::sendmmsg [] (fd: i32, messages: UserPtr<[u64; 8]>, count: u32, flags: u32);
    __NR_recvmmsg "recvmmsg" = net::messages::recvmmsg [] (fd: i32, messages: UserPtr<[u64; 8]>, count: u32, flags: u32, timeout: UserPtr<[i64; 2]>);
    __NR_sendto "sendto" = net::transfer::sendto [] (fd: i32, buf: UserAddr, len: usize, flags: u32, address: UserAddr, address_len: u32);
    __NR_recvfrom "recvfrom" = net::transfer::recvfrom [] (fd: i32, buf: UserAddr, len: usize, flags: u32, address: UserAddr, address_len: UserPtr<u32>);
    __NR_sendmsg "sendmsg" = net::messages::sendmsg [] (fd: i32, message: UserPtr<[u64; 7]>, flags: u32);
    __NR_recvmsg "recvmsg" = net::messages::recvmsg [] (fd: i32, message: UserPtr<[u64; 7]>, flags: u32);
    __NR_shutdown "shutdown" = net::sockets::shutdown [] (fd: i32, how: u32);
    __NR_getsockopt "getsockopt" = net::sockets::getsockopt [] (fd: i32, level: u32, option: u32, value: UserAddr, len: UserPtr<u32>);
    __NR_setsockopt "setsockopt" = net::sockets::setsockopt [] (fd: i32, level: u32, option: u32, value: UserAddr, len: u32);
    __NR_getsockname "getsockname" = net::sockets::getsockname [] (fd: i32, address: UserAddr, len: UserPtr<u32>);
    __NR_getpeername "getpeername" = net::sockets::getpeername [] (fd: i32, address: UserAddr, len: UserPtr<u32>);
    // ---- fs (paths, directories, mounts) ----
    __NR_open "open" = fs::open [] (path: UserAddr, flags: u32, mode: u32);
    __NR_openat "openat" = fs::openat [] (dirfd: i32, path: UserAddr, flags: u32, mode: u32);
    __NR_openat2 "openat2" = fs::openat2 [] (dirfd: i32, path: UserAddr, how: UserAddr, size: usize);
    __NR_creat "creat" = fs::creat [] (path: UserAddr, mode: u32);
    __NR_stat "stat" = fs::stat [] (path: UserAddr, out: UserPtr<abi::stat>);
    __NR_lstat "lstat" = fs::lstat [] (path: UserAddr, out: UserPtr<abi::stat>);
    __NR_fstat "fstat" = fs::fstat [] (fd: i32, out: UserPtr<abi::stat>);
    __NR_newfstatat "newfstatat" = fs::newfstatat [] (dirfd: i32, path: UserAddr, out: UserPtr<abi::stat>, flags: u32);
    __NR_statx "statx" = fs::statx [] (dirfd: i32, path: UserAddr, flags: u32, mask: u32, out: UserPtr<abi::statx>);
    __NR_access "access" = fs::access [] (path: UserAddr, mode: u32);
    __NR_faccessat "faccessat" = fs::faccessat [] (dirfd: i32, path: UserAddr, mode: u32);
    __NR_faccessat2 "faccessat2" = fs::faccessat2 [] (dirfd: i32, path: UserAddr, mode: u32, flags: u32);
    __NR_statfs "statfs" = fs::statfs [] (path: UserAddr, out: UserPtr<abi::statfs64>);
    __NR_fstatfs "fstatfs" = fs::fstatfs [] (fd: i32, out: UserPtr<abi::statfs64>);
    __NR_readlink "readlink" = fs::readlink [] (path: UserAddr, buf: UserAddr, size: i32);
    __NR_readlinkat "readlinkat" = fs::readlinkat [] (dirfd: i32, path: UserAddr, buf: UserAddr, size: i32);
    __NR_mkdir "mkdir" = fs::mkdir [] (path: UserAddr, mode: u32);
    __NR_mkdirat "mkdirat" = fs::mkdirat [] (dirfd: i32, path: UserAddr, mode: u32);
    __NR_mknod "mknod" = fs::mknod [] (path: UserAddr, mode: u32, dev: u32);
    __NR_mknodat "mknodat" = fs::mknodat [] (dirfd: i32, path: UserAddr, mode: u32, dev: u32);
    __NR_symlink "symlink" = fs::symlink [] (target: UserAddr, path: UserAddr);
    __NR_symlinkat "symlinkat" = fs::symlinkat [] (target: UserAddr, dirfd: i32, path: UserAddr);
    __NR_link "link" = fs::link [] (old: UserAddr, new: UserAddr);
    __NR_linkat "linkat" = fs::linkat [] (old_dirfd: i32, old: UserAddr, new_dirfd: i32, new: UserAddr, flags: u32);
    __NR_unlink "unlink" = fs::unlink [] (path: UserAddr);
    __NR_unlinkat "unlinkat" = fs::unlinkat [] (dirfd: i32, path: UserAddr, flags: u32);
    __NR_rmdir "rmdir" = fs::rmdir [] (path: UserAddr);
    __NR_rename "rename" = fs::rename [] (old: UserAddr, new: UserAddr);
    __NR_renameat "renameat" = fs::renameat [] (old_dirfd: i32, old: UserAddr, new_dirfd: i32, new: UserAddr);
    __NR_renameat2 "renameat2" = fs::renameat2 [] (old_dirfd: i32, old: UserAddr, new_dirfd: i32, new: UserAddr, flags: u32);
    __NR_chmod "chmod" = fs::chmod [] (path: UserAddr, mode: u32);
    __NR_fchmod "fchmod" = fs::fchmod [] (fd: i32, mode: u32);
    __NR_fchmodat "fchmodat" = fs::fchmodat [] (dirfd: i32, path: UserAddr, mode: u32);
    __NR_fchmodat2 "fchmodat2" = fs::fchmodat2 [] (dirfd: i32, path: UserAddr, mode: u32, flags: u32);
    __NR_chown "chown" = fs::chown [] (path: UserAddr, uid: u32, gid: u32);
    __NR_lchown "lchown" = fs::lchown [] (path: UserAddr, uid: u32, gid: u32);
    __NR_fchown "fchown" = fs::fchown [] (fd: i32, uid: u32, gid: u32);
    __NR_fchownat "fchownat" = fs::fchownat [] (dirfd: i32, path: UserAddr, uid: u32, gid: u32, flags: u32);
    __NR_utime "utime" = fs::utime [] (path: UserAddr, times: UserPtr<[i64; 2]>);
    __NR_utimes "utimes" = fs::utimes [] (path: UserAddr, times: UserPtr<[i64; 4]>);
    __NR_futimesat "futimesat" = fs::futimesat [] (dirfd: i32, path: UserAddr, times: UserPtr<[i64; 4]>);
    __NR_utimensat "utimensat" = fs::utimensat [] (dirfd: i32, path: UserAddr, times: UserPtr<[i64; 4]>, flags: u32);
    __NR_truncate "truncate" = fs::truncate [] (path: UserAddr, len: i64);
    __NR_umask "umask" = fs::umask [] (mask: u32);
    __NR_chdir "chdir" = fs::chdir [] (path: UserAddr);
    __NR_fchdir "fchdir" = fs::fchdir [] (fd: i32);
    __NR_chroot "chroot" = fs::chroot [] (path: UserAddr);
    __NR_getcwd "getcwd" = fs::getcwd [] (buf: UserAddr, size: usize);
    __NR_getdents "getdents" = fs::getdents [] (fd: i32, buf: UserAddr, count: u32);
    __NR_getdents64 "getdents64" = fs::getdents64 [] (fd: i32, buf: UserAddr, count: u32);
    __NR_mount "mount" = fs::mount [] (source: UserAddr, target: UserAddr, fstype: UserAddr, flags: u64, data: UserAddr);
    __NR_umount2 "umount2" = fs::umount2 [] (target: UserAddr, flags: u32);
    __NR_sync "sync" = fs::sync [] ();
    __NR_syncfs "syncfs" = fs::syncfs [] (fd: i32);
    __NR_getxattr "getxattr" = fs::getxattr [] (path: UserAddr, name: UserAddr);
    __NR_lgetxattr "lgetxattr" = fs::lgetxattr [] (path: UserAddr, name: UserAddr);
    __NR_fgetxattr "fgetxattr" = fs::fgetxattr [] (fd: i32, name: UserAddr);
    __NR_setxattr "setxattr" = fs::setxattr [] (path: UserAddr, name: UserAddr);
    __NR_lsetxattr "lsetxattr" = fs::lsetxattr [] (path: UserAddr, name: UserAddr);
    __NR_fsetxattr "fsetxattr" = fs::fsetxattr [] (fd: i32, name: UserAddr);
    __NR_removexattr "removexattr" = fs::removexattr [] (path: UserAddr, name: UserAddr);
    __NR_lremovexattr "lremovexattr" = fs::lremovexattr [] (path: UserAddr, name: UserAddr);
    __NR_fremovexattr "fremovexattr" = fs::fremovexattr [] (fd: i32, name: UserAddr);
    __NR_listxattr "listxattr" = fs::listxattr [] (path: UserAddr);
    __NR_llistxattr "llistxattr" = fs::llistxattr [] (path: UserAddr);
    __NR_flistxattr "flistxattr" = fs::flistxattr [] (fd: i32);
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
    __NR_process_vm_readv "process_vm_readv" = remote::process_vm_readv [] (pid: i32, local: UserPtr<abi::iovec>, local_count: usize, remote: UserPtr<abi::iovec>, remote_count: usize, flags: u64);
    __NR_process_vm_writev "process_vm_writev" = remote::process_vm_writev [] (pid: i32, local: UserPtr<abi::iovec>, local_count: usize, remote: UserPtr<abi::iovec>, remote_count: usize, flags: u64);
    // ---- process ----
    __NR_fork "fork" = process::fork [args] ();
    __NR_vfork "vfork" = process::vfork [args] ();
    __NR_clone "clone" = process::clone [args] (flags: u64, stack: u64, parent_tid: u64, child_tid: u64, tls: u64);
    __NR_clone3 "clone3" = process::clone3 [args] (at: UserAddr, size: usize);
    __NR_execve "execve" = process::execve [args] (path: UserAddr, argv: UserAddr, envp: UserAddr);
    __NR_execveat "execveat" = process::execveat [args] (dirfd: i32, path: UserAddr, argv: UserAddr, envp: UserAddr, flags: u32);
    __NR_exit "exit" = process::exit [] (status: i32);
    __NR_exit_group "exit_group" = process::exit_group [] (status: i32);
    __NR_wait4 "wait4" = process::wait4 [] (pid: i32, status: UserPtr<i32>, options: u32, usage: UserPtr<abi::rusage>);
    __NR_waitid "waitid" = process::waitid [] (id_type: u32, id: i32, info: UserAddr, options: u32, usage: UserPtr<abi::rusage>);
    __NR_getrusage "getrusage" = process::getrusage [] (who: i32, out: UserPtr<abi::rusage>);
    __NR_getpid "getpid" = process::getpid [] ();
    __NR_gettid "gettid" = process::gettid [] ();
    __NR_getppid "getppid" = process::getppid [] ();
    __NR_set_tid_address "set_tid_address" = process::set_tid_address [] (at: u64);
    __NR_setpgid "setpgid" = process::setpgid [] (pid: i32, pgid: i32);
    __NR_getpgid "getpgid" = process::getpgid [] (pid: i32);
    __NR_getpgrp "getpgrp" = process::getpgrp [] ();
    __NR_setsid "setsid" = process::setsid [] ();
    __NR_getsid "getsid" = process::getsid [] (pid: i32);
    __NR_pidfd_open "pidfd_open" = process::pidfd_open [] (pid: i32, flags: u32);
    __NR_pidfd_getfd "pidfd_getfd" = process::pidfd_getfd [] (pidfd: i32, fd: i32, flags: u32);
    __NR_getrlimit "getrlimit" = process::getrlimit [] (which: u32, out: UserPtr<[u64; 2]>);
    __NR_setrlimit "setrlimit" = process::setrlimit [] (which: u32, new: UserPtr<[u64; 2]>);
    __NR_prlimit64 "prlimit64" = process::prlimit64 [] (pid: i32, which: u32, new: UserPtr<[u64; 2]>, old: UserPtr<[u64; 2]>);
    __NR_futex "futex" = futex::futex [] (addr: UserAddr, op: u32, value: u32, arg: u64, addr2: UserAddr, value3: u32);
    __NR_set_robust_list "set_robust_list" = futex::set_robust_list [] (head: u64, size: usize);
    __NR_get_robust_list "get_robust_list" = futex::get_robust_list [] (tid: i32, head: UserPtr<u64>, size: UserPtr<u64>);
    __NR_prctl "prctl" = prctl::prctl [] (op: u32, a: u64, b: u64, c: u64, d: u64);
    __NR_arch_prctl "arch_prctl" = prctl::arch_prctl [] (op: u32, addr: u64);
    __NR_personality "personality" = prctl::personality [] (persona: u32);
    __NR_unshare "unshare" = prctl::unshare [] (flags: u64);
    __NR_getuid "getuid" = cred::getuid [] ();
    __NR_geteuid "geteuid" = cred::geteuid [] ();
    __NR_getgid "getgid" = cred::getgid [] ();
    __NR_getegid "getegid" = cred::getegid [] ();
    __NR_setuid "setuid" = cred::setuid [] (uid: u32);
    __NR_setgid "setgid" = cred::setgid [] (gid: u32);
    __NR_setreuid "setreuid" = cred::setreuid [] (real: u32, effective: u32);
    __NR_setregid "setregid" = cred::setregid [] (real: u32, effective: u32);
    __NR_setresuid "setresuid" = cred::setresuid [] (real: u32, effective: u32, saved: u32);
    __NR_setresgid "setresgid" = cred::setresgid [] (real: u32, effective: u32, saved: u32);
    __NR_getresuid "getresuid" = cred::getresuid [] (real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>);
    __NR_getresgid "getresgid" = cred::getresgid [] (real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>);
    __NR_setfsuid "setfsuid" = cred::setfsuid [] (uid: u32);
    __NR_setfsgid "setfsgid" = cred::setfsgid [] (gid: u32);
    __NR_getgroups "getgroups" = cred::getgroups [] (size: i32, list: UserPtr<u32>);
    __NR_setgroups "setgroups" = cred::setgroups [] (size: usize, list: UserPtr<u32>);
    __NR_capget "capget" = cred::capget [] (header: UserPtr<[u32; 2]>, data: UserPtr<[u32; 3]>);
    __NR_capset "capset" = cred::capset [] (header: UserPtr<[u32; 2]>, data: UserPtr<[u32; 3]>);
    // ---- signal ----
    __NR_signalfd "signalfd" = signal::signalfd [] (fd: i32, mask: UserPtr<u64>, size: usize);
    __NR_signalfd4 "signalfd4" = signal::signalfd4 [] (fd: i32, mask: UserPtr<u64>, size: usize, flags: u32);
    __NR_rt_sigaction "rt_sigaction" = signal::rt_sigaction [] (sig: u32, new: UserPtr<[u64; 4]>, old: UserPtr<[u64; 4]>, size: usize);
    __NR_rt_sigprocmask "rt_sigprocmask" = signal::rt_sigprocmask [] (how: u32, new: UserPtr<u64>, old: UserPtr<u64>, size: usize);
    __NR_rt_sigpending "rt_sigpending" = signal::rt_sigpending [] (out: UserAddr, size: usize);
    __NR_rt_sigsuspend "rt_sigsuspend" = signal::rt_sigsuspend [] (mask: UserPtr<u64>, size: usize);
    __NR_rt_sigtimedwait "rt_sigtimedwait" = signal::rt_sigtimedwait [] (set: UserPtr<u64>, info: UserAddr, timeout: UserPtr<[i64; 2]>, size: usize);
    __NR_rt_sigreturn "rt_sigreturn" = signal::rt_sigreturn [args] ();
    __NR_sigaltstack "sigaltstack" = signal::sigaltstack [args] (new: UserPtr<[u64; 3]>, old: UserPtr<[u64; 3]>);
    __NR_pause "pause" = signal::pause [] ();
    __NR_kill "kill" = signal::kill [] (pid: i32, sig: u32);
    __NR_tkill "tkill" = signal::tkill [] (tid: i32, sig: u32);
    __NR_tgkill "tgkill" = signal::tgkill [] (tgid: i32, tid: i32, sig: u32);
    __NR_rt_sigqueueinfo "rt_sigqueueinfo" = signal::rt_sigqueueinfo [] (pid: i32, sig: u32, info: UserAddr);
    __NR_rt_tgsigqueueinfo "rt_tgsigqueueinfo" = signal::rt_tgsigqueueinfo [] (tgid: i32, tid: i32, sig: u32, info: UserAddr);
    __NR_pidfd_send_signal "pidfd_send_signal" = signal::pidfd_send_signal [] (fd: i32, sig: u32, info: UserAddr, flags: u32);
    __NR_restart_syscall "restart_syscall" = signal::restart_syscall [] ();
    // ---- time (clocks, sleeping, timers, scheduling) ----
    __NR_clock_gettime "clock_gettime" = time::clock_gettime [] (clock: i32, out: UserPtr<[i64; 2]>);
    __NR_clock_settime "clock_settime" = time::clock_settime [] (clock: i32, new: UserPtr<[i64; 2]>);
    __NR_clock_getres "clock_getres" = time::clock_getres [] (clock: i32, out: UserPtr<[i64; 2]>);
    __NR_clock_nanosleep "clock_nanosleep" = time::clock_nanosleep [] (clock: i32, flags: u32, request: UserPtr<[i64; 2]>, remaining: UserPtr<[i64; 2]>);
    __NR_nanosleep "nanosleep" = time::nanosleep [] (request: UserPtr<[i64; 2]>, remaining: UserPtr<[i64; 2]>);
    __NR_gettimeofday "gettimeofday" = time::gettimeofday [] (out: UserPtr<[i64; 2]>, zone: UserPtr<[i32; 2]>);
    __NR_settimeofday "settimeofday" = time::settimeofday [] (new: UserPtr<[i64; 2]>, zone: UserPtr<[i32; 2]>);
    __NR_time "time" = time::time [] (out: UserPtr<i64>);
    __NR_times "times" = time::times [] (out: UserPtr<[i64; 4]>);
    __NR_getitimer "getitimer" = timer::getitimer [] (which: u32, out: UserPtr<[i64; 4]>);
    __NR_setitimer "setitimer" = timer::setitimer [] (which: u32, new: UserPtr<[i64; 4]>, old: UserPtr<[i64; 4]>);
    __NR_alarm "alarm" = timer::alarm [] (seconds: u32);
    __NR_timer_create "timer_create" = timer::timer_create [] (clock: i32, event: UserPtr<[u32; 16]>, id: UserPtr<i32>);
    __NR_timer_settime "timer_settime" = timer::timer_settime [] (id: i32, flags: u32, new: UserPtr<[i64; 4]>, old: UserPtr<[i64; 4]>);
    __NR_timer_gettime "timer_gettime" = timer::timer_gettime [] (id: i32, out: UserPtr<[i64; 4]>);
    __NR_timer_getoverrun "timer_getoverrun" = timer::timer_getoverrun [] (id: i32);
    __NR_timer_delete "timer_delete" = timer::timer_delete [] (id: i32);
    __NR_sched_yield "sched_yield" = sched::sched_yield [] ();
    __NR_sched_getaffinity "sched_getaffinity" = sched::sched_getaffinity [] (pid: i32, len: u32, mask: UserAddr);
    __NR_sched_setaffinity "sched_setaffinity" = sched::sched_setaffinity [] (pid: i32, len: u32, mask: UserAddr);
    __NR_sched_getparam "sched_getparam" = sched::sched_getparam [] (pid: i32, out: UserPtr<i32>);
    __NR_sched_setparam "sched_setparam" = sched::sched_setparam [] (pid: i32, new: UserPtr<i32>);
    __NR_sched_getscheduler "sched_getscheduler" = sched::sched_getscheduler [] (pid: i32);
    __NR_sched_setscheduler "sched_setscheduler" = sched::sched_setscheduler [] (pid: i32, policy: u32, new: UserPtr<i32>);
    __NR_sched_get_priority_max "sched_get_priority_max" = sched::sched_get_priority_max [] (policy: u32);
    __NR_sched_get_priority_min "sched_get_priority_min" = sched::sched_get_priority_min [] (policy: u32);
    __NR_sched_rr_get_interval "sched_rr_get_interval" = sched::sched_rr_get_interval [] (pid: i32, out: UserPtr<[i64; 2]>);
    __NR_getpriority "getpriority" = sched::getpriority [] (which: u32, who: i32);
    __NR_setpriority "setpriority" = sched::setpriority [] (which: u32, who: i32, nice: i32);
    // ---- system ----
    __NR_uname "uname" = system::uname [] (out: UserPtr<[[u8; 65]; 6]>);
    __NR_sysinfo "sysinfo" = system::sysinfo [] (out: UserPtr<[u64; 14]>);
    __NR_sethostname "sethostname" = system::sethostname [] (name: UserAddr, len: usize);
    __NR_setdomainname "setdomainname" = system::setdomainname [] (name: UserAddr, len: usize);
    __NR_syslog "syslog" = system::syslog [] (action: u32, buf: UserAddr, len: i32);
    __NR_getrandom "getrandom" = system::getrandom [] (buf: UserAddr, len: usize, flags: u32);
    __NR_getcpu "getcpu" = system::getcpu [] (cpu: UserPtr<u32>, node: UserPtr<u32>);
    __NR_vhangup "vhangup" = system::vhangup [] ();
    __NR_reboot "reboot" = system::reboot [] (magic: u32, magic2: u32, command: u32);
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
        let name = syscalls::Sysno::new(nr).map_or("?", |call| call.name());
        warn!("system call {name} ({nr}) is not implemented (ENOSYS)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn page() -> String {
        let mut rows: Vec<&Row> = ROWS.iter().collect();
        rows.sort_by_key(|row| row.nr);
        let mut out = format!(
            "# System calls\n\nGenerated from `kernel/src/syscall/table.rs` by its unit test \
             (`OXBOW_WRITE_DOCS=1 cargo test -p oxbow-kernel --lib syscall`).\n\n\
             {} calls; every other number answers ENOSYS and is noted once in dmesg by name.\n\n\
             | nr | name | arguments |\n| --- | --- | --- |\n",
            rows.len()
        );
        for row in rows {
            let mut params = row.params.split_whitespace().collect::<Vec<_>>().join(" ");
            // How a macro prints types depends on the compiler; the page does not.
            for (from, to) in [(" :: ", "::"), (" : ", ": "), (" < ", "<"), (" >", ">")] {
                params = params.replace(from, to);
            }
            writeln!(out, "| {} | `{}` | {} |", row.nr, row.name, code(&params)).unwrap();
        }
        out
    }

    fn code(text: &str) -> String {
        if text.is_empty() {
            String::new()
        } else {
            format!("`{text}`")
        }
    }

    #[test]
    fn names_are_linux_s() {
        for row in ROWS {
            let name = syscalls::Sysno::new(row.nr).map(|call| call.name());
            assert_eq!(name, Some(row.name), "number {}", row.nr);
        }
    }

    #[test]
    fn the_generated_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/syscalls.md");
        if std::env::var_os("OXBOW_WRITE_DOCS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            page(),
            "docs/syscalls.md"
        );
    }
}
