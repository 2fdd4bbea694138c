//! Error numbers at the kernel's edges (man 3 errno).

use crate::abi::errno as e;

/// A Linux error number, 1 to 4095 (man 3 errno), or one of the internal restart codes,
/// which the system-call return path turns into `EINTR` or a restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Errno(u16);

/// What fallible kernel code returns at subsystem edges.
pub type Result<T, E = Errno> = core::result::Result<T, E>;

macro_rules! errnos {
    ($($name:ident),* $(,)?) => {
        #[allow(missing_docs, reason = "names are man 3 errno's")]
        impl Errno {
            $(pub const $name: Errno = Errno(e::$name as u16);)*
        }
        impl core::fmt::Debug for Errno {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match u32::from(self.0) {
                    $(e::$name => f.write_str(stringify!($name)),)*
                    n => write!(f, "E#{n}"),
                }
            }
        }
    };
}

errnos!(
    EPERM,
    ENOENT,
    ESRCH,
    EINTR,
    EIO,
    ENXIO,
    E2BIG,
    ENOEXEC,
    EBADF,
    ECHILD,
    EAGAIN,
    ENOMEM,
    EACCES,
    EFAULT,
    ENOTBLK,
    EBUSY,
    EEXIST,
    EXDEV,
    ENODEV,
    ENOTDIR,
    EISDIR,
    EINVAL,
    ENFILE,
    EMFILE,
    ENOTTY,
    ETXTBSY,
    EFBIG,
    ENOSPC,
    ESPIPE,
    EROFS,
    EMLINK,
    EPIPE,
    EDOM,
    ERANGE,
    EDEADLK,
    ENAMETOOLONG,
    ENOLCK,
    ENOSYS,
    ENOTEMPTY,
    ELOOP,
    ENODATA,
    ETIME,
    ENONET,
    EPROTO,
    EBADMSG,
    EOVERFLOW,
    EILSEQ,
    ENOTSOCK,
    EDESTADDRREQ,
    EMSGSIZE,
    EPROTOTYPE,
    ENOPROTOOPT,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
    EOPNOTSUPP,
    EAFNOSUPPORT,
    EADDRINUSE,
    EADDRNOTAVAIL,
    ENETDOWN,
    ENETUNREACH,
    ECONNABORTED,
    ECONNRESET,
    ENOBUFS,
    EISCONN,
    ENOTCONN,
    ETOOMANYREFS,
    ETIMEDOUT,
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EALREADY,
    EINPROGRESS,
    ESTALE,
    EUCLEAN,
    EDQUOT,
    ECANCELED,
    EOWNERDEAD,
    ENOTRECOVERABLE,
);

impl Errno {
    /// Interrupted; restart the call if the handler has `SA_RESTART` or no handler runs.
    pub const ERESTARTSYS: Errno = Errno(512);
    /// Interrupted; restart always.
    pub const ERESTARTNOINTR: Errno = Errno(513);
    /// Interrupted; restart only if no handler runs.
    pub const ERESTARTNOHAND: Errno = Errno(514);
    /// Interrupted; restart through `restart_syscall` if no handler runs.
    pub const ERESTART_RESTARTBLOCK: Errno = Errno(516);
    /// The name Linux gives the same number (man 3 errno).
    pub const EWOULDBLOCK: Errno = Errno::EAGAIN;
    /// The name Linux gives the same number (man 3 errno).
    pub const ENOTSUP: Errno = Errno::EOPNOTSUPP;

    /// The error with this number; `None` for 0 and what is no error number.
    pub const fn from_code(code: u16) -> Option<Errno> {
        if code == 0 || code > 4095 {
            None
        } else {
            Some(Errno(code))
        }
    }
    /// The error's number.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// The value a system call returns in `rax` for this error.
    pub const fn as_return(self) -> isize {
        -(self.0 as isize)
    }
}
