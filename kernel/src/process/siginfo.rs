//! What a signal tells about itself (man 2 sigaction, `siginfo_t`). Pure; host-tested.

use crate::abi;
use crate::mm::UserAddr;

/// Size of `siginfo_t`, in bytes.
pub const SIGINFO_SIZE: usize = 128;

/// Sent by kill(2).
pub const SI_USER: i32 = 0;
/// Sent by the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// Sent by sigqueue(3).
pub const SI_QUEUE: i32 = -1;
/// A POSIX timer expired.
pub const SI_TIMER: i32 = -2;
/// Sent by tkill(2) or tgkill(2).
pub const SI_TKILL: i32 = -6;

/// The part of `siginfo_t` after number, errno and code; which variant depends on the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigFields {
    /// Nothing further.
    None,
    /// kill, tkill: who sent it.
    Kill {
        /// Sender's process id.
        pid: i32,
        /// Sender's real user id.
        uid: u32,
    },
    /// A POSIX timer.
    Timer {
        /// Timer id.
        id: i32,
        /// Expirations missed since the last delivery.
        overrun: i32,
        /// `sigev_value`.
        value: u64,
    },
    /// sigqueue.
    Queue {
        /// Sender's process id.
        pid: i32,
        /// Sender's real user id.
        uid: u32,
        /// `sigval`.
        value: u64,
    },
    /// SIGCHLD.
    Child {
        /// The child.
        pid: i32,
        /// Its real user id.
        uid: u32,
        /// Exit code or signal number.
        status: i32,
        /// User time, in clock ticks (1/100 s).
        utime: i64,
        /// System time, in clock ticks (1/100 s).
        stime: i64,
    },
    /// SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP.
    Fault {
        /// The address that faulted.
        addr: UserAddr,
    },
    /// SIGIO.
    Poll {
        /// POLLIN...
        band: i64,
        /// Descriptor.
        fd: i32,
    },
    /// SIGSYS.
    Syscall {
        /// Instruction after the call.
        addr: u64,
        /// Call number.
        nr: i32,
        /// AUDIT_ARCH_*.
        arch: u32,
    },
    /// What a program passed to rt_sigqueueinfo, kept as it came: bytes 16 to 128.
    Raw([u8; SIGINFO_SIZE - 16]),
}

/// A signal with its information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigInfo {
    /// Number, 1 to 64.
    pub signo: u32,
    /// `si_errno`, nearly always 0.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// The rest.
    pub fields: SigFields,
}

impl SigInfo {
    /// A signal that the kernel sends without further information.
    pub const fn kernel(signo: u32) -> Self {
        Self::with(signo, SI_KERNEL, SigFields::None)
    }
    /// A signal that process `pid` of user `uid` sends with kill(2).
    pub const fn user(signo: u32, pid: i32, uid: u32) -> Self {
        Self::with(signo, SI_USER, SigFields::Kill { pid, uid })
    }
    /// A fault at `addr`.
    pub const fn fault(signo: u32, code: i32, addr: UserAddr) -> Self {
        Self::with(signo, code, SigFields::Fault { addr })
    }
    /// A signal with code and fields.
    pub const fn with(signo: u32, code: i32, fields: SigFields) -> Self {
        Self {
            signo,
            errno: 0,
            code,
            fields,
        }
    }
    /// Whether a program sent it: kill, tkill, sigqueue.
    pub fn is_from_program(&self) -> bool {
        self.code == SI_USER || self.code < 0 && !self.is_of_timer(None)
    }
    /// Whether POSIX timer `id` sent it, or any.
    pub fn is_of_timer(&self, id: Option<i32>) -> bool {
        matches!(self.fields, SigFields::Timer { id: own, .. } if id.is_none_or(|id| id == own))
    }
    /// `siginfo_t` as a program sees it.
    pub fn to_bytes(&self) -> [u8; SIGINFO_SIZE] {
        let mut out = [0; SIGINFO_SIZE];
        let mut w = Writer { out: &mut out };
        w.put(0, &(self.signo as i32).to_le_bytes());
        w.put(4, &self.errno.to_le_bytes());
        w.put(8, &self.code.to_le_bytes());
        match self.fields {
            SigFields::None => {}
            SigFields::Kill { pid, uid } => {
                w.put(16, &pid.to_le_bytes());
                w.put(20, &uid.to_le_bytes());
            }
            SigFields::Timer { id, overrun, value } => {
                w.put(16, &id.to_le_bytes());
                w.put(20, &overrun.to_le_bytes());
                w.put(24, &value.to_le_bytes());
            }
            SigFields::Queue { pid, uid, value } => {
                w.put(16, &pid.to_le_bytes());
                w.put(20, &uid.to_le_bytes());
                w.put(24, &value.to_le_bytes());
            }
            SigFields::Child {
                pid,
                uid,
                status,
                utime,
                stime,
            } => {
                w.put(16, &pid.to_le_bytes());
                w.put(20, &uid.to_le_bytes());
                w.put(24, &status.to_le_bytes());
                w.put(32, &utime.to_le_bytes());
                w.put(40, &stime.to_le_bytes());
            }
            SigFields::Fault { addr } => w.put(16, &addr.0.to_le_bytes()),
            SigFields::Poll { band, fd } => {
                w.put(16, &band.to_le_bytes());
                w.put(24, &fd.to_le_bytes());
            }
            SigFields::Syscall { addr, nr, arch } => {
                w.put(16, &addr.to_le_bytes());
                w.put(24, &nr.to_le_bytes());
                w.put(28, &arch.to_le_bytes());
            }
            SigFields::Raw(bytes) => w.put(16, &bytes),
        }
        out
    }
    /// From a program's `siginfo_t` (rt_sigqueueinfo); the number is the call's argument.
    pub fn from_bytes(signo: u32, bytes: &[u8; SIGINFO_SIZE]) -> Self {
        let int = |at: usize| {
            let mut b = [0; 4];
            b.copy_from_slice(&bytes[at..at + 4]);
            i32::from_le_bytes(b)
        };
        let mut raw = [0; SIGINFO_SIZE - 16];
        raw.copy_from_slice(&bytes[16..]);
        Self {
            signo,
            errno: int(4),
            code: int(8),
            fields: SigFields::Raw(raw),
        }
    }
    /// Sender's process id, where the cause has one (for signalfd).
    pub fn pid(&self) -> i32 {
        match self.fields {
            SigFields::Kill { pid, .. }
            | SigFields::Queue { pid, .. }
            | SigFields::Child { pid, .. } => pid,
            SigFields::Raw(b) => i32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            _ => 0,
        }
    }
    /// Sender's user id, where the cause has one (for signalfd).
    pub fn uid(&self) -> u32 {
        match self.fields {
            SigFields::Kill { uid, .. }
            | SigFields::Queue { uid, .. }
            | SigFields::Child { uid, .. } => uid,
            SigFields::Raw(b) => u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            _ => 0,
        }
    }
    /// Whether the program was stopped by its own instruction: delivered before others.
    pub fn is_synchronous(&self) -> bool {
        self.code > 0
            && self.code != SI_KERNEL
            && matches!(
                self.signo,
                abi::SIGSEGV | abi::SIGBUS | abi::SIGILL | abi::SIGTRAP | abi::SIGFPE | abi::SIGSYS
            )
    }
}

struct Writer<'a> {
    out: &'a mut [u8; SIGINFO_SIZE],
}

impl Writer<'_> {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.out[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_headers() {
        let info = SigInfo::with(
            abi::SIGCHLD,
            abi::CLD_EXITED as i32,
            SigFields::Child {
                pid: 42,
                uid: 7,
                status: 3,
                utime: 5,
                stime: 6,
            },
        );
        let bytes = info.to_bytes();
        assert_eq!(size_of::<abi::siginfo_t>(), SIGINFO_SIZE);
        // SAFETY: same size, plain bytes.
        let c: abi::siginfo_t = unsafe { core::mem::transmute(bytes) };
        // SAFETY: the union was written as SIGCHLD's.
        unsafe {
            let head = c.__bindgen_anon_1.__bindgen_anon_1;
            assert_eq!(head.si_signo, 17);
            assert_eq!(head.si_code, 1);
            let chld = head._sifields._sigchld;
            assert_eq!((chld._pid, chld._uid, chld._status), (42, 7, 3));
            assert_eq!((chld._utime, chld._stime), (5, 6));
        }
    }

    #[test]
    fn raw_round_trip() {
        let mut bytes = [0u8; SIGINFO_SIZE];
        bytes[8..12].copy_from_slice(&(-1i32).to_le_bytes());
        bytes[16..20].copy_from_slice(&9i32.to_le_bytes());
        bytes[24..32].copy_from_slice(&0xdead_beefu64.to_le_bytes());
        let info = SigInfo::from_bytes(40, &bytes);
        assert_eq!((info.signo, info.code, info.pid()), (40, -1, 9));
        let back = info.to_bytes();
        assert_eq!(back[16..], bytes[16..]);
    }
}
