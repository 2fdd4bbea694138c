//! Both directions at once, with poll, until it is over.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{Socket, Type};

use super::Options;
use crate::cli::{Failure, Message as _, OrFail, Outcome};
use crate::sys::{is_terminal, poll, wait_for};

/// How much is taken from one side before the other has had it.
const CHUNK_BYTES: usize = 64 * 1024;

/// Copies both ways until it is over; `first` has come in already.
pub fn relay(options: &Options, socket: Socket, first: Vec<u8>) -> Outcome {
    let datagrams = socket.r#type().map(|t| t == Type::DGRAM).unwrap_or(false);
    let mut out = io::stdout().lock();
    let written = out.write_all(&first).and_then(|()| out.flush());
    written.or_fail_at(1, "write")?;
    socket.set_nonblocking(true).or_fail_at(1, "fcntl")?;
    let mut relay = Relay {
        socket,
        datagrams,
        to_send: Vec::new(),
        input_open: !options.no_input,
        sending: true,
        receiving: true,
        // With -d the sending half stays open: nothing ended.
        quit_at: None,
    };
    let stdin: RawFd = io::stdin().as_raw_fd();
    let input_is_file = io::stdin().lock().is_regular();
    loop {
        if !relay.receiving {
            let more_to_send = relay.input_open || !relay.to_send.is_empty();
            let worth_it = match options.listen {
                true => !is_terminal(stdin),
                false => input_is_file || !relay.to_send.is_empty(),
            };
            if !relay.sending || !more_to_send || !worth_it || options.no_input {
                return Ok(0);
            }
        }
        let want_input = relay.input_open && relay.to_send.is_empty() && relay.sending;
        let mut events = 0;
        if relay.receiving {
            events |= libc::POLLIN;
        }
        if !relay.to_send.is_empty() && relay.sending {
            events |= libc::POLLOUT;
        }
        let mut fds = [
            wait_for(
                if events == 0 {
                    -1
                } else {
                    relay.socket.as_raw_fd()
                },
                events,
            ),
            wait_for(if want_input { stdin } else { -1 }, libc::POLLIN),
        ];
        let silence = options.wait.map(|limit| Instant::now() + limit);
        let until = match (silence, relay.quit_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let ready = poll(&mut fds, until).or_fail_at(1, "poll")?;
        let now = Instant::now();
        if ready == 0 && until.is_some_and(|until| now >= until) {
            return Ok(0);
        }
        if fds[0].revents & libc::POLLOUT != 0 {
            relay.send().or_fail_at(1, "write")?;
        }
        // An error is told by the next read.
        if relay.receiving && fds[0].revents & !libc::POLLOUT != 0 {
            relay.receive(&mut out).or_fail_at(1, "read")?;
        }
        if fds[1].revents != 0 {
            relay.read_input(options.quit)?;
        }
    }
}

/// Whether standard input is a file that ends.
trait IsRegular {
    fn is_regular(&self) -> bool;
}

impl IsRegular for io::StdinLock<'_> {
    fn is_regular(&self) -> bool {
        // SAFETY: fstat fills in `stat`, of which all zeroes is a valid one.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            libc::fstat(self.as_raw_fd(), &raw mut stat) == 0
                && stat.st_mode & libc::S_IFMT == libc::S_IFREG
        }
    }
}

struct Relay {
    socket: Socket,
    datagrams: bool,
    to_send: Vec<u8>,
    input_open: bool,
    sending: bool,
    receiving: bool,
    quit_at: Option<Instant>,
}

impl Relay {
    fn send(&mut self) -> io::Result<()> {
        match self
            .socket
            .send_with_flags(&self.to_send, libc::MSG_NOSIGNAL)
        {
            Ok(count) => {
                self.to_send.drain(..count);
                self.end_sending_when_due();
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            // Nobody is there any more; what they said may still be on its way.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.sending = false;
                self.input_open = false;
                self.to_send.clear();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn receive(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        match (&self.socket).read(&mut buffer) {
            Ok(0) if !self.datagrams => self.receiving = false,
            Ok(count) => {
                out.write_all(&buffer[..count])?;
                out.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn read_input(&mut self, quit: Option<Duration>) -> Result<(), Failure> {
        // One datagram carries at most this.
        let limit = if self.datagrams {
            16 * 1024
        } else {
            CHUNK_BYTES
        };
        self.to_send.resize(limit, 0);
        // Past std's buffer, which would hide bytes from poll.
        // SAFETY: the buffer is writable for `limit` bytes.
        let count = unsafe { libc::read(0, self.to_send.as_mut_ptr().cast(), limit) };
        let error = io::Error::last_os_error();
        self.to_send.truncate(usize::try_from(count).unwrap_or(0));
        match count {
            0 => {
                self.input_open = false;
                self.quit_at = quit.map(|quit| Instant::now() + quit);
                self.end_sending_when_due();
            }
            ..0 if error.kind() != io::ErrorKind::Interrupted => {
                return Err(Failure::new(1, format!("stdin: {}", error.message())));
            }
            _ => {}
        }
        Ok(())
    }

    /// Closes the sending half once all input has gone out.
    fn end_sending_when_due(&mut self) {
        if !self.input_open && self.to_send.is_empty() && self.sending && !self.datagrams {
            self.sending = false;
            // Fails when the other side has gone: nothing is left to tell it.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }
}
