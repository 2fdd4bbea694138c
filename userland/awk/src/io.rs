//! Reading records, and the files and commands that print and getline talk to.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;

use oxbow_regex::Regex;

/// What separates records.
pub enum Separator {
    Byte(u8),
    /// Blank lines.
    Paragraph,
    Regex(Rc<Regex>),
}

/// A source of records.
pub struct Input {
    source: Box<dyn Read>,
    child: Option<Child>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    eof: bool,
}

const CHUNK: usize = 64 * 1024;

impl Input {
    pub fn new(source: Box<dyn Read>) -> Self {
        Input {
            source,
            child: None,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            eof: false,
        }
    }

    pub fn file(path: &[u8]) -> io::Result<Self> {
        let file = File::open(as_path(path))?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Self::new(Box::new(file)))
    }

    pub fn stdin() -> io::Result<Self> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self::new(Box::new(File::from(stdin))))
    }

    pub fn command(command: &[u8]) -> io::Result<Self> {
        let mut child = shell(command).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut input = Self::new(Box::new(output));
        input.child = Some(child);
        Ok(input)
    }

    /// Closes; the status of a command.
    pub fn close(self) -> io::Result<Option<ExitStatus>> {
        drop(self.source);
        self.child.map(|mut child| child.wait()).transpose()
    }

    /// Reads more behind what is there; false at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        if self.eof {
            return Ok(false);
        }
        if self.start > 0 && (self.start == self.end || self.start > self.buffer.len() / 2) {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < CHUNK / 2 {
            let larger = (self.buffer.len() * 2).max(CHUNK);
            self.buffer.resize(larger, 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(0) => {
                    self.eof = true;
                    return Ok(false);
                }
                Ok(count) => {
                    self.end += count;
                    return Ok(true);
                }
            }
        }
    }

    fn pending(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Puts the next record into `record` and what ended it into `terminator`; false at the end.
    pub fn record(
        &mut self,
        separator: &Separator,
        record: &mut Vec<u8>,
        terminator: &mut Vec<u8>,
    ) -> io::Result<bool> {
        record.clear();
        terminator.clear();
        match separator {
            Separator::Byte(byte) => {
                let mut searched = 0;
                loop {
                    if let Some(at) = memchr::memchr(*byte, &self.pending()[searched..]) {
                        let at = searched + at;
                        record.extend_from_slice(&self.pending()[..at]);
                        terminator.push(*byte);
                        self.start += at + 1;
                        return Ok(true);
                    }
                    searched = self.pending().len();
                    if !self.fill()? {
                        return Ok(self.rest(record));
                    }
                }
            }
            Separator::Paragraph => self.paragraph(record, terminator),
            Separator::Regex(regex) => loop {
                let pending = self.pending();
                // A match at the end of what has been read may go on in what has not.
                let found = regex.find(pending, 0).filter(|(from, to)| to > from);
                if let Some((from, to)) = found.filter(|(_, to)| self.eof || *to < pending.len()) {
                    record.extend_from_slice(&pending[..from]);
                    terminator.extend_from_slice(&pending[from..to]);
                    self.start += to;
                    return Ok(true);
                }
                if !self.fill()? && found.is_none() {
                    // The last newline of a file is no part of its last record.
                    return Ok(self.rest(record));
                }
            },
        }
    }

    fn rest(&mut self, record: &mut Vec<u8>) -> bool {
        let any = self.start < self.end;
        record.extend_from_slice(&self.buffer[self.start..self.end]);
        self.start = self.end;
        any
    }

    fn paragraph(&mut self, record: &mut Vec<u8>, terminator: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let newlines = self.pending().iter().take_while(|b| **b == b'\n').count();
            self.start += newlines;
            if !self.pending().is_empty() || !self.fill()? {
                break;
            }
        }
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.pending()[searched..], b"\n\n") {
                let at = searched + at;
                record.extend_from_slice(&self.pending()[..at]);
                self.start += at;
                // Newlines that have been read already belong to this end.
                let newlines = self.pending().iter().take_while(|b| **b == b'\n').count();
                terminator.resize(newlines, b'\n');
                self.start += newlines;
                return Ok(true);
            }
            searched = self.pending().len().saturating_sub(1);
            if !self.fill()? {
                let any = self.rest(record);
                if record.last() == Some(&b'\n') {
                    record.pop();
                    terminator.push(b'\n');
                }
                return Ok(any);
            }
        }
    }
}

/// A destination of print.
pub struct Output {
    to: BufWriter<Box<dyn Write>>,
    child: Option<Child>,
    /// Shown to somebody who waits for it.
    interactive: bool,
}

impl Output {
    fn new(to: Box<dyn Write>, child: Option<Child>, interactive: bool) -> Self {
        Output {
            to: BufWriter::with_capacity(CHUNK, to),
            child,
            interactive,
        }
    }

    pub fn stdout() -> io::Result<Self> {
        let terminal = io::IsTerminal::is_terminal(&io::stdout());
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::new(Box::new(file), None, terminal))
    }

    pub fn stderr() -> Self {
        Self::new(Box::new(io::stderr()), None, true)
    }

    pub fn file(path: &[u8], append: bool) -> io::Result<Self> {
        let mut options = File::options();
        options
            .write(true)
            .create(true)
            .append(append)
            .truncate(!append);
        Ok(Self::new(
            Box::new(options.open(as_path(path))?),
            None,
            false,
        ))
    }

    pub fn command(command: &[u8]) -> io::Result<Self> {
        let mut child = shell(command).stdin(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self::new(Box::new(input), Some(child), false))
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        if self.interactive {
            self.to.flush()
        } else {
            Ok(())
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// Writes what is left and closes; the status of a command.
    pub fn close(mut self) -> io::Result<Option<ExitStatus>> {
        let flushed = self.to.flush();
        // What could not be written now cannot be written later.
        let (to, _) = self.to.into_parts();
        drop(to);
        let status = self.child.map(|mut child| child.wait()).transpose();
        flushed.and(status)
    }
}

pub fn shell(command: &[u8]) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(as_path(command));
    shell
}

pub fn as_path(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// An error as the C library words it.
pub fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::IsADirectory {
        return "Is a directory".to_owned();
    }
    let text = error.to_string();
    text.split_once(" (os error")
        .map_or(text.clone(), |(text, _)| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time, as a pipe may.
    struct Slow(Vec<u8>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(3).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    fn records(text: &str, separator: Separator) -> Vec<String> {
        let mut input = Input::new(Box::new(Slow(text.as_bytes().to_vec())));
        let (mut record, mut terminator) = (Vec::new(), Vec::new());
        let mut all = Vec::new();
        while input
            .record(&separator, &mut record, &mut terminator)
            .unwrap()
        {
            all.push(String::from_utf8_lossy(&record).into_owned());
        }
        all
    }

    #[test]
    fn records_end_where_their_separator_is() {
        assert_eq!(
            records("a\n\nlong line\nend", Separator::Byte(b'\n')),
            ["a", "", "long line", "end"]
        );
        assert_eq!(
            records("\n\na\nb\n\n\n\nc\n\n", Separator::Paragraph),
            ["a\nb", "c"]
        );
        let regex = Rc::new(crate::compile(b"--+", true).unwrap());
        assert_eq!(
            records("one-----two--3", Separator::Regex(regex)),
            ["one", "two", "3"]
        );
        assert_eq!(records("", Separator::Byte(b'\n')), [""; 0]);
    }
}
