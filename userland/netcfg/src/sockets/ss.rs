//! `ss`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};

use super::{CLOSED, ESTABLISHED, Kind, Owner, Socket, TIME_WAIT, Want, list, locals};

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
    let (mut summary, mut heading) = (false, true);
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
                _ if want.take(letter) => {}
                's' => summary = true,
                'H' => heading = false,
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
    let family = want.complete_families();
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
    let owners = want.owners();
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
    for u in want.locals() {
        let netid = match u.kind {
            1 => "u_str",
            2 => "u_dgr",
            _ => "u_seq",
        };
        let state = match (u.listens(), u.state) {
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
    for s in want.sockets() {
        rows.push([
            s.kind.name().to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_as_ss_writes_them() {
        let end = |text: &str, v6| ss_end(&text.parse().unwrap(), v6);
        assert_eq!(end("0.0.0.0:22", false), "0.0.0.0:22");
        assert_eq!(end("[::]:0", true), "[::]:*");
    }
}
