//! `ss` and `netstat`: the sockets that /proc/net lists (man 5 proc), and who has them open. Here: the tables and what of
//! them is wanted. Each tool reads its options and has its own form.

mod netstat;
mod ss;

pub use netstat::netstat;
pub use ss::ss;

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A kind of socket, as a file of /proc/net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Raw,
}

impl Kind {
    /// Its name in /proc/net, and as `ss` and `netstat` show it.
    fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Udp => "udp",
            Kind::Raw => "raw",
        }
    }
}

/// A row of /proc/net/tcp and its kin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Socket {
    kind: Kind,
    v6: bool,
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    tx: u64,
    rx: u64,
    uid: u32,
    inode: u64,
}

/// A row of /proc/net/unix.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Local {
    kind: u32,
    flags: u32,
    state: u32,
    inode: u64,
    path: String,
}

impl Local {
    fn listens(&self) -> bool {
        const ACCEPTS: u32 = 0x10000;
        self.flags & ACCEPTS != 0
    }
}

const LISTEN: u8 = 10;
const ESTABLISHED: u8 = 1;
const TIME_WAIT: u8 = 6;
const CLOSED: u8 = 7;

/// `0100007F:0016`: words in the machine's own order.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for i in 0..4 {
                octets[i * 4..i * 4 + 4].copy_from_slice(&word(i)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn row(kind: Kind, v6: bool, line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (tx, rx) = words.get(4)?.split_once(':')?;
    Some(Socket {
        kind,
        v6,
        local: end(words.get(1)?)?,
        remote: end(words.get(2)?)?,
        state: u8::from_str_radix(words.get(3)?, 16).ok()?,
        tx: u64::from_str_radix(tx, 16).ok()?,
        rx: u64::from_str_radix(rx, 16).ok()?,
        uid: words.get(7)?.parse().ok()?,
        inode: words.get(9)?.parse().ok()?,
    })
}

/// The rows of a table in /proc/net, below its heading; what is not understood is left out.
fn table<T>(name: &str, row: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let text = fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    text.lines().skip(1).filter_map(row).collect()
}

fn list(kind: Kind, v6: bool) -> Vec<Socket> {
    let name = format!("{}{}", kind.name(), if v6 { "6" } else { "" });
    table(&name, |line| row(kind, v6, line))
}

fn local_row(line: &str) -> Option<Local> {
    let words: Vec<&str> = line.split_whitespace().collect();
    Some(Local {
        flags: u32::from_str_radix(words.get(3)?, 16).ok()?,
        kind: u32::from_str_radix(words.get(4)?, 16).ok()?,
        state: u32::from_str_radix(words.get(5)?, 16).ok()?,
        inode: words.get(6)?.parse().ok()?,
        path: words.get(7..)?.join(" "),
    })
}

fn locals() -> Vec<Local> {
    table("unix", local_row)
}

/// A process that has a socket open.
#[derive(Clone)]
struct Owner {
    name: String,
    pid: u32,
    fd: u32,
}

/// Who has which socket open, by inode; what may not be seen is left out.
fn owners() -> HashMap<u64, Vec<Owner>> {
    let mut out: HashMap<u64, Vec<Owner>> = HashMap::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return out;
    };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let Ok(fds) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let mut name = None;
        for fd in fds.flatten() {
            let target = fs::read_link(fd.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|t| t.strip_suffix(']'));
            let Some(inode) = inode.and_then(|i| i.parse().ok()) else {
                continue;
            };
            let name = name.get_or_insert_with(|| {
                let text = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                text.trim_end().to_owned()
            });
            let owner = Owner {
                name: name.clone(),
                pid,
                fd: fd
                    .file_name()
                    .to_str()
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(0),
            };
            out.entry(inode).or_default().push(owner);
        }
    }
    out
}

/// What the user wants to see.
#[derive(Clone, Copy, Debug, Default)]
struct Want {
    tcp: bool,
    udp: bool,
    raw: bool,
    unix: bool,
    v4: bool,
    v6: bool,
    listening: bool,
    all: bool,
    processes: bool,
    numeric: bool,
}

impl Want {
    /// Takes an option that `ss` and `netstat` have alike; false when it is another.
    fn take(&mut self, letter: char) -> bool {
        let wanted = match letter {
            't' => &mut self.tcp,
            'u' => &mut self.udp,
            'w' => &mut self.raw,
            'x' => &mut self.unix,
            'l' => &mut self.listening,
            'a' => &mut self.all,
            'p' => &mut self.processes,
            'n' => &mut self.numeric,
            '4' => &mut self.v4,
            '6' => &mut self.v6,
            _ => return false,
        };
        *wanted = true;
        true
    }

    /// Both families unless one was asked for; whether that was so.
    fn complete_families(&mut self) -> bool {
        let asked = self.v4 || self.v6;
        if !asked {
            (self.v4, self.v6) = (true, true);
        }
        asked
    }

    /// The sockets that are asked for.
    fn sockets(&self) -> Vec<Socket> {
        let kinds = [
            (self.tcp, Kind::Tcp),
            (self.udp, Kind::Udp),
            (self.raw, Kind::Raw),
        ];
        let mut out = Vec::new();
        for (_, kind) in kinds.iter().filter(|k| k.0) {
            for (_, v6) in [(self.v4, false), (self.v6, true)].iter().filter(|f| f.0) {
                out.extend(list(*kind, *v6).into_iter().filter(|s| self.shows(s)));
            }
        }
        out
    }

    fn shows(&self, s: &Socket) -> bool {
        let listens = match s.kind {
            Kind::Tcp => s.state == LISTEN,
            _ => s.state == CLOSED,
        };
        self.all || self.listening == listens
    }

    /// The sockets of the Unix domain that are asked for.
    fn locals(&self) -> Vec<Local> {
        let mut all = if self.unix { locals() } else { Vec::new() };
        all.retain(|u| self.all || self.listening == u.listens());
        all
    }

    /// Who has which socket open, where that is asked for.
    fn owners(&self) -> HashMap<u64, Vec<Owner>> {
        if self.processes {
            owners()
        } else {
            HashMap::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_proc() {
        let line = "   0: 0100007F:0016 0202000A:9C40 01 00000003:00000005 00:00000000 00000000  1000        0 4711 1 0";
        let s = row(Kind::Tcp, false, line).unwrap();
        assert_eq!(s.local, "127.0.0.1:22".parse().unwrap());
        assert_eq!(s.remote, "10.0.2.2:40000".parse().unwrap());
        assert_eq!((s.state, s.tx, s.rx, s.uid, s.inode), (1, 3, 5, 1000, 4711));
        let v6 = end("000080FE00000000FF005450563412FE:0050").unwrap();
        assert_eq!(v6, "[fe80::5054:ff:fe12:3456]:80".parse().unwrap());
        assert_eq!(end("é00007F:0016"), None);
        assert_eq!(row(Kind::Tcp, false, "0: 1 2"), None);
        let unix = "0000000000000000: 00000002 00000000 00010000 0001 01 1234 /run/x y";
        let u = local_row(unix).unwrap();
        assert_eq!(
            (u.inode, u.path.as_str(), u.flags),
            (1234, "/run/x y", 0x10000)
        );
    }
}
