//! ps with the options of System V (`-ef`) and BSD (`aux`) that procps has; pstree and w.

mod columns;
mod others;

use std::collections::{HashMap, HashSet};
use std::io::{IsTerminal as _, Write as _};

use super::Args;
use crate::proc::Process;
use crate::sys::{fail, group_id, lossy, terminal_size, user_id};
use columns::{Column, Moment, Side, column};
pub use others::{pstree, w};

/// How parents and children are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Tree {
    #[default]
    No,
    /// Children below their parents, indented.
    Indented,
    /// With lines that show what belongs together.
    Drawn,
}

/// What to show and of whom.
#[derive(Debug, Default)]
struct Choice {
    all: bool,
    /// All that have a terminal, and are no leaders of sessions (`-a`).
    followers: bool,
    /// All but leaders of sessions (`-d`).
    not_leaders: bool,
    /// BSD's `a` and `x`: everybody's; without a terminal too.
    everybody: bool,
    without_tty: bool,
    running: bool,
    own_terminal: bool,
    negated: bool,
    pids: HashSet<i32>,
    parents: HashSet<i32>,
    sessions: HashSet<i32>,
    users: HashSet<u32>,
    groups: HashSet<u32>,
    names: HashSet<String>,
    terminals: HashSet<String>,
    /// Whether any list was given, even an empty one.
    listed: bool,
    columns: Vec<Column>,
    headings: bool,
    wide: bool,
    threads: bool,
    tree: Tree,
    /// Keys; true: from large to small.
    sort: Vec<(&'static str, bool)>,
}

pub fn ps(args: Args) -> i32 {
    let choice = match parse(args.into_iter().skip(1).map(lossy)) {
        Ok(choice) => choice,
        Err(message) => return fail("ps", message, 1),
    };
    let all = Process::all();
    let own = std::process::id();
    let own_tty = all
        .iter()
        .find(|p| u32::try_from(p.pid) == Ok(own))
        .map_or(0, |p| p.tty);
    let own_uid = nix::unistd::geteuid().as_raw();
    let mut shown: Vec<Process> = all
        .into_iter()
        .filter(|p| choice.takes(p, own_uid, own_tty))
        .flat_map(|p| match choice.threads {
            true => p.each_thread(),
            false => vec![p],
        })
        .collect();
    let moment = Moment::now();
    for (key, down) in choice.sort.iter().rev() {
        shown.sort_by(|a, b| {
            let order = moment.rank(a, key).compare(&moment.rank(b, key));
            if *down { order.reverse() } else { order }
        });
    }
    let mut leads = Vec::new();
    if choice.tree != Tree::No {
        (shown, leads) = as_tree(shown, choice.tree);
    }
    let text = choice.table(&moment, &shown, &leads);
    let status = i32::from(std::io::stdout().write_all(text.as_bytes()).is_err());
    if shown.is_empty() { 1 } else { status }
}

impl Choice {
    fn takes(&self, p: &Process, own_uid: u32, own_tty: u64) -> bool {
        let listed = self.pids.contains(&p.pid)
            || self.parents.contains(&p.ppid)
            || self.sessions.contains(&p.session)
            || self.users.contains(&p.uid)
            || self.groups.contains(&p.gid)
            || self.names.contains(&p.comm)
            || (!self.terminals.is_empty() && self.terminals.contains(&p.tty_name()));
        let leader = p.session == p.pid;
        let bsd = self.everybody || self.without_tty;
        let chosen = listed
            || self.all
            || (self.followers && p.tty != 0 && !leader)
            || (self.not_leaders && !leader)
            || (self.own_terminal && p.tty == own_tty)
            || (bsd && (self.everybody || p.uid == own_uid) && (self.without_tty || p.tty != 0));
        let any = self.listed
            || self.all
            || self.followers
            || self.not_leaders
            || self.own_terminal
            || bsd;
        let chosen = match any {
            true => chosen,
            false => p.uid == own_uid && p.tty == own_tty,
        };
        (chosen != self.negated) && (!self.running || p.state == 'R')
    }

    fn table(&self, moment: &Moment, shown: &[Process], leads: &[String]) -> String {
        let limit = if self.wide {
            usize::MAX
        } else {
            terminal_size().1
        };
        let mut rows: Vec<Vec<String>> = Vec::new();
        if self.headings {
            rows.push(self.columns.iter().map(|c| c.heading.clone()).collect());
        }
        for (at, process) in shown.iter().enumerate() {
            let cells = self.columns.iter().map(|column| {
                let mut cell = moment.cell(process, column.key);
                let is_command = matches!(column.key, "comm" | "args" | "ccmd" | "acmd");
                if is_command && let Some(lead) = leads.get(at) {
                    cell.insert_str(0, lead);
                }
                // A line feed in an argument must not make a line.
                cell.retain(|letter| !letter.is_control());
                let named = matches!(column.key, "user" | "uname" | "group");
                if named && cell.chars().count() > column.width {
                    cell = cell.chars().take(column.width - 1).collect();
                    cell.push('+');
                }
                cell
            });
            rows.push(cells.collect());
        }
        let mut text = String::new();
        for row in rows {
            let mut line = String::new();
            for (at, (column, value)) in self.columns.iter().zip(row).enumerate() {
                if at > 0 {
                    line.push(' ');
                }
                let width = column.width.max(column.heading.len());
                if column.side == Side::Right {
                    line.push_str(&format!("{value:>width$}"));
                } else if at + 1 == self.columns.len() {
                    line.push_str(&value);
                } else {
                    line.push_str(&format!("{value:<width$}"));
                }
            }
            text.extend(line.trim_end().chars().take(limit));
            text.push('\n');
        }
        text
    }
}

/// Brings children below their parents; what stands before each one's command.
fn as_tree(shown: Vec<Process>, tree: Tree) -> (Vec<Process>, Vec<String>) {
    let known: HashSet<i32> = shown.iter().map(|p| p.pid).collect();
    let mut below: HashMap<i32, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (at, process) in shown.iter().enumerate() {
        if process.tid == process.pid
            && process.ppid != process.pid
            && known.contains(&process.ppid)
        {
            below.entry(process.ppid).or_default().push(at);
        } else {
            roots.push(at);
        }
    }
    let mut order = Vec::new();
    let mut leads = Vec::new();
    // The last root first: it is a stack. With each its lead and that of its children.
    let mut stack: Vec<(usize, String, String)> = roots
        .into_iter()
        .rev()
        .map(|at| (at, String::new(), String::new()))
        .collect();
    while let Some((at, lead, deeper)) = stack.pop() {
        order.push(at);
        leads.push(lead);
        let process = &shown[at];
        let children = match process.tid == process.pid {
            true => below.remove(&process.pid).unwrap_or_default(),
            false => Vec::new(),
        };
        for (place, child) in children.iter().enumerate().rev() {
            let (lead, next) = match tree {
                Tree::Drawn => {
                    let last = place + 1 == children.len();
                    let bar = if last { "    " } else { " |  " };
                    (format!("{deeper} \\_ "), format!("{deeper}{bar}"))
                }
                _ => (format!("{deeper}  "), format!("{deeper}  ")),
            };
            stack.push((*child, lead, next));
        }
    }
    let ordered = order.into_iter().map(|at| shown[at].clone()).collect();
    (ordered, leads)
}

fn parse(args: impl Iterator<Item = String>) -> Result<Choice, String> {
    let mut choice = Choice {
        headings: true,
        wide: !std::io::stdout().is_terminal(),
        ..Choice::default()
    };
    let mut form = Form::default();
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let mut value = || {
                let given = value.clone().or_else(|| args.next());
                given.ok_or(format!("error: --{name}: list missing"))
            };
            match name {
                "no-headings" | "no-heading" | "no-headers" | "noheader" | "no-header" => {
                    choice.headings = false;
                }
                "headers" | "context" => {}
                "sort" => choice.sort.extend(keys(&value()?)?),
                "format" => form.columns.extend(columns::list(&value()?)?),
                "forest" => choice.tree = Tree::Drawn,
                "deselect" => choice.negated = true,
                "pid" => choice.list('p', &value()?)?,
                "ppid" => choice.list('P', &value()?)?,
                "sid" => choice.list('s', &value()?)?,
                "user" | "User" => choice.list('u', &value()?)?,
                "group" | "Group" => choice.list('G', &value()?)?,
                "tty" => choice.list('t', &value()?)?,
                _ => return Err(format!("error: unknown gnu long option: {arg}")),
            }
            continue;
        }
        let dash = arg.starts_with('-');
        let letters = arg.strip_prefix('-').unwrap_or(&arg);
        if letters.starts_with(|c: char| c.is_ascii_digit()) {
            choice.list('p', letters)?;
            continue;
        }
        for (at, letter) in letters.char_indices() {
            let valued = match dash {
                true => "pCuUgGtsoOq".contains(letter),
                false => "pUtoOk".contains(letter),
            };
            if !valued {
                choice.flag(&mut form, letter, dash)?;
                continue;
            }
            let tail = &letters[at + 1..];
            // BSD's `t` alone is this terminal.
            let missing = format!("error: list of processes must follow -{letter}");
            let text = match tail.is_empty() {
                true => args.next().ok_or(missing)?,
                false => tail.to_owned(),
            };
            match letter {
                'o' | 'O' => {
                    let mut wanted = columns::list(&text)?;
                    if letter == 'O' {
                        let mut around = columns::set("pid s tty time acmd");
                        around.splice(1..1, wanted);
                        wanted = around;
                    }
                    form.columns.extend(wanted);
                }
                'k' => choice.sort.extend(keys(&text)?),
                'q' => choice.list('p', &text)?,
                'g' => choice.list('s', &text)?,
                'U' => choice.list('u', &text)?,
                letter => choice.list(letter, &text)?,
            }
            break;
        }
    }
    choice.columns = form.columns(choice.threads);
    if choice.columns.iter().all(|c| c.heading.is_empty()) {
        choice.headings = false;
    }
    Ok(choice)
}

/// Which of the standard sets of columns.
#[derive(Default)]
struct Form {
    columns: Vec<Column>,
    full: bool,
    extra_full: bool,
    long: bool,
    bsd_long: bool,
    jobs: bool,
    bsd_jobs: bool,
    user: bool,
    bsd: bool,
    without_flags: bool,
    names_only: bool,
    spid: bool,
}

impl Form {
    fn columns(self, threads: bool) -> Vec<Column> {
        if !self.columns.is_empty() {
            return self.columns;
        }
        let names = if self.user {
            "user pid %cpu %mem vsz rss tty stat start mtime args"
        } else if self.bsd_long {
            "f uid pid ppid priority ni vsz rss wchan stat tty mtime args"
        } else if self.bsd_jobs {
            "ppid pid pgid sid tty tpgid stat uid mtime args"
        } else if self.extra_full {
            "uname pid ppid c sz rss psr stime tty time acmd"
        } else if self.long && self.full {
            "f s uname pid ppid c opri ni addr sz wchan stime tty time acmd"
        } else if self.long && self.without_flags {
            "s uid pid ppid c opri ni rss sz wchan tty time ccmd"
        } else if self.long {
            "f s uid pid ppid c opri ni addr sz wchan tty time ccmd"
        } else if self.full && self.jobs {
            "uname pid ppid pgid sid c stime tty time acmd"
        } else if self.full {
            "uname pid ppid c stime tty time acmd"
        } else if self.jobs {
            "pid pgid sid tty time ccmd"
        } else if self.bsd {
            "pid tty stat mtime args"
        } else {
            "pid tty time ccmd"
        };
        let mut columns = columns::set(names);
        if self.names_only {
            for column in &mut columns {
                column.key = match column.key {
                    "args" => "comm",
                    "acmd" => "ccmd",
                    key => key,
                };
            }
        }
        if threads {
            let after = |columns: &[Column], keys: [&str; 2]| {
                let found = columns.iter().rposition(|c| keys.contains(&c.key));
                found.map_or(0, |at| at + 1)
            };
            let name = if self.spid { "spid" } else { "lwp" };
            let place = after(&columns, ["pid", "ppid"]);
            columns.splice(place..place, columns::set(name));
            if self.full {
                let place = after(&columns, ["c", "c"]);
                columns.splice(place..place, columns::set("nlwp"));
            }
        }
        columns
    }
}

/// Sort keys: `-rss,+pid`.
fn keys(text: &str) -> Result<Vec<(&'static str, bool)>, String> {
    text.split(',')
        .map(|key| {
            let (name, down) = match key.strip_prefix('-') {
                Some(name) => (name, true),
                None => (key.trim_start_matches('+'), false),
            };
            let known = column(name).ok_or(format!("error: unknown sort specifier {name}"))?;
            Ok((known.key, down))
        })
        .collect()
}

impl Choice {
    fn flag(&mut self, form: &mut Form, letter: char, dash: bool) -> Result<(), String> {
        match (letter, dash) {
            ('e' | 'A', true) => self.all = true,
            ('a', true) => self.followers = true,
            ('d', true) => self.not_leaders = true,
            ('N', true) => self.negated = true,
            ('x', true) => {
                self.without_tty = true;
                form.bsd = true;
            }
            ('a', false) => {
                self.everybody = true;
                form.bsd = true;
            }
            ('x', false) => {
                self.without_tty = true;
                form.bsd = true;
            }
            ('r', false) => self.running = true,
            ('T', false) => self.own_terminal = true,
            ('f', true) => form.full = true,
            ('F', true) => form.extra_full = true,
            ('l', true) => form.long = true,
            ('l', false) => form.bsd_long = true,
            ('j', true) => form.jobs = true,
            ('j', false) => form.bsd_jobs = true,
            ('u', false) => form.user = true,
            ('y', true) => form.without_flags = true,
            ('c', _) => form.names_only = true,
            ('f', false) => {
                self.tree = Tree::Drawn;
                form.bsd = true;
            }
            ('H', true) => self.tree = Tree::Indented,
            ('L', true) | ('H' | 'm', false) | ('m', true) => self.threads = true,
            ('T', true) => {
                self.threads = true;
                form.spid = true;
            }
            ('w', _) => self.wide = true,
            ('h', _) => self.headings = false,
            // The environment, numbers for names, sums with children: not shown apart.
            ('e' | 'n' | 'S' | 'v', false) | ('M' | 'P' | 'Z' | 'n', true) => {}
            (letter, dash) => {
                let dash = if dash { "-" } else { "" };
                return Err(format!("error: unsupported option '{dash}{letter}'"));
            }
        }
        Ok(())
    }

    /// Takes up a list of who to show.
    fn list(&mut self, letter: char, text: &str) -> Result<(), String> {
        self.listed = true;
        for item in text.split([',', ' ']).filter(|item| !item.is_empty()) {
            let number = || {
                let number = item.parse::<i32>();
                number.map_err(|_| format!("error: process ID list syntax error: '{item}'"))
            };
            match letter {
                'p' => drop(self.pids.insert(number()?)),
                'P' => drop(self.parents.insert(number()?)),
                's' => drop(self.sessions.insert(number()?)),
                'u' => {
                    let id = user_id(item);
                    let id = id.ok_or(format!("error: user name does not exist: '{item}'"))?;
                    self.users.insert(id);
                }
                'G' => {
                    let id = group_id(item);
                    let id = id.ok_or(format!("error: group name does not exist: '{item}'"))?;
                    self.groups.insert(id);
                }
                't' => {
                    let name = item.strip_prefix("/dev/").unwrap_or(item);
                    let name = match name {
                        "-" => "?",
                        name => name,
                    };
                    self.terminals.insert(name.to_owned());
                    if name.starts_with(|c: char| c.is_ascii_digit()) {
                        self.terminals.insert(format!("tty{name}"));
                        self.terminals.insert(format!("pts/{name}"));
                    }
                }
                // Names are cut by the kernel.
                _ => drop(self.names.insert(item.chars().take(15).collect())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(args: &[&str]) -> Choice {
        parse(args.iter().map(|a| (*a).to_owned())).expect("valid")
    }

    fn headings(args: &[&str]) -> String {
        let columns = chosen(args).columns;
        let headings: Vec<String> = columns.into_iter().map(|c| c.heading).collect();
        headings.join(" ")
    }

    #[test]
    fn sets_of_columns() {
        for (args, expected) in [
            (&[][..], "PID TTY TIME CMD"),
            (&["-ef"], "UID PID PPID C STIME TTY TIME CMD"),
            (
                &["aux"],
                "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
            ),
            (&["ax"], "PID TTY STAT TIME COMMAND"),
            (&["-eLf"], "UID PID PPID LWP C NLWP STIME TTY TIME CMD"),
            (&["-T"], "PID SPID TTY TIME CMD"),
            (
                &["-ely"],
                "S UID PID PPID C PRI NI RSS SZ WCHAN TTY TIME CMD",
            ),
            (&["-o", "pid,comm"], "PID COMMAND"),
            (&["-eopid,args"], "PID COMMAND"),
        ] {
            assert_eq!(headings(args), expected, "{args:?}");
        }
        for bad in [
            &["-o", "x"][..],
            &["-Q"],
            &["--nonsense"],
            &["-p", "x"],
            &["-p"],
        ] {
            assert!(
                parse(bad.iter().map(|a| (*a).to_owned())).is_err(),
                "{bad:?}"
            );
        }
        assert!(!chosen(&["-o", "pid="]).headings);
    }

    #[test]
    fn who_is_chosen() {
        let process = |pid, uid, tty, session| Process {
            pid,
            tid: pid,
            uid,
            tty,
            session,
            comm: "name".into(),
            state: 'S',
            ..Process::default()
        };
        let takes = |args: &[&str], p: &Process| chosen(args).takes(p, 1000, 5);
        let own = process(10, 1000, 5, 9);
        let other = process(11, 0, 6, 11);
        let daemon = process(12, 0, 0, 12);
        for (args, expected) in [
            (&[][..], [true, false, false]),
            (&["-e"], [true, true, true]),
            (&["a"], [true, true, false]),
            (&["ax"], [true, true, true]),
            (&["-p", "11"], [false, true, false]),
            (&["-p11,12"], [false, true, true]),
            (&["12"], [false, false, true]),
            (&["-a"], [true, false, false]),
            (&["-C", "name"], [true, true, true]),
            (&["-N", "-p", "10"], [false, true, true]),
            (&["-u", "0"], [false, true, true]),
        ] {
            let found = [&own, &other, &daemon].map(|p| takes(args, p));
            assert_eq!(found, expected, "{args:?}");
        }
    }

    #[test]
    fn trees() {
        let process = |pid, ppid| Process {
            pid,
            tid: pid,
            ppid,
            ..Process::default()
        };
        let shown = [(1, 0), (2, 1), (3, 1), (4, 2), (9, 7)];
        let shown = shown.map(|(pid, ppid)| process(pid, ppid)).to_vec();
        let (order, leads) = as_tree(shown.clone(), Tree::Drawn);
        let pids: Vec<i32> = order.iter().map(|p| p.pid).collect();
        assert_eq!(pids, [1, 2, 4, 3, 9]);
        assert_eq!(leads, ["", " \\_ ", " |   \\_ ", " \\_ ", ""]);
        // Parents that are each other's lose nobody but show nobody twice.
        let (order, _) = as_tree(vec![process(1, 2), process(2, 1)], Tree::Indented);
        assert!(order.len() <= 2);
    }
}
