//! The system as a whole: its names, figures, log, random numbers, power.

use alloc::vec::Vec;

use super::SyscallResult;
use crate::abi;
use crate::error::{Errno, Result};
use crate::log;
use crate::mm::{self, PAGE_SIZE, UserAddr};
use crate::process;
use crate::sched;
use crate::security::capability::{CAP_SYS_ADMIN, CAP_SYS_BOOT, CAP_SYS_TTY_CONFIG, CAP_SYSLOG};
use crate::security::random;
use crate::sync::{Rank, SpinLock};
use crate::time::{self, NS_PER_SEC};
use crate::uts;
use crate::vm::UserPtr;
use crate::vm::user::{copy_from_user, copy_to_user};

/// Bytes of a field of `struct new_utsname`.
const UTS_BYTES: usize = 65;

fn require(capability: u32) -> Result<()> {
    if process::current().cred().capable(capability) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// man 2 uname.
pub fn uname(out: UserPtr<[[u8; UTS_BYTES]; 6]>) -> SyscallResult {
    let field = |text: &[u8]| {
        let mut bytes = [0; UTS_BYTES];
        let n = text.len().min(UTS_BYTES - 1);
        bytes[..n].copy_from_slice(&text[..n]);
        bytes
    };
    out.write([
        field(uts::SYSNAME.as_bytes()),
        field(&uts::hostname()),
        field(uts::RELEASE.as_bytes()),
        field(uts::VERSION.as_bytes()),
        field(uts::MACHINE.as_bytes()),
        field(&uts::domainname()),
    ])?;
    Ok(0)
}

/// A name of at most [`uts::NAME_MAX`] bytes. EINVAL, EFAULT.
fn name(at: UserAddr, len: usize) -> Result<Vec<u8>> {
    if len > uts::NAME_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0; len];
    copy_from_user(&mut bytes, at)?;
    Ok(bytes)
}

/// man 2 sethostname.
pub fn sethostname(at: UserAddr, len: usize) -> SyscallResult {
    require(CAP_SYS_ADMIN)?;
    uts::set_hostname(&name(at, len)?)?;
    Ok(0)
}

/// man 2 setdomainname.
pub fn setdomainname(at: UserAddr, len: usize) -> SyscallResult {
    require(CAP_SYS_ADMIN)?;
    uts::set_domainname(&name(at, len)?)?;
    Ok(0)
}

/// man 2 sysinfo: `struct sysinfo` as 14 words.
pub fn sysinfo(out: UserPtr<[u64; 14]>) -> SyscallResult {
    let frames = mm::frame::stats();
    let page = PAGE_SIZE as u64;
    let loads = sched::load_averages();
    let mut words = [0; 14];
    words[0] = time::now_ns() / NS_PER_SEC;
    words[1..4].copy_from_slice(&loads);
    words[4] = frames.total as u64 * page;
    words[5] = frames.free as u64 * page;
    // Shared and buffer memory, swap, high memory: 0. procs is 16 bits wide.
    words[10] = process::info::counts().0.min(usize::from(u16::MAX)) as u64;
    // mem_unit, after two words of high memory.
    words[13] = 1;
    out.write(words)?;
    Ok(0)
}

/// man 2 vhangup.
pub fn vhangup() -> SyscallResult {
    require(CAP_SYS_TTY_CONFIG)?;
    crate::tty::hang_up_controlling();
    Ok(0)
}

/// Actions of syslog(2).
mod action {
    pub const CLOSE: u32 = 0;
    pub const OPEN: u32 = 1;
    pub const READ: u32 = 2;
    pub const READ_ALL: u32 = 3;
    pub const READ_CLEAR: u32 = 4;
    pub const CLEAR: u32 = 5;
    pub const CONSOLE_OFF: u32 = 6;
    pub const CONSOLE_ON: u32 = 7;
    pub const CONSOLE_LEVEL: u32 = 8;
    pub const SIZE_UNREAD: u32 = 9;
    pub const SIZE_BUFFER: u32 = 10;
}

/// What syslog(2) remembers.
struct Syslog {
    /// Up to where READ has read.
    read: u64,
    /// Where CLEAR was last.
    cleared: u64,
    /// The console's level before CONSOLE_OFF.
    saved_level: Option<u8>,
}

static SYSLOG: SpinLock<Syslog> = SpinLock::new(
    Rank::Leaf,
    Syslog {
        read: 0,
        cleared: 0,
        saved_level: None,
    },
);

/// Copies whole records of the log's bytes `from..to` to a program: the newest that fit into
/// `len` with `newest`, else the oldest. Returns the bytes copied and where they end.
fn copy_log(from: u64, to: u64, buf: UserAddr, len: usize, newest: bool) -> Result<(usize, u64)> {
    let mut bytes = Vec::new();
    let span = (to - from).min(log::RING_BYTES as u64) as usize;
    bytes.try_reserve_exact(span).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(span, 0);
    let (start, n) = log::read_from(from, &mut bytes);
    bytes.truncate(n);
    let (skip, take) = whole_records(&bytes, len, newest);
    copy_to_user(buf, &bytes[skip..skip + take])?;
    Ok((take, start + (skip + take) as u64))
}

/// Which part of `bytes`, lines of a log that may begin inside one, fits into `len`: (start,
/// length).
fn whole_records(bytes: &[u8], len: usize, newest: bool) -> (usize, usize) {
    // Records begin with "<level>"; what comes before the first one lost its beginning.
    let begin = if bytes.first() == Some(&b'<') {
        0
    } else {
        bytes
            .iter()
            .position(|&b| b == b'\n')
            .map_or(bytes.len(), |i| i + 1)
    };
    let (mut start, mut end) = (begin, bytes.len());
    if newest {
        while end - start > len {
            match bytes[start..end].iter().position(|&b| b == b'\n') {
                Some(i) => start += i + 1,
                None => return (end, 0),
            }
        }
    } else {
        while end - start > len {
            match bytes[start..end - 1].iter().rposition(|&b| b == b'\n') {
                Some(i) => end = start + i + 1,
                None => return (start, 0),
            }
        }
    }
    (start, end - start)
}

/// man 2 syslog.
pub fn syslog(action: u32, buf: UserAddr, len: i32) -> SyscallResult {
    // Reading everything and asking the size is for all (dmesg_restrict is 0).
    if !matches!(action, action::READ_ALL | action::SIZE_BUFFER) {
        let cred = process::current().cred();
        if !cred.capable(CAP_SYSLOG) && !cred.capable(CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
    }
    let room = || {
        usize::try_from(len)
            .ok()
            .filter(|_| buf.as_u64() != 0)
            .ok_or(Errno::EINVAL)
    };
    match action {
        action::CLOSE | action::OPEN => Ok(0),
        action::READ => {
            let room = room()?;
            if room == 0 {
                return Ok(0);
            }
            let from = sched::LOG_READERS
                .wait_interruptible(None, || {
                    let read = SYSLOG.lock().read;
                    (log::head() > read).then_some(read)
                })
                .map_err(|_| Errno::ERESTARTSYS)?;
            let (n, end) = copy_log(from, log::head(), buf, room, false)?;
            SYSLOG.lock().read = end;
            Ok(n as isize)
        }
        action::READ_ALL | action::READ_CLEAR => {
            let from = SYSLOG.lock().cleared;
            let head = log::head();
            let (n, _) = copy_log(from, head, buf, room()?, true)?;
            if action == action::READ_CLEAR {
                SYSLOG.lock().cleared = head;
            }
            Ok(n as isize)
        }
        action::CLEAR => {
            SYSLOG.lock().cleared = log::head();
            Ok(0)
        }
        action::CONSOLE_OFF => {
            SYSLOG
                .lock()
                .saved_level
                .get_or_insert(log::console_level());
            log::set_console_level(log::Level::Emergency as u8);
            Ok(0)
        }
        action::CONSOLE_ON => {
            if let Some(level) = SYSLOG.lock().saved_level.take() {
                log::set_console_level(level);
            }
            Ok(0)
        }
        action::CONSOLE_LEVEL => {
            // 1 to 8: records of lower numbers are shown.
            let level = u8::try_from(len).map_err(|_| Errno::EINVAL)?;
            if !(1..=8).contains(&level) {
                return Err(Errno::EINVAL);
            }
            SYSLOG.lock().saved_level = None;
            log::set_console_level(level - 1);
            Ok(0)
        }
        action::SIZE_UNREAD => {
            let unread = log::head().saturating_sub(SYSLOG.lock().read);
            Ok(unread.min(log::RING_BYTES as u64) as isize)
        }
        action::SIZE_BUFFER => Ok(log::RING_BYTES as isize),
        _ => Err(Errno::EINVAL),
    }
}

/// Bytes made before they are copied out.
const RANDOM_PIECE: usize = 256;

/// man 2 getrandom.
pub fn getrandom(buf: UserAddr, len: usize, flags: u32) -> SyscallResult {
    const INSECURE: u32 = abi::GRND_INSECURE;
    const RANDOM: u32 = abi::GRND_RANDOM;
    if flags & !(abi::GRND_NONBLOCK | RANDOM | INSECURE) != 0
        || flags & (RANDOM | INSECURE) == RANDOM | INSECURE
    {
        return Err(Errno::EINVAL);
    }
    if flags & INSECURE == 0 && !random::is_seeded() {
        if flags & abi::GRND_NONBLOCK != 0 {
            return Err(Errno::EAGAIN);
        }
        random::wait_seeded().map_err(|_| Errno::ERESTARTSYS)?;
    }
    let len = len.min(i32::MAX as usize & !(PAGE_SIZE - 1));
    let mut stream = random::Stream::new();
    let mut piece = [0; RANDOM_PIECE];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(RANDOM_PIECE);
        stream.fill(&mut piece[..n]);
        let at = buf.checked_add(done as u64).ok_or(Errno::EFAULT)?;
        if let Err(e) = copy_to_user(at, &piece[..n]) {
            return if done > 0 { Ok(done as isize) } else { Err(e) };
        }
        done += n;
        // Long requests can be interrupted after the first page (man 2 getrandom).
        if done % PAGE_SIZE == 0 && sched::current().is_interrupted() {
            break;
        }
    }
    Ok(done as isize)
}

/// man 2 getcpu: all memory is one node.
pub fn getcpu(cpu: UserPtr<u32>, node: UserPtr<u32>) -> SyscallResult {
    let now = sched::current().last_cpu();
    if let Some(cpu) = cpu.non_null() {
        cpu.write(now as u32)?;
    }
    if let Some(node) = node.non_null() {
        node.write(0)?;
    }
    Ok(0)
}

/// Numbers of reboot(2).
mod reboot_numbers {
    pub const MAGIC: u32 = 0xfee1_dead;
    pub const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    pub const RESTART: u32 = 0x0123_4567;
    pub const RESTART2: u32 = 0xa1b2_c3d4;
    pub const HALT: u32 = 0xcdef_0123;
    pub const POWER_OFF: u32 = 0x4321_fedc;
    pub const CAD_ON: u32 = 0x89ab_cdef;
    pub const CAD_OFF: u32 = 0;
}

/// man 2 reboot. As on Linux, it does not sync: who calls it has done that.
pub fn reboot(magic: u32, magic2: u32, command: u32) -> SyscallResult {
    use reboot_numbers as n;
    require(CAP_SYS_BOOT)?;
    if magic != n::MAGIC || !n::MAGIC2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    match command {
        n::RESTART | n::RESTART2 | n::HALT | n::POWER_OFF => {}
        n::CAD_ON | n::CAD_OFF => {
            #[cfg(target_os = "none")]
            crate::power::set_ctrl_alt_del(command == n::CAD_ON);
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL),
    }
    #[cfg(target_os = "none")]
    {
        use crate::power;
        match command {
            n::HALT => {
                info!("reboot: halted");
                power::halt()
            }
            n::POWER_OFF => {
                info!("reboot: power off");
                power::off()
            }
            _ => {
                info!("reboot: restart");
                power::restart()
            }
        }
    }
    #[cfg(not(target_os = "none"))]
    Err(Errno::ENOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_is_cut_at_records() {
        let log = b"<6>one\n<6>two\n<6>three\n";
        assert_eq!(whole_records(log, 100, true), (0, 23));
        assert_eq!(whole_records(log, 16, true), (7, 16));
        assert_eq!(whole_records(log, 15, true), (14, 9));
        assert_eq!(whole_records(log, 15, false), (0, 14));
        assert_eq!(whole_records(log, 3, false), (0, 0));
        assert_eq!(whole_records(log, 3, true), (23, 0));
        // The ring overwrote the beginning of the first record.
        assert_eq!(whole_records(b"e\n<6>two\n", 100, true), (2, 7));
        assert_eq!(whole_records(b"", 10, false), (0, 0));
    }
}
