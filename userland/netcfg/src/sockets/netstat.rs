//! `netstat`.

use std::ffi::OsString;
use std::net::SocketAddr;

use super::{CLOSED, Kind, Want};

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
            _ if want.take(letter) => {}
            'r' => routes = true,
            'i' => interfaces = true,
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
    want.complete_families();
    if !(want.tcp || want.udp || want.raw || want.unix) {
        (want.tcp, want.udp, want.raw, want.unix) = (true, true, true, true);
    }
    crate::print(&netstat_text(want));
    0
}

fn netstat_text(want: Want) -> String {
    let owners = want.owners();
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
            let name = format!("{}{}", s.kind.name(), if s.v6 { "6" } else { "" });
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
        for u in want.locals() {
            let kind = match u.kind {
                1 => "STREAM",
                2 => "DGRAM",
                _ => "SEQPACKET",
            };
            let state = match (u.listens(), u.state) {
                (true, _) => "LISTENING",
                (_, 3) => "CONNECTED",
                _ => "",
            };
            let flags = if u.listens() { "[ ACC ]" } else { "[ ]" };
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
