//! Passwords: hashes, and asking for one on the terminal.
//!
//! New hashes are yescrypt (`$y$`), with the cost that crypt(5) recommends: 16 MiB for
//! a moment. Existing ones may be SHA-crypt (`$5$`, `$6$`) as well.

use std::fs::File;
use std::io::{Read as _, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};
use sha_crypt::PasswordVerifier as _;
use yescrypt::PasswordHasher as _;

use crate::{Failure, failure};

/// Longer ones are refused: hashing takes time in proportion.
pub const MAX_LENGTH: usize = 511;

/// Ctrl-C.
const INTERRUPT: u8 = 3;

/// The hash of `password` with a new salt.
pub fn hash(password: &str) -> Result<String, Failure> {
    let mut salt = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut salt))
        .map_err(|error| failure(format!("/dev/urandom: {error}")))?;
    yescrypt::Yescrypt::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map(|hash| hash.as_str().to_owned())
        .map_err(|error| failure(format!("cannot hash: {error}")))
}

/// Whether `password` is the one that `hash`, a field of shadow(5), was made of.
/// Locked, empty and unknown ones fit nothing.
pub fn verify(password: &str, hash: &str) -> bool {
    if password.len() > MAX_LENGTH {
        return false;
    }
    let password = password.as_bytes();
    match hash.get(..3) {
        Some("$y$") => yescrypt::Yescrypt::default()
            .verify_password(password, hash)
            .is_ok(),
        Some("$5$" | "$6$") => sha_crypt::PasswordHash::new(hash).is_ok_and(|hash| {
            let scheme = sha_crypt::ShaCrypt::default();
            scheme.verify_password(password, &hash).is_ok()
        }),
        _ => false,
    }
}

/// Asks for a password: on the terminal, without echo; without a terminal it is
/// a line of standard input. `None` at the end of the input.
pub fn ask(prompt: &str) -> Result<Option<String>, Failure> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    let line = match terminal {
        Ok(mut terminal) => {
            let read = read_hidden(&mut terminal, prompt);
            read.map_err(|error| failure(format!("/dev/tty: {error}")))?
        }
        Err(_) => {
            eprint!("{prompt}");
            let read = read_line(&mut std::io::stdin().lock(), None);
            read.map_err(|error| failure(format!("standard input: {error}")))?
        }
    };
    match line {
        None => Ok(None),
        Some(line) => match String::from_utf8(line) {
            Ok(text) if text.len() <= MAX_LENGTH && !text.contains('\0') => Ok(Some(text)),
            _ => Err(failure("this password is too long, or no UTF-8")),
        },
    }
}

fn read_hidden(terminal: &mut File, prompt: &str) -> std::io::Result<Option<Vec<u8>>> {
    let before = tcgetattr(&*terminal)?;
    let mut hidden = before.clone();
    hidden.local_flags &= !(LocalFlags::ECHO | LocalFlags::ECHONL);
    hidden.local_flags |= LocalFlags::ICANON;
    // Ctrl-C as a signal would leave the terminal without echo: here it ends the
    // line, and is the last character of it.
    hidden.local_flags &= !LocalFlags::ISIG;
    hidden.control_chars[SpecialCharacterIndices::VEOL as usize] = INTERRUPT;
    tcsetattr(&*terminal, SetArg::TCSAFLUSH, &hidden)?;
    let shown = terminal.write_all(prompt.as_bytes());
    let line = shown.and_then(|()| read_line(terminal, Some(INTERRUPT)));
    tcsetattr(&*terminal, SetArg::TCSADRAIN, &before)?;
    terminal.write_all(b"\n")?;
    line
}

/// A line without its end, one byte at a time: what follows is for others.
/// `None` at the end of the input, and for a line with the byte `interrupt`.
fn read_line(
    input: &mut impl std::io::Read,
    interrupt: Option<u8>,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => return Ok(Some(line)),
            Ok(_) if Some(byte[0]) == interrupt => return Ok(None),
            Ok(_) if byte[0] == b'\n' => return Ok(Some(line)),
            Ok(_) if line.len() > MAX_LENGTH => {}
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_fit_their_password_and_differ() {
        let (one, two) = (
            hash("secret").expect("random"),
            hash("secret").expect("random"),
        );
        assert!(one.starts_with("$y$j9T$"), "{one}");
        assert_ne!(one, two);
        assert!(verify("secret", &one) && verify("secret", &two));
        assert!(!verify("Secret", &one) && !verify("", &one));
    }

    #[test]
    fn hashes_of_others() {
        // By `openssl passwd -5` and `-6`.
        let sha256 = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
        let sha512 = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        assert!(verify("Hello world!", sha256) && !verify("Hello world?", sha256));
        assert!(verify("Hello world!", sha512) && !verify("", sha512));
    }

    #[test]
    fn locked_and_broken_fit_nothing() {
        for hash in [
            "",
            "*",
            "!",
            "x",
            "$y$",
            "$6$",
            "$y$j9T$",
            "!$6$a$b",
            "$1$a$b",
            "\u{e9}\u{e9}",
        ] {
            assert!(!verify("", hash) && !verify("x", hash), "{hash}");
        }
    }

    #[test]
    fn lines_end_and_are_limited() {
        let mut input: &[u8] = b"one\n\ntwo\n\x03three";
        let mut next = || read_line(&mut input, Some(3)).expect("no error");
        assert_eq!(next(), Some(b"one".to_vec()));
        assert_eq!(next(), Some(Vec::new()));
        assert_eq!(next(), Some(b"two".to_vec()));
        assert_eq!(next(), None, "interrupted");
        assert_eq!(next(), Some(b"three".to_vec()));
        assert_eq!(next(), None);
        let long = vec![b'x'; 5000];
        let line = read_line(&mut long.as_slice(), None).expect("no error");
        assert_eq!(line.map(|l| l.len()), Some(MAX_LENGTH + 1));
    }
}
