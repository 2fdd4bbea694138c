//! zip and unzip, with the options of Info-ZIP's that people use.

mod pack;
mod unpack;

pub use pack::zip;
pub use unpack::unzip;

use super::Args;

/// An error of the crate in words for people.
fn explain(error: ::zip::result::ZipError) -> String {
    match error {
        ::zip::result::ZipError::Io(error) => super::codec::explain(&error),
        other => other.to_string(),
    }
}
