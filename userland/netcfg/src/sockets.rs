//! `ss` and `netstat`: the sockets that /proc/net lists (man 5 proc), and who has them open.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A kind of socket, as a file of /proc/net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Raw,
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

fn list(kind: Kind, v6: bool) -> Vec<Socket> {
    let name = match kind {
        Kind::Tcp => "tcp",
        Kind::Udp => "udp",
        Kind::Raw => "raw",
    };
    let file = format!("/proc/net/{name}{}", if v6 { "6" } else { "" });
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|l| row(kind, v6, l))
        .collect()
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
    let text = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    text.lines().skip(1).filter_map(local_row).collect()
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
}

fn plural(owners: &[Owner]) -> String {
    let each: Vec<String> = owners
        .iter()
        .map(|o| format!("(\"{}\",pid={},fd={})", o.name, o.pid, o.fd))
        .collect();
    format!("users:({})", each.join(","))
}

/// man 8 ss.
pub fn ss(args: Vec<OsString>) -> i32 {
    let args = crate::arguments(&args);
    let mut want = Want::default();
    let (mut summary, mut heading, mut family) = (false, true, false);
    for arg in &args {
        let long = arg.strip_prefix("--");
        let letters: String = match (long, arg.strip_prefix('-')) {
            (Some(name), _) => match name {
                "tcp" => "t".to_owned(),
                "udp" => "u".to_owned(),
                "raw" => "w".to_owned(),
                "unix" => "x".to_owned(),
                "listening" => "l".to_owned(),
                "all" => "a".to_owned(),
                "numeric" => "n".to_owned(),
                "processes" => "p".to_owned(),
                "summary" => "s".to_owned(),
                "no-header" => "H".to_owned(),
                "ipv4" => "4".to_owned(),
                "ipv6" => "6".to_owned(),
                "help" => "h".to_owned(),
                _ => "?".to_owned(),
            },
            (None, Some(letters)) => letters.to_owned(),
            (None, None) => "?".to_owned(),
        };
        for letter in letters.chars() {
            match letter {
                't' => want.tcp = true,
                'u' => want.udp = true,
                'w' => want.raw = true,
                'x' => want.unix = true,
                'l' => want.listening = true,
                'a' => want.all = true,
                'p' => want.processes = true,
                'n' => want.numeric = true,
                's' => summary = true,
                'H' => heading = false,
                '4' => (want.v4, family) = (true, true),
                '6' => (want.v6, family) = (true, true),
                'e' | 'm' | 'o' | 'i' | 'r' => {}
                'h' => {
                    crate::print(
                        "Usage: ss [-t] [-u] [-w] [-x] [-l | -a] [-n] [-p] [-4] [-6] [-H] [-s]\n",
                    );
                    return 0;
                }
                _ => {
                    eprintln!("ss: {arg}: unknown option; ss has no filters");
                    return 255;
                }
            }
        }
    }
    if !family {
        (want.v4, want.v6) = (true, true);
    }
    if summary {
        crate::print(&totals());
        return 0;
    }
    if !(want.tcp || want.udp || want.raw || want.unix) {
        (want.tcp, want.udp, want.raw) = (true, true, true);
        want.unix = !family;
    }
    crate::print(&ss_text(want, heading));
    0
}

fn ss_state(s: &Socket) -> &'static str {
    const NAMES: [&str; 12] = [
        "UNKNOWN",
        "ESTAB",
        "SYN-SENT",
        "SYN-RECV",
        "FIN-WAIT-1",
        "FIN-WAIT-2",
        "TIME-WAIT",
        "UNCONN",
        "CLOSE-WAIT",
        "LAST-ACK",
        "LISTEN",
        "CLOSING",
    ];
    NAMES.get(usize::from(s.state)).unwrap_or(&"UNKNOWN")
}

/// An end as `ss` writes it.
fn ss_end(a: &SocketAddr, v6: bool) -> String {
    let ip = match a.ip() {
        ip if ip.is_unspecified() && !v6 => "0.0.0.0".to_owned(),
        IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    match a.port() {
        0 => format!("{ip}:*"),
        port => format!("{ip}:{port}"),
    }
}

fn ss_text(want: Want, heading: bool) -> String {
    let owners = if want.processes {
        owners()
    } else {
        HashMap::new()
    };
    let one_kind =
        u8::from(want.tcp) + u8::from(want.udp) + u8::from(want.raw) + u8::from(want.unix) == 1;
    let mut rows: Vec<[String; 7]> = Vec::new();
    if heading {
        rows.push(
            [
                "Netid",
                "State",
                "Recv-Q",
                "Send-Q",
                "Local Address:Port",
                "Peer Address:Port",
                "Process",
            ]
            .map(str::to_owned),
        );
    }
    let who = |inode: u64| owners.get(&inode).map_or(String::new(), |o| plural(o));
    if want.unix {
        for u in locals() {
            const ACCEPTS: u32 = 0x10000;
            let listens = u.flags & ACCEPTS != 0;
            if !want.all && want.listening != listens {
                continue;
            }
            let netid = match u.kind {
                1 => "u_str",
                2 => "u_dgr",
                _ => "u_seq",
            };
            let state = match (listens, u.state) {
                (true, _) => "LISTEN",
                (_, 3) => "ESTAB",
                _ => "UNCONN",
            };
            let path = if u.path.is_empty() {
                "*".to_owned()
            } else {
                u.path
            };
            let local = format!("{path} {}", u.inode);
            rows.push([
                netid.into(),
                state.into(),
                "0".into(),
                "0".into(),
                local,
                "* 0".into(),
                who(u.inode),
            ]);
        }
    }
    for s in want.sockets() {
        let netid = match s.kind {
            Kind::Tcp => "tcp",
            Kind::Udp => "udp",
            Kind::Raw => "raw",
        };
        rows.push([
            netid.to_owned(),
            ss_state(&s).to_owned(),
            s.rx.to_string(),
            s.tx.to_string(),
            ss_end(&s.local, s.v6),
            ss_end(&s.remote, s.v6),
            who(s.inode),
        ]);
    }
    columns(&rows, if one_kind { 1 } else { 0 }, want.processes)
}

/// Rows with columns as wide as they need; the ends' columns are split at the port.
fn columns(rows: &[[String; 7]], first: usize, last: bool) -> String {
    let shown = first..if last || rows.is_empty() { 7 } else { 6 };
    let width = |column: usize| rows.iter().map(|r| r[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for column in shown.clone() {
            line += &match column {
                4 | 5 => format!("{:>w$} ", row[column], w = widths[column]),
                _ => format!("{:<w$} ", row[column], w = widths[column]),
            };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

fn totals() -> String {
    let count = |kind| [list(kind, false).len(), list(kind, true).len()];
    let tcp: Vec<Socket> = [list(Kind::Tcp, false), list(Kind::Tcp, true)].concat();
    let of = |state: u8| tcp.iter().filter(|s| s.state == state).count();
    let (t, u, r) = (count(Kind::Tcp), count(Kind::Udp), count(Kind::Raw));
    let unix = locals().len();
    let inet: usize = t.iter().chain(&u).chain(&r).sum();
    let mut out = format!(
        "Total: {}\nTCP:   {} (estab {}, closed {}, orphaned 0, timewait {})\n\n",
        inet + unix,
        tcp.len(),
        of(ESTABLISHED),
        of(CLOSED) + of(TIME_WAIT),
        of(TIME_WAIT)
    );
    out += "Transport Total     IP        IPv6\n";
    for (name, [v4, v6]) in [("RAW", r), ("UDP", u), ("TCP", t)] {
        out += &format!("{name:<9} {:<9} {v4:<9} {v6:<9}\n", v4 + v6);
    }
    out + "\n"
}

/// man 8 netstat.
pub fn netstat(args: Vec<OsString>) -> i32 {
    let args = crate::arguments(&args);
    let mut want = Want::default();
    let (mut routes, mut interfaces) = (false, false);
    for letter in args
        .iter()
        .flat_map(|a| a.trim_start_matches('-').chars().collect::<Vec<_>>())
    {
        match letter {
            't' => want.tcp = true,
            'u' => want.udp = true,
            'w' => want.raw = true,
            'x' => want.unix = true,
            'l' => want.listening = true,
            'a' => want.all = true,
            'p' => want.processes = true,
            'n' => want.numeric = true,
            'r' => routes = true,
            'i' => interfaces = true,
            '4' => want.v4 = true,
            '6' => want.v6 = true,
            'e' | 'W' | 'o' | 'c' => {}
            other => {
                eprintln!(
                    "netstat: {other}: unknown option\nUsage: netstat [-tuwxlanp46] | -r | -i"
                );
                return 1;
            }
        }
    }
    if routes {
        return crate::finish("netstat", crate::legacy::table(want.v6));
    }
    if interfaces {
        return crate::finish("netstat", interface_table());
    }
    if !want.v4 && !want.v6 {
        (want.v4, want.v6) = (true, true);
    }
    if !(want.tcp || want.udp || want.raw || want.unix) {
        (want.tcp, want.udp, want.raw, want.unix) = (true, true, true, true);
    }
    crate::print(&netstat_text(want));
    0
}

fn netstat_text(want: Want) -> String {
    let owners = if want.processes {
        owners()
    } else {
        HashMap::new()
    };
    let which = match (want.all, want.listening) {
        (true, _) => "servers and established",
        (_, true) => "only servers",
        _ => "w/o servers",
    };
    let mut out = String::new();
    let who = |inode: u64| match owners.get(&inode).and_then(|o| o.first()) {
        Some(o) => format!("{}/{}", o.pid, o.name),
        None => "-".to_owned(),
    };
    if want.tcp || want.udp || want.raw {
        out += &format!("Active Internet connections ({which})\n");
        out += "Proto Recv-Q Send-Q Local Address           Foreign Address         State      ";
        out += if want.processes {
            " PID/Program name\n"
        } else {
            "\n"
        };
        for s in want.sockets() {
            let name = match s.kind {
                Kind::Tcp => "tcp",
                Kind::Udp => "udp",
                Kind::Raw => "raw",
            };
            let name = format!("{name}{}", if s.v6 { "6" } else { "" });
            let end = |a: &SocketAddr| match a.port() {
                0 => format!("{}:*", a.ip()),
                port => format!("{}:{port}", a.ip()),
            };
            const STATES: [&str; 12] = [
                "",
                "ESTABLISHED",
                "SYN_SENT",
                "SYN_RECV",
                "FIN_WAIT1",
                "FIN_WAIT2",
                "TIME_WAIT",
                "CLOSE",
                "CLOSE_WAIT",
                "LAST_ACK",
                "LISTEN",
                "CLOSING",
            ];
            let state = match (s.kind, s.state) {
                (Kind::Udp, CLOSED) => "",
                (_, state) => STATES.get(usize::from(state)).unwrap_or(&"UNKNOWN"),
            };
            let line = format!(
                "{name:<5} {:>6} {:>6} {:<23} {:<23} {state:<11} ",
                s.rx,
                s.tx,
                end(&s.local),
                end(&s.remote)
            );
            let who = if want.processes {
                who(s.inode)
            } else {
                String::new()
            };
            out += (line + &who).trim_end();
            out.push('\n');
        }
    }
    if want.unix {
        out += &format!("Active UNIX domain sockets ({which})\n");
        out += "Proto RefCnt Flags       Type       State         I-Node   Path\n";
        for u in locals() {
            const ACCEPTS: u32 = 0x10000;
            let listens = u.flags & ACCEPTS != 0;
            if !want.all && want.listening != listens {
                continue;
            }
            let kind = match u.kind {
                1 => "STREAM",
                2 => "DGRAM",
                _ => "SEQPACKET",
            };
            let state = match (listens, u.state) {
                (true, _) => "LISTENING",
                (_, 3) => "CONNECTED",
                _ => "",
            };
            let flags = if listens { "[ ACC ]" } else { "[ ]" };
            out += format!(
                "unix  {:<6} {flags:<11} {kind:<10} {state:<13} {:<8} {}",
                2, u.inode, u.path
            )
            .trim_end();
            out.push('\n');
        }
    }
    out
}

fn interface_table() -> Result<(), String> {
    let mut socket = crate::netlink::Netlink::open().map_err(|e| crate::format::error(&e))?;
    let links = crate::network::links(&mut socket).map_err(|e| crate::format::error(&e))?;
    let mut out = String::from(
        "Kernel Interface table\nIface      MTU    RX-OK RX-ERR RX-DRP RX-OVR    TX-OK TX-ERR TX-DRP TX-OVR Flg\n",
    );
    for l in links.iter().filter(|l| l.flags & 1 != 0) {
        let letters = [(1, 'B'), (3, 'L'), (12, 'M'), (6, 'R'), (0, 'U')];
        let flags: String = letters
            .iter()
            .filter(|(bit, _)| l.flags >> bit & 1 != 0)
            .map(|(_, letter)| *letter)
            .collect();
        let s = |at| l.stat(at);
        out += &format!(
            "{:<9} {:>5} {:>8} {:>6} {:>6} {:<6} {:>8} {:>6} {:>6} {:>6} {flags}\n",
            l.name,
            l.mtu,
            s(0),
            s(4),
            s(6),
            s(11),
            s(1),
            s(5),
            s(7),
            s(17)
        );
    }
    crate::print(&out);
    Ok(())
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

    #[test]
    fn ends_as_ss_writes_them() {
        let end = |text: &str, v6| ss_end(&text.parse().unwrap(), v6);
        assert_eq!(end("0.0.0.0:22", false), "0.0.0.0:22");
        assert_eq!(end("[::]:0", true), "[::]:*");
    }
}
