//! Unix sockets behave as on Linux, where the same program runs first.

use std::collections::BTreeSet;

use oxbow_harness::Machine;
use oxbow_integration::same_as_on_linux;

const HEADING: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n";

/// The sockets of /proc/net/unix.
fn inodes(m: &mut Machine) -> BTreeSet<u64> {
    let rows = m.ok("cat /proc/net/unix");
    let rows = rows.strip_prefix(HEADING).expect("a heading");
    rows.lines()
        .map(|row| row.split_whitespace().nth(6).expect("an inode"))
        .map(|inode| inode.parse().expect("a number"))
        .collect()
}

#[test]
fn unix_sockets_are_those_of_linux() {
    let mut m = same_as_on_linux("unixsock", &[]);
    // Those of the tools that list them. A shell that starts a program has a pair of sockets
    // until it sees that the program runs, maybe while the program looks: what counts is what
    // was there before and is there after.
    let before = inodes(&mut m);
    let ss = m.ok("ss -xa");
    let netstat = m.ok("netstat -xa");
    let after = inodes(&mut m);
    let lasting: Vec<u64> = before.intersection(&after).copied().collect();
    // That of the log and that of init.
    assert!(lasting.len() >= 2, "{before:?} {after:?}");
    let listed_by_ss: Vec<u64> = ss
        .lines()
        .filter_map(|row| row.trim_end().strip_suffix("* 0"))
        .map(|row| row.split_whitespace().last().expect("an inode"))
        .map(|inode| inode.parse().expect("a number"))
        .collect();
    let listed_by_netstat: Vec<(&str, u64)> = netstat
        .lines()
        .filter_map(|row| row.strip_prefix("unix ")?.split_once(']'))
        .map(|(_, row)| {
            let mut words = row.split_whitespace();
            let kind = words.next().expect("a kind");
            let inode = words.find_map(|word| word.parse().ok());
            (kind, inode.expect("an inode"))
        })
        .collect();
    assert_eq!(listed_by_ss.len(), ss.lines().count() - 1, "{ss}");
    for inode in &lasting {
        let of_ss = listed_by_ss.iter().filter(|&i| i == inode).count();
        assert_eq!(of_ss, 1, "{inode}: {ss}");
        let of_netstat = listed_by_netstat.iter().filter(|(_, i)| i == inode);
        assert_eq!(of_netstat.count(), 1, "{inode}: {netstat}");
    }
    for (kind, inode) in listed_by_netstat {
        assert!(
            kind == "SEQPACKET" || lasting.contains(&inode),
            "{inode}: {netstat}"
        );
    }
}

#[test]
fn sockets_that_nobody_can_receive_are_collected() {
    same_as_on_linux("sockcycles", &[]).power_off();
}
