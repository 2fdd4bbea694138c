//! The CMOS real-time clock (MC146818 and its heirs): where wall time comes from at boot.
//! It is assumed to run in UTC, as virtual machines' do.
#![cfg_attr(
    not(any(target_os = "none", test)),
    allow(dead_code, reason = "only the bare target has the clock")
)]

/// The clock's registers of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registers {
    seconds: u8,
    minutes: u8,
    hours: u8,
    day: u8,
    month: u8,
    year: u8,
    /// Register B: format bits.
    format: u8,
}

/// Register B: binary instead of BCD.
const BINARY: u8 = 1 << 2;
/// Register B: 24 hours.
const HOURS_24: u8 = 1 << 1;
/// Hours register in 12-hour format: afternoon.
const PM: u8 = 1 << 7;

/// Days from 1970-01-01 to a date of the Gregorian calendar, `month` and `day` from 1.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    // Years start in March: the leap day comes last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year =
        (153 * (i64::from(month) + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Seconds since 1970-01-01 UTC; `None` when the registers hold no date.
fn decode(r: Registers) -> Option<u64> {
    let number = |v: u8| {
        if r.format & BINARY != 0 {
            Some(v)
        } else {
            (v & 0xf < 10 && v >> 4 < 10).then_some((v >> 4) * 10 + (v & 0xf))
        }
    };
    let mut hours = number(r.hours & !PM)?;
    if r.format & HOURS_24 == 0 {
        // 12, 1, ... 11.
        hours = hours % 12 + if r.hours & PM != 0 { 12 } else { 0 };
    } else if r.hours & PM != 0 {
        return None;
    }
    let (seconds, minutes) = (number(r.seconds)?, number(r.minutes)?);
    let (day, month, year) = (number(r.day)?, number(r.month)?, number(r.year)?);
    let sane = seconds < 60
        && minutes < 60
        && hours < 24
        && (1..=31).contains(&day)
        && (1..=12).contains(&month)
        && year < 100;
    if !sane {
        return None;
    }
    // The century register is not standard: two digits count from 2000.
    let days = days_from_civil(2000 + i64::from(year), month.into(), day.into());
    let time = u64::from(hours) * 3600 + u64::from(minutes) * 60 + u64::from(seconds);
    Some(u64::try_from(days).ok()? * 86_400 + time)
}

/// Reads the clock: seconds since 1970-01-01 UTC; `None` when there is none or it shows
/// nonsense.
#[cfg(target_os = "none")]
pub fn read() -> Option<u64> {
    let mut last = None;
    // Between two equal readings no update can have come (the clock updates once a second).
    for _ in 0..10 {
        let now = registers();
        if last == Some(now) {
            return decode(now);
        }
        last = Some(now);
    }
    None
}

#[cfg(target_os = "none")]
fn registers() -> Registers {
    use crate::arch::regs::{inb, outb};
    let reg = |index: u8| {
        // SAFETY: the CMOS ports; NMI stays enabled (bit 7 is 0). Boot is single-threaded.
        unsafe {
            outb(0x70, index);
            inb(0x71)
        }
    };
    // Register A, bit 7: an update is under way, for 2 ms at most.
    for _ in 0..10_000 {
        if reg(0x0a) & 0x80 == 0 {
            break;
        }
    }
    Registers {
        seconds: reg(0),
        minutes: reg(2),
        hours: reg(4),
        day: reg(7),
        month: reg(8),
        year: reg(9),
        format: reg(0x0b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar() {
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2000, 3, 1), 11_017);
        assert_eq!(days_from_civil(2024, 2, 29), 19_782);
        assert_eq!(days_from_civil(2100, 3, 1), 47_541);
    }

    #[test]
    fn both_formats_agree() {
        // 2026-11-20 22:05:09 UTC.
        let bcd = Registers {
            seconds: 0x09,
            minutes: 0x05,
            hours: 0x22,
            day: 0x20,
            month: 0x11,
            year: 0x26,
            format: HOURS_24,
        };
        let binary = Registers {
            seconds: 9,
            minutes: 5,
            hours: PM | 10,
            day: 20,
            month: 11,
            year: 26,
            format: BINARY,
        };
        assert_eq!(decode(bcd), Some(1_795_212_309));
        assert_eq!(decode(binary), Some(1_795_212_309));
        let midnight = Registers {
            hours: 0x12,
            format: 0,
            ..bcd
        };
        assert_eq!(decode(midnight), Some(1_795_212_309 - 22 * 3600));
    }

    #[test]
    fn nonsense_is_refused() {
        let none = Registers {
            seconds: 0xff,
            minutes: 0xff,
            hours: 0xff,
            day: 0xff,
            month: 0xff,
            year: 0xff,
            format: 0xff,
        };
        assert_eq!(decode(none), None);
        assert_eq!(
            decode(Registers {
                day: 0,
                format: 0,
                ..none
            }),
            None
        );
    }
}
