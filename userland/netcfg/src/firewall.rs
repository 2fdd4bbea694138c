//! `oxfw`: lists and changes the packet filter's rules, which the kernel shows and takes as one
//! text in /proc/net/firewall; keeps them in /etc/firewall.conf.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;

use oxbow_firewall::{Action, Chain, DEFAULTS, Packet, Rule, RuleSet};

const KERNEL: &str = "/proc/net/firewall";
const FILE: &str = "/etc/firewall.conf";
const LOCK: &str = "/run/oxfw.lock";

const HELP: &str = "\
Usage: oxfw [--save] COMMAND
  list [-n] [-v]          the rules; -n with their numbers, -v with their counters
  add RULE                appends a rule
  insert N RULE           puts a rule before rule N
  delete N | RULE         takes a rule away
  default in|out ACTION   what becomes of what matches no rule
  flush                   takes all rules away
  reset                   the rules of a machine that nobody configured
  load [FILE]             replaces all rules by those of FILE (/etc/firewall.conf)
  check [FILE]            says what is wrong with FILE, and changes nothing
  save                    writes the rules to /etc/firewall.conf
  enable | disable        switches the filter on or off
  reset-counters          counts from 0
RULE: [in|out] allow|deny|reject [PROTOCOL [NUMBERS]] [from PREFIX [port NUMBERS]] [to PREFIX]
      [on INTERFACE] [log] [comment TEXT]
PROTOCOL: any, tcp, udp, icmp, icmpv6. NUMBERS: ports or ICMP types, such as 80,443,8000-8010.
A change is in force at once; it is kept over a reboot when it is saved (`save`, or --save with
the change). Connections that are open stay open.
";

/// man 1 oxfw: docs/firewall.md.
pub fn oxfw(args: Vec<OsString>) -> i32 {
    let mut args = crate::arguments(&args);
    let before = args.len();
    args.retain(|a| a != "--save");
    let save = args.len() < before;
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["help" | "-h" | "--help"] => {
            crate::print(HELP);
            return if words.is_empty() { 2 } else { 0 };
        }
        _ => {}
    }
    let result = run(&words).and_then(|()| if save { self::save() } else { Ok(()) });
    crate::finish("oxfw", result)
}

fn run(words: &[&str]) -> Result<(), String> {
    match words {
        ["list" | "show" | "status", options @ ..] => list(options),
        ["save"] => save(),
        ["check"] => check(FILE),
        ["check", file] => check(file),
        ["load"] => load(FILE),
        ["load", file] => load(file),
        _ => {
            let _lock = lock()?;
            let mut set = current()?;
            // What is not said stays as it is.
            set.switch = None;
            edit(&mut set, words)?;
            warn(&set);
            install(&set)
        }
    }
}

/// One `oxfw` at a time changes rules.
fn lock() -> Result<fs::File, String> {
    let mut options = fs::File::options();
    let file = options.create(true).truncate(false).write(true).open(LOCK);
    let file = file.map_err(|e| format!("{LOCK}: {}", crate::format::error(&e)))?;
    // SAFETY: flock takes no pointer; the descriptor is `file`'s.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } != 0 {
        let e = std::io::Error::last_os_error();
        return Err(format!("{LOCK}: {}", crate::format::error(&e)));
    }
    Ok(file)
}

fn read(file: &str) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e| format!("{file}: {}", crate::format::error(&e)))
}

fn parse(file: &str) -> Result<RuleSet, String> {
    RuleSet::parse(&read(file)?).map_err(|e| format!("{file}: {e}"))
}

fn current() -> Result<RuleSet, String> {
    parse(KERNEL)
}

/// Gives the kernel a whole rule set, by one write.
fn install(set: &RuleSet) -> Result<(), String> {
    let mut text = set.to_string();
    if set.reset_counters {
        text.insert_str(0, "counters reset\n");
    }
    let written = fs::File::options()
        .write(true)
        .open(KERNEL)
        .and_then(|mut f| f.write(text.as_bytes()));
    match written {
        Ok(n) if n == text.len() => Ok(()),
        Ok(_) => Err(format!("{KERNEL}: not taken as a whole")),
        Err(e) => Err(format!("{KERNEL}: {}", crate::format::error(&e))),
    }
}

fn check(file: &str) -> Result<(), String> {
    let set = parse(file)?;
    warn(&set);
    Ok(())
}

fn load(file: &str) -> Result<(), String> {
    let set = parse(file)?;
    let _lock = lock()?;
    warn(&set);
    install(&set)
}

/// Writes the rules in force to the file, which is the old one or the new one at any time.
fn save() -> Result<(), String> {
    let mut set = current()?;
    set.switch = set.switch.filter(|on| !on);
    let text = format!("# Rules of the packet filter, written by `oxfw save`.\n{set}");
    let temporary = format!("{FILE}.new");
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, FILE)
    };
    write().map_err(|e: std::io::Error| format!("{FILE}: {}", crate::format::error(&e)))
}

fn action(word: &str) -> Result<Action, String> {
    match word {
        "allow" => Ok(Action::Allow),
        "deny" => Ok(Action::Deny),
        "reject" => Ok(Action::Reject),
        _ => Err(format!("{word}: not an action (allow, deny or reject)")),
    }
}

/// The place of rule number `word`, from 1; `most` is the last number that is allowed.
fn place(word: &str, most: usize) -> Result<usize, String> {
    match word.parse::<usize>() {
        Ok(n) if (1..=most).contains(&n) => Ok(n - 1),
        _ => Err(format!("{word}: there is no such rule")),
    }
}

/// Applies a command to a rule set.
fn edit(set: &mut RuleSet, words: &[&str]) -> Result<(), String> {
    match words {
        ["add", rule @ ..] => {
            let rule = Rule::parse(rule)?;
            if set.rules.contains(&rule) {
                return Err("this rule is there already".to_owned());
            }
            set.rules.push(rule);
        }
        ["insert", n, rule @ ..] => {
            let at = place(n, set.rules.len() + 1)?;
            set.rules.insert(at, Rule::parse(rule)?);
        }
        ["delete", n] if n.parse::<usize>().is_ok() => {
            set.rules.remove(place(n, set.rules.len())?);
        }
        ["delete", rule @ ..] => {
            let mut rule = Rule::parse(rule)?;
            let at = set.rules.iter().position(|r| {
                // A comment need not be repeated.
                if rule.comment.is_none() {
                    rule.comment.clone_from(&r.comment);
                    let same = *r == rule;
                    rule.comment = None;
                    return same;
                }
                *r == rule
            });
            set.rules.remove(at.ok_or("there is no such rule")?);
        }
        ["flush"] => set.rules.clear(),
        ["default", "in", what] => set.default_in = action(what)?,
        ["default", "out", what] => set.default_out = action(what)?,
        ["enable"] => set.switch = Some(true),
        ["disable"] => set.switch = Some(false),
        ["reset-counters"] => set.reset_counters = true,
        ["reset"] => {
            *set = RuleSet::parse(DEFAULTS).map_err(|e| e.to_string())?;
        }
        _ => {
            return Err(format!(
                "{}: not understood; see oxfw help",
                words.join(" ")
            ));
        }
    }
    Ok(())
}

/// Says so when the SSH connection that this runs in could not be made again.
fn warn(set: &RuleSet) {
    let Ok(connection) = std::env::var("SSH_CONNECTION") else {
        return;
    };
    let names = crate::network::interface_names();
    if set.switch != Some(false) && shuts_out(set, &connection, &names) {
        eprintln!("oxfw: warning: these rules let no new SSH connection in like this one");
    }
}

/// Whether no interface lets in what `connection` (client, its port, server, its port) did.
fn shuts_out(set: &RuleSet, connection: &str, names: &[String]) -> bool {
    let words: Vec<&str> = connection.split(' ').collect();
    let [client, client_port, server, server_port] = words[..] else {
        return false;
    };
    let (Ok(from), Ok(to)) = (client.parse(), server.parse()) else {
        return false;
    };
    let (Ok(source), Ok(destination)) = (client_port.parse(), server_port.parse()) else {
        return false;
    };
    !names.iter().any(|interface| {
        let packet = Packet {
            chain: Chain::In,
            protocol: 6,
            from,
            to,
            ports: Some((source, destination)),
            interface,
        };
        set.decide(&packet).0 == Action::Allow
    })
}

fn list(options: &[&str]) -> Result<(), String> {
    let (mut numbers, mut counters) = (false, false);
    for option in options {
        match *option {
            "-n" => numbers = true,
            "-v" => counters = true,
            "-nv" | "-vn" => (numbers, counters) = (true, true),
            other => return Err(format!("{other}: not understood; see oxfw help")),
        }
    }
    crate::print(&listing(&read(KERNEL)?, numbers, counters));
    Ok(())
}

/// The kernel's text, with numbers before rules, and counters or not.
fn listing(text: &str, numbers: bool, counters: bool) -> String {
    let mut out = String::new();
    let mut nr = 0;
    for line in text.lines() {
        let (rule, counter) = line.rsplit_once(" # ").unwrap_or((line, ""));
        if rule.starts_with('#') {
            if counters {
                out += line;
                out.push('\n');
            }
            continue;
        }
        let is_rule = rule.starts_with("in ") || rule.starts_with("out ");
        if is_rule {
            nr += 1;
        }
        if numbers {
            out += &if is_rule {
                format!("{nr:3}  ")
            } else {
                " ".repeat(5)
            };
        }
        out += rule;
        if counters && !counter.is_empty() {
            out += "    # ";
            out += counter;
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, words: &str) -> Result<String, String> {
        let mut set = RuleSet::parse(text).unwrap();
        let words: Vec<&str> = words.split(' ').collect();
        edit(&mut set, &words)?;
        Ok(set.rules.iter().map(|r| format!("{r};")).collect())
    }

    #[test]
    fn rules_come_and_go() {
        let two = "allow tcp 22 comment \"SSH\"\nallow udp 53\n";
        let a = "in allow tcp 22 comment \"SSH\";";
        let b = "in allow udp 53;";
        let is = |words: &str, expected: String| {
            assert_eq!(edited(two, words).as_ref(), Ok(&expected), "{words}");
        };
        is(
            "add deny tcp 80 from 10.0.0.0/8",
            format!("{a}{b}in deny tcp 80 from 10.0.0.0/8;"),
        );
        is("insert 1 deny any", format!("in deny any;{a}{b}"));
        is("insert 3 deny any", format!("{a}{b}in deny any;"));
        is("delete 1", b.to_owned());
        is("delete allow tcp 22", b.to_owned());
        is("delete in allow udp 53", a.to_owned());
        is("flush", String::new());
        for bad in [
            "insert 4 deny any",
            "delete 3",
            "delete 0",
            "delete deny any",
            "add allow udp 53",
            "add",
            "frob",
        ] {
            assert!(edited(two, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_shipped_file_is_what_the_kernel_begins_with() {
        let file = include_str!("../../rootfs/etc/firewall.conf");
        assert_eq!(RuleSet::parse(file), RuleSet::parse(DEFAULTS));
    }

    #[test]
    fn lists_with_numbers_and_counters() {
        let text = "filter on\n# answers: packets 1 bytes 2\ndefault in deny # packets 0 bytes 0\n\
            in allow tcp 22 comment \"a # b\" # packets 3 bytes 180\n";
        assert_eq!(
            listing(text, true, false),
            "     filter on\n     default in deny\n  1  in allow tcp 22 comment \"a # b\"\n"
        );
        assert!(listing(text, false, true).contains("\"a # b\"    # packets 3 bytes 180\n"));
    }

    #[test]
    fn knows_when_ssh_is_shut_out() {
        let names = ["eth0".to_owned()];
        let connection = "10.0.2.2 40000 10.0.2.15 22";
        let out = |text: &str| shuts_out(&RuleSet::parse(text).unwrap(), connection, &names);
        assert!(!out("allow tcp 22"));
        assert!(out("deny tcp 22\nallow any"));
        assert!(out("allow tcp 22 on eth1"));
        assert!(!out("default in allow"));
        assert!(!shuts_out(&RuleSet::default(), "nonsense", &names));
    }
}
