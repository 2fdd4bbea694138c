//! The kernel log: a ring of time-stamped records that `dmesg` reads, mirrored to a console
//! sink. Callable from any context, interrupt handlers and panics included.
//!
//! Not responsible for devices: a driver registers itself with [`set_sink`]; until then
//! records only go to the ring. Time comes from [`set_clock`].

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

/// Severity of a record, with syslog(2)'s numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Action must be taken: the kernel is about to stop.
    Emergency = 0,
    /// Something failed.
    Error = 3,
    /// Something looks wrong.
    Warning = 4,
    /// Boot stages and other normal events.
    Info = 6,
    /// Detail for developers.
    Debug = 7,
}

/// Bytes the ring holds; old records are overwritten.
pub const RING_BYTES: usize = 128 * 1024;

/// A record being read back: see [`read_from`].
struct Ring {
    bytes: [u8; RING_BYTES],
    /// Bytes ever written; `head % RING_BYTES` is the next place.
    head: u64,
}

/// Guards `RING`. Taken with interrupts off by [`with_ring`] only, never nested.
static LOCK: AtomicBool = AtomicBool::new(false);
static mut RING: Ring = Ring {
    bytes: [0; RING_BYTES],
    head: 0,
};

static SINK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
/// The screen, which shows what the console shows.
static SCREEN: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static CLOCK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static CONSOLE_LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Where records are mirrored: must be callable from any context and must not log.
pub type Sink = fn(&str);
/// Microseconds since boot.
pub type Clock = fn() -> u64;

/// Registers the console that mirrors records.
pub fn set_sink(sink: Sink) {
    SINK.store(sink as *mut (), Ordering::Release);
}

/// Registers a second console that mirrors the same records, the screen.
pub fn set_screen(sink: Sink) {
    SCREEN.store(sink as *mut (), Ordering::Release);
}

/// Registers the clock that stamps records.
pub fn set_clock(clock: Clock) {
    CLOCK.store(clock as *mut (), Ordering::Release);
}

/// Records of this level or worse are mirrored to the console.
pub fn set_console_level(level: u8) {
    CONSOLE_LEVEL.store(level, Ordering::Relaxed);
}

/// Least severe level that is mirrored to the console.
pub fn console_level() -> u8 {
    CONSOLE_LEVEL.load(Ordering::Relaxed)
}

/// Set by each record, for those who wait for one: a record may come where nobody can be
/// woken, so the scheduler looks here.
static NEWS: AtomicBool = AtomicBool::new(false);

/// Whether a record was added since the last call.
#[inline]
pub fn take_news() -> bool {
    NEWS.load(Ordering::Relaxed) && NEWS.swap(false, Ordering::AcqRel)
}

/// Set by a panic: from then on the lock is waited for only briefly, because its holder may
/// have been stopped.
static PANICKING: AtomicBool = AtomicBool::new(false);

/// A panic began: records get through even if a stopped CPU holds the lock.
pub fn enter_panic() {
    PANICKING.store(true, Ordering::Release);
}

fn with_ring<R>(f: impl FnOnce(&mut Ring) -> R) -> R {
    let irq = crate::arch::irq_save();
    let mut turns = 0u32;
    while LOCK
        .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        crate::arch::cpu::relax();
        turns += 1;
        if turns > 1_000_000 && PANICKING.load(Ordering::Acquire) {
            break;
        }
    }
    let ring: *mut Ring = &raw mut RING;
    // SAFETY: LOCK is held, so this is the only reference; interrupts are off, so no handler
    // on this CPU can ask for it again. In a panic the holder was stopped.
    let result = f(unsafe { &mut *ring });
    LOCK.store(false, Ordering::Release);
    crate::arch::irq_restore(irq);
    result
}

/// Formats into a bounded line: what does not fit is cut. Control characters are spelled out
/// (`\x0a`): a record quotes names that programs chose, which must not begin another record or
/// drive the console.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            if c.is_control() && c != '\t' {
                write!(self, "\\x{:02x}", u32::from(c))?;
                continue;
            }
            let n = c.len_utf8();
            if self.len + n > self.bytes.len() - 1 {
                return Ok(());
            }
            c.encode_utf8(&mut self.bytes[self.len..self.len + n]);
            self.len += n;
        }
        Ok(())
    }
}

/// Adds a record. Use the macros (`info!`, `warn!`...) instead.
pub fn record(level: Level, args: fmt::Arguments<'_>) {
    record_as(level as u32, args);
}

/// Adds a record with a priority of syslog(3): a level, and a facility that is not the kernel's.
pub fn record_as(priority: u32, args: fmt::Arguments<'_>) {
    let clock = CLOCK.load(Ordering::Acquire);
    let us = if clock.is_null() {
        0
    } else {
        // SAFETY: only `set_clock` stores here, and it stores a `Clock`.
        (unsafe { core::mem::transmute::<*mut (), Clock>(clock) })()
    };
    let mut line = Line {
        bytes: [0; 512],
        len: 0,
    };
    // `Line` never fails; a cut line is better than none.
    let _ = write!(
        line,
        "<{}>[{:5}.{:06}] {}",
        priority,
        us / 1_000_000,
        us % 1_000_000,
        args
    );
    line.bytes[line.len] = b'\n';
    line.len += 1;
    let text = &line.bytes[..line.len];
    with_ring(|ring| {
        for &b in text {
            let at = (ring.head % RING_BYTES as u64) as usize;
            ring.bytes[at] = b;
            ring.head += 1;
        }
    });
    NEWS.store(true, Ordering::Release);
    if priority & 7 > u32::from(CONSOLE_LEVEL.load(Ordering::Relaxed)) {
        return;
    }
    // The "<n>" prefix is for readers of the ring only.
    let shown = core::str::from_utf8(text).ok();
    let Some((_, text)) = shown.and_then(|text| text.split_once('>')) else {
        return;
    };
    for sink in [&SINK, &SCREEN] {
        let sink = sink.load(Ordering::Acquire);
        if !sink.is_null() {
            // SAFETY: only `set_sink` and `set_screen` store here, and they store a `Sink`.
            (unsafe { core::mem::transmute::<*mut (), Sink>(sink) })(text);
        }
    }
}

/// Copies bytes of the ring from stream position `from` on; returns the position of the first
/// byte copied (later than `from` when old records were overwritten) and how many.
pub fn read_from(from: u64, out: &mut [u8]) -> (u64, usize) {
    with_ring(|ring| {
        let oldest = ring.head.saturating_sub(RING_BYTES as u64);
        let start = from.max(oldest).min(ring.head);
        let n = ((ring.head - start) as usize).min(out.len());
        for (i, b) in out[..n].iter_mut().enumerate() {
            *b = ring.bytes[((start + i as u64) % RING_BYTES as u64) as usize];
        }
        (start, n)
    })
}

/// Stream position after the newest record.
pub fn head() -> u64 {
    with_ring(|ring| ring.head)
}

/// Logs a failure that stops the kernel or a subsystem.
#[macro_export]
macro_rules! emergency { ($($t:tt)*) => { $crate::log::record($crate::log::Level::Emergency, format_args!($($t)*)) } }
/// Logs a failure.
#[macro_export]
macro_rules! error { ($($t:tt)*) => { $crate::log::record($crate::log::Level::Error, format_args!($($t)*)) } }
/// Logs something suspicious.
#[macro_export]
macro_rules! warn { ($($t:tt)*) => { $crate::log::record($crate::log::Level::Warning, format_args!($($t)*)) } }
/// Logs a normal event.
#[macro_export]
macro_rules! info { ($($t:tt)*) => { $crate::log::record($crate::log::Level::Info, format_args!($($t)*)) } }
/// Logs detail for developers.
#[macro_export]
macro_rules! debug { ($($t:tt)*) => { $crate::log::record($crate::log::Level::Debug, format_args!($($t)*)) } }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_it_quotes() {
        let from = head();
        let name = "evil\n<0>[    9.000000] forged\x1b[2J\u{9b}";
        record(Level::Debug, format_args!("comm {name}\tends"));
        let mut out = [0; 4096];
        let (_, n) = read_from(from, &mut out);
        let text = core::str::from_utf8(&out[..n]).unwrap();
        let line = text.lines().find(|l| l.contains("comm evil")).unwrap();
        let quoted = "comm evil\\x0a<0>[    9.000000] forged\\x1b[2J\\x9b\tends";
        assert!(line.ends_with(quoted), "{line:?}");
    }
}
