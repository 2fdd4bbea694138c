//! The processes of a service: all that are in the session it started.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The processes in session `session` that have not ended.
pub fn members(session: i32) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            live_session(&stat) == Some(session)
        })
        .map(Pid::from_raw)
        .collect()
}

/// The session in a line of `/proc/PID/stat`, unless the process has ended.
fn live_session(stat: &str) -> Option<i32> {
    // The name in parentheses may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(2)?.parse().ok()
}

/// Sends `signal` to every process of `session`, and makes it run to take it.
pub fn signal(session: i32, signal: Signal) {
    let leader = Pid::from_raw(session);
    let others = members(session);
    for signal in [signal, Signal::SIGCONT] {
        // At once to its first process group; then to those that shells made.
        let _ = killpg(leader, signal);
        for pid in &others {
            if nix::unistd::getpgid(Some(*pid)) != Ok(leader) {
                let _ = kill(*pid, signal);
            }
        }
        if signal == Signal::SIGKILL {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_of_a_process() {
        assert_eq!(live_session("7 (a) b) S 1 7 5 0 -1"), Some(5));
        assert_eq!(live_session("7 (x) Z 1 7 5 0 -1"), None);
        assert_eq!(live_session(""), None);
    }

    #[test]
    fn this_process_is_in_its_session() {
        let session = nix::unistd::getsid(None).expect("a session");
        assert!(members(session.as_raw()).contains(&nix::unistd::getpid()));
    }
}
