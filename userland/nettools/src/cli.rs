//! What all programs share: how they fail, how they read numbers and times.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::time::Duration;

/// Why a program ends early: the line for the user and the exit status.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub status: i32,
}

/// What a program comes to: its exit status.
pub type Outcome = Result<i32, Failure>;

impl Failure {
    pub fn new(status: i32, message: impl Display) -> Failure {
        Failure {
            message: message.to_string(),
            status,
        }
    }
}

/// Gives an error the exit status of its program.
pub trait OrFail<T> {
    fn or_fail(self, status: i32) -> Result<T, Failure>;
    /// The same, with `what` and a colon before the message.
    fn or_fail_at(self, status: i32, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Message> OrFail<T> for Result<T, E> {
    fn or_fail(self, status: i32) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(status, error.message()))
    }

    fn or_fail_at(self, status: i32, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(status, format!("{what}: {}", error.message())))
    }
}

/// How an error is told to the user.
pub trait Message {
    fn message(&self) -> String;
}

impl Message for lexopt::Error {
    fn message(&self) -> String {
        self.to_string()
    }
}

impl Message for String {
    fn message(&self) -> String {
        self.clone()
    }
}

impl Message for io::Error {
    /// As strerror(3) says it, without Rust's "(os error 2)".
    fn message(&self) -> String {
        let text = self.to_string();
        match text.find(" (os error ") {
            Some(at) => text[..at].to_owned(),
            None => text,
        }
    }
}

/// Ends a program: prints a failure under its name; returns the exit status.
pub fn finish(program: &str, outcome: Outcome) -> i32 {
    match outcome {
        Ok(status) => status,
        Err(failure) => {
            eprintln!("{program}: {}", failure.message);
            failure.status
        }
    }
}

/// A parser over `args`, whose first is the program's name.
pub fn parser(args: Vec<OsString>) -> lexopt::Parser {
    lexopt::Parser::from_args(args.into_iter().skip(1))
}

/// The value of the option that `args` just gave.
pub fn text(args: &mut lexopt::Parser, status: i32) -> Result<String, Failure> {
    let value = args.value().or_fail(status)?;
    lexopt::ValueExt::string(value).or_fail(status)
}

/// A whole number within `range`.
pub fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        Ok(_) => Err(format!(
            "invalid argument: '{text}': out of range: {} <= value <= {}",
            range.start(),
            range.end()
        )),
        Err(_) => Err(format!("invalid argument: '{text}'")),
    }
}

/// Seconds, with a fraction if need be; at most a year.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=31_536_000.0).contains(&value) => Ok(Duration::from_secs_f64(value)),
        _ => Err(format!("invalid number of seconds: '{text}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_are_told_plainly() {
        assert_eq!(
            io::Error::from_raw_os_error(libc::ECONNREFUSED).message(),
            "Connection refused"
        );
        assert_eq!(io::Error::other("odd").message(), "odd");
    }

    #[test]
    fn numbers_keep_to_their_range() {
        assert_eq!(number("5", 1..=9), Ok(5));
        assert!(number("0", 1..=9).is_err());
        assert!(number("-1", 0..=9).is_err());
        assert!(number("1x", 0..=9).is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("nan").is_err() && seconds("-1").is_err() && seconds("1e99").is_err());
    }
}
