//! Archives and compressed files: gzip and its kin ([`squeeze`]) over the formats of
//! [`codec`]; tar ([`tar`]) and zip ([`zip`]) on top of them.

mod codec;
mod listing;
mod pattern;
mod squeeze;
mod tar;
mod zip;

pub use codec::plain;
pub use squeeze::{
    bunzip2, bzcat, bzip2, gunzip, gzip, lzcat, unlzma, unxz, unzstd, xz, xzcat, zcat, zstd,
    zstdcat,
};
pub use tar::tar;
pub use zip::{unzip, zip};

use super::Args;
