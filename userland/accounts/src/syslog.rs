//! Messages for the system log (RFC 3164, over /dev/log).

use std::os::unix::net::UnixDatagram;

/// LOG_AUTHPRIV, LOG_NOTICE: syslog(3).
const PRIORITY: u32 = 10 * 8 + 5;

/// Notes what happened. Without a log the command goes on.
pub fn note(command: &str, message: &str) {
    let text = format!("<{PRIORITY}>{command}[{}]: {message}", std::process::id());
    let sent = UnixDatagram::unbound().and_then(|socket| {
        // A log that is not read must not hold up a login.
        socket.set_nonblocking(true)?;
        socket.send_to(text.as_bytes(), "/dev/log")
    });
    drop(sent);
}
