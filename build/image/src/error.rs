//! One error type: a sentence for the person who builds.

use std::fmt;
use std::path::Path;

/// What went wrong, in words.
#[derive(Debug)]
pub struct Error(String);

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that says `text`.
    pub fn text(text: impl Into<String>) -> Self {
        Error(text.into())
    }

    /// An error about a file.
    pub fn file(path: &Path, error: impl fmt::Display) -> Self {
        Error(format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Self {
        Error(error.to_string())
    }
}
