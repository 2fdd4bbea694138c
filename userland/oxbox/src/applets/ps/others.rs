//! pstree and w.

use std::io::Write as _;

use super::super::Args;
use super::columns::started;
use crate::proc::{self, Process};
use crate::sys::{fail, user_name};

/// Processes as a tree, children below their parents.
pub fn pstree(args: Args) -> i32 {
    let parsed = match crate::sys::options(args, "paA", "", &[], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("pstree", message, 1),
    };
    let root = match parsed.operands.first().map(|o| o.parse()) {
        Some(Err(_)) => return fail("pstree", "give a process id", 1),
        Some(Ok(pid)) => pid,
        None => 1,
    };
    let all = Process::all();
    let Some(root) = all.iter().find(|p| p.pid == root).or(all.first()) else {
        return 1;
    };
    let mut text = String::new();
    branch(&all, root, "", "", &parsed, &mut text);
    i32::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

fn branch(
    all: &[Process],
    process: &Process,
    lead: &str,
    below: &str,
    parsed: &crate::sys::Options,
    text: &mut String,
) {
    let name = if parsed.has('a') {
        process.command()
    } else {
        process.comm.clone()
    };
    let pid = if parsed.has('p') {
        format!("({})", process.pid)
    } else {
        String::new()
    };
    text.push_str(&format!("{lead}{name}{pid}\n"));
    let children: Vec<&Process> = all
        .iter()
        .filter(|p| p.ppid == process.pid && p.pid != process.pid)
        .collect();
    for (at, child) in children.iter().enumerate() {
        let last = at + 1 == children.len();
        let (fork, bar) = if last { ("`-", "  ") } else { ("|-", "| ") };
        branch(
            all,
            child,
            &format!("{below}{fork}"),
            &format!("{below}{bar}"),
            parsed,
            text,
        );
    }
}

/// Who is on which terminal and doing what.
pub fn w(args: Args) -> i32 {
    let parsed = match crate::sys::options(args, "hs", "", &[("no-header", 'h')], true) {
        Ok(parsed) => parsed,
        Err(message) => return fail("w", message, 1),
    };
    if !parsed.has('h') {
        println!("{}", super::super::memory::summary());
        println!(
            "{:<8} {:<8} {:>6} {:>8} WHAT",
            "USER", "TTY", "LOGIN@", "TIME"
        );
    }
    let all = Process::all();
    for leader in super::super::memory::sessions() {
        let front = all
            .iter()
            .find(|p| p.tty == leader.tty && p.pgid == leader.tpgid)
            .unwrap_or(&leader);
        println!(
            "{:<8} {:<8} {:>6} {:>8} {}",
            user_name(leader.uid),
            leader.tty_name(),
            started(&leader),
            proc::clock(front.cpu_ticks()),
            front.command()
        );
    }
    0
}
