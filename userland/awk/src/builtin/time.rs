//! systime, mktime and strftime.

use std::rc::Rc;

use crate::ast::*;
use crate::interp::{Interp, Res};
use crate::value::{Value, text};

impl<'p> Interp<'p> {
    pub(super) fn strftime(&mut self, args: &'p [Expr]) -> Res<Value> {
        let format = match args.first() {
            Some(format) => self.str(format)?,
            None => Rc::new(b"%a %b %e %H:%M:%S %Z %Y".to_vec()),
        };
        let seconds = match args.get(1) {
            Some(seconds) => self.num(seconds)?,
            None => now(),
        };
        let utc = match args.get(2) {
            Some(utc) => self.eval(utc)?.truth(),
            None => false,
        };
        let zone = if utc {
            jiff::tz::TimeZone::UTC
        } else {
            jiff::tz::TimeZone::system()
        };
        let formatted = jiff::Timestamp::from_second(seconds as i64)
            .and_then(|time| jiff::fmt::strtime::format(&*format, &time.to_zoned(zone)));
        match formatted {
            Ok(out) => Ok(text(out.as_bytes())),
            Err(error) => self.fatal(format!("strftime: {error}")),
        }
    }
}

pub(super) fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs() as f64)
}

/// Seconds of "YYYY MM DD HH MM SS"; parts out of range carry over.
pub(super) fn mktime(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let parts: Vec<i64> = text
        .split_whitespace()
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let [year, month, day, hour, minute, second, ..] = parts[..] else {
        return None;
    };
    let months = year.checked_mul(12)?.checked_add(month - 1)?;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let first =
        jiff::civil::DateTime::new(year.try_into().ok()?, month as i8, 1, 0, 0, 0, 0).ok()?;
    let span = jiff::Span::new()
        .try_days(day - 1)
        .and_then(|s| s.try_hours(hour))
        .and_then(|s| s.try_minutes(minute))
        .and_then(|s| s.try_seconds(second))
        .ok()?;
    let local = first.checked_add(span).ok()?;
    let zoned = local.to_zoned(jiff::tz::TimeZone::system()).ok()?;
    Some(zoned.timestamp().as_second() as f64)
}
