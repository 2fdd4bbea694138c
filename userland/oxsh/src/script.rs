//! Commands from a standard input that is no terminal.
//!
//! Like every shell, oxsh must not read past the command it is about to run:
//! the command may itself read standard input (`cat`, `read`, `ssh`). So input
//! is taken a byte at a time from a pipe, and in blocks with a seek back from a
//! file, and each command runs as soon as its last line is there.

use std::io::{self, Read as _};
use std::os::fd::{BorrowedFd, OwnedFd};

use brush_core::openfiles::Stream;
use brush_core::sys::poll::InputWait;
use nix::unistd::{Whence, lseek};

use crate::Shell;

/// Reads and runs commands until the input ends or a command exits the shell.
pub async fn run_stdin(shell: &mut Shell) -> Result<(), brush_core::Error> {
    let mut input = LineInput::new();
    let params = shell.default_exec_params();
    let source = brush_core::SourceInfo::from("stdin");
    let mut command = String::new();
    loop {
        let more = input.read_line(&mut command).unwrap_or(false);
        if more && !is_complete(shell, &command) {
            continue;
        }
        if !command.trim().is_empty() {
            let lines = command.lines().count();
            let result = shell
                .run_string(std::mem::take(&mut command), &source, &params)
                .await?;
            if result.is_return_or_exit() {
                break;
            }
            shell.increment_interactive_line_offset(lines);
        }
        command.clear();
        if !more {
            break;
        }
    }
    shell.on_exit().await
}

/// Whether `text` ends with a complete command, right or wrong; if not, the
/// next line belongs to it.
pub fn is_complete(shell: &Shell, text: &str) -> bool {
    if ends_in_continuation(text) {
        return false;
    }
    match shell.parse_string(text) {
        Err(brush_parser::ParseError::Tokenizing { inner, .. }) => !inner.is_incomplete(),
        Err(brush_parser::ParseError::ParsingAtEndOfInput) => false,
        _ => true,
    }
}

/// Whether the last line ends in an unescaped backslash. (Within single quotes
/// the parser has the last word; asking for one more line is then right too.)
fn ends_in_continuation(text: &str) -> bool {
    let Some(line) = text.strip_suffix('\n') else {
        return false;
    };
    let backslashes = line.bytes().rev().take_while(|b| *b == b'\\').count();
    backslashes % 2 == 1
}

/// Standard input as the shell's builtins see it: unbuffered, so that what
/// `read` does not take is there for the next command. (The one in the standard
/// library takes 8 KiB at a time.)
#[derive(Clone, Copy)]
pub struct RawStdin;

impl io::Read for RawStdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match nix::unistd::read(io::stdin(), buffer) {
                // A reader that is to unwind hears of it.
                Err(nix::errno::Errno::EINTR) if !brush_core::tasks::is_interrupted() => {}
                result => return Ok(result?),
            }
        }
    }
}

impl io::Write for RawStdin {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(io::stdin(), buffer)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for RawStdin {
    fn clone_box(&self) -> Box<dyn Stream> {
        Box::new(*self)
    }

    fn try_clone_to_owned(&self) -> Result<OwnedFd, brush_core::Error> {
        Ok(STDIN.try_clone_to_owned()?)
    }

    fn try_borrow_as_fd(&self) -> Result<BorrowedFd<'_>, brush_core::Error> {
        Ok(STDIN)
    }
}

// SAFETY: descriptor 0 is never closed by this process.
const STDIN: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(0) };

/// Standard input, line by line, never read beyond the line's end.
struct LineInput {
    seekable: bool,
    wait: InputWait,
}

impl LineInput {
    fn new() -> Self {
        let seekable = lseek(STDIN, 0, Whence::SeekCur).is_ok();
        Self {
            seekable,
            wait: InputWait::default(),
        }
    }

    /// Appends the next line to `text`; `false` at the end of the input.
    /// Bytes that are not UTF-8 are replaced, as brush works on strings.
    fn read_line(&mut self, text: &mut String) -> io::Result<bool> {
        let mut line = Vec::new();
        let mut block = [0u8; 512];
        let want = if self.seekable { block.len() } else { 1 };
        loop {
            self.wait.wait(STDIN, None)?;
            let count = RawStdin.read(&mut block[..want])?;
            if count == 0 {
                break;
            }
            let end = block[..count].iter().position(|b| *b == b'\n');
            let used = end.map_or(count, |at| at + 1);
            line.extend_from_slice(&block[..used]);
            if used < count {
                let back = (count - used) as i64;
                lseek(STDIN, -back, Whence::SeekCur)?;
            }
            if end.is_some() {
                break;
            }
        }
        text.push_str(&String::from_utf8_lossy(&line));
        Ok(!line.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::ends_in_continuation;

    #[test]
    fn continuation_needs_an_odd_number_of_backslashes() {
        assert!(ends_in_continuation("echo a \\\n"));
        assert!(!ends_in_continuation("echo a \\\\\n"));
        assert!(!ends_in_continuation("echo a\n"));
        assert!(!ends_in_continuation("echo a \\"));
    }
}
