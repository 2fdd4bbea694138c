//! Where curl's output goes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::Trouble;
use crate::cli::Message as _;

/// Where output goes; a file is opened when the first byte comes.
pub struct Sink {
    pub path: Option<PathBuf>,
    pub file: Option<File>,
    pub create_folders: bool,
}

impl Sink {
    fn open(&mut self, append: bool) -> Result<Option<&mut File>, Trouble> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        if self.file.is_none() {
            let failed = |error: io::Error| {
                let (path, why) = (path.display(), error.message());
                Trouble::new(23, format!("Failed to open the file {path}: {why}"))
            };
            if let Some(folder) = path.parent().filter(|_| self.create_folders) {
                std::fs::create_dir_all(folder).map_err(failed)?;
            }
            let file = match append {
                true => OpenOptions::new().append(true).create(true).open(path),
                false => File::create(path),
            };
            self.file = Some(file.map_err(failed)?);
        }
        Ok(self.file.as_mut())
    }

    pub fn write(&mut self, bytes: &[u8], append: bool) -> Result<(), Trouble> {
        let written = match self.open(append)? {
            Some(file) => file.write_all(bytes),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
        };
        written.map_err(|error| {
            Trouble::new(
                23,
                format!("Failure writing output to destination: {}", error.message()),
            )
        })
    }

    /// An empty body makes an empty file.
    pub fn finish(&mut self, append: bool) -> Result<(), Trouble> {
        self.open(append).map(|_| ())
    }
}
