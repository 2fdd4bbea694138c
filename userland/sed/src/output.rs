//! Where lines go: standard output, files of `w`, and the file that -i makes anew.

use std::fs::File;
use std::io::{self, BufWriter, Write};

pub struct Output {
    to: BufWriter<Box<dyn Write>>,
    /// The last line had no newline: one comes before anything else does.
    unfinished: bool,
    unbuffered: bool,
    /// The byte that ends lines.
    end: u8,
}

impl Output {
    pub fn new(to: Box<dyn Write>, end: u8, unbuffered: bool) -> Self {
        Output {
            to: BufWriter::with_capacity(64 * 1024, to),
            unfinished: false,
            unbuffered,
            end,
        }
    }

    pub fn file(path: &std::path::Path, end: u8) -> io::Result<Self> {
        // Others may read it while this runs: tests and scripts do.
        Ok(Self::new(Box::new(File::create(path)?), end, true))
    }

    /// A line, with its end if it has one.
    pub fn line(&mut self, line: &[u8], ended: bool) -> io::Result<()> {
        self.finish_line()?;
        self.to.write_all(line)?;
        if ended {
            self.to.write_all(&[self.end])?;
        } else {
            self.unfinished = true;
        }
        self.settle()
    }

    /// Text that ends as it ends.
    pub fn text(&mut self, text: &[u8]) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.finish_line()?;
        self.to.write_all(text)?;
        self.settle()
    }

    fn finish_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unfinished) {
            self.to.write_all(&[self.end])?;
        }
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        if self.unbuffered {
            self.to.flush()
        } else {
            Ok(())
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
