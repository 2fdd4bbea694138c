//! oxbox: the utilities of Oxbow in one binary.
//!
//! It runs the applet named by `argv[0]` (so `/bin/ls` is a link to it) or by
//! its first argument. Most applets are uutils crates, linked in as they are
//! ([`uu`]); what no crate offers is under [`applets`], one file per subject;
//! the network's clients are the crate `nettools`, its configuration is `oxbow_netcfg`.
//! The tables are the only place that knows which applets there are:
//! `oxbox --list` prints them, and the image's links are made from that.

mod applets;
mod proc;
mod sys;
mod uu;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::Path;

/// Arguments of an applet, its own name first.
type Args = Vec<OsString>;

/// One utility.
#[derive(Clone, Copy)]
struct Applet {
    name: &'static str,
    /// Runs it; returns its exit status.
    run: fn(Args) -> i32,
}

fn main() {
    // As uutils' own binaries do: a closed pipe ends the writer quietly.
    uucore::panic::preserve_inherited_sigpipe();
    uucore::panic::mute_sigpipe_panic();

    let mut args: Args = std::env::args_os().collect();
    let mut name = applet_name(args.first());
    end_on_write_errors(&args);
    if name == "oxbox" {
        match args.get(1).and_then(|a| a.to_str()) {
            Some("--list") => std::process::exit(list()),
            None | Some("--help" | "-h") => {
                usage();
                std::process::exit(i32::from(args.len() < 2));
            }
            Some(_) => {}
        }
        args.remove(0);
        name = applet_name(args.first());
        uucore::set_utility_is_second_arg();
    }
    let Some(applet) = find(&name) else {
        eprintln!("oxbox: {name}: no such applet");
        std::process::exit(127);
    };
    // uutils' applets do this for themselves where it fits; ours all end with the reader of their output.
    if applets::APPLETS.iter().any(|own| own.name == applet.name) {
        let _ = uucore::signals::enable_pipe_errors();
    }
    let status = match about(&name, args.get(1)) {
        Some(answer) => {
            print!("{answer}");
            0
        }
        None if RECURSIVE.contains(&name.as_str()) => {
            open_all_files();
            with_deep_stack(|| (applet.run)(args.clone()))
        }
        None => (applet.run)(args),
    };
    match std::io::stdout().flush() {
        Err(error) if status == 0 && error.kind() != std::io::ErrorKind::BrokenPipe => {
            std::process::exit(sys::fail(&name, format!("write error: {error}"), 1));
        }
        Err(_) if status == 0 => std::process::exit(1),
        _ => std::process::exit(status),
    }
}

/// Utilities that hold a descriptor and some stack per level of a tree, and run no other programs.
const RECURSIVE: [&str; 8] = ["chgrp", "chmod", "chown", "cp", "du", "ls", "mv", "rm"];

/// Allows this process as many open files as it may have: trees are deeper than
/// what a process gets when it does not ask.
fn open_all_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Without it shallow trees still work.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Calls `run` on a stack for trees that are deeper than the main thread's is good for. Only what is used takes memory.
fn with_deep_stack(run: impl Fn() -> i32 + Sync) -> i32 {
    const STACK: usize = 128 << 20;
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK);
        match builder.spawn_scoped(scope, &run) {
            // A panic has said what it is.
            Ok(thread) => thread.join().unwrap_or(101),
            Err(_) => run(),
        }
    })
}

/// The answer to `--help` and `--version` of an applet that is ours.
fn about(name: &str, option: Option<&OsString>) -> Option<String> {
    let usage = applets::usage::of(name)?;
    match option?.to_str()? {
        "--help" => Some(usage),
        "--version" => Some(format!("{name} (oxbox) {}\n", env!("CARGO_PKG_VERSION"))),
        _ => None,
    }
}

/// `println!` panics where standard output takes no more (a full disk): that is
/// an ordinary end of a utility, with a message and status 1.
fn end_on_write_errors(args: &Args) {
    let mut name = applet_name(args.first());
    if name == "oxbox" {
        name = applet_name(args.get(1));
    }
    let other_panics = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>();
        match text.and_then(|text| text.strip_prefix("failed printing to stdout: ")) {
            Some(why) if !why.contains("Broken pipe") => {
                let _ = writeln!(std::io::stderr(), "{name}: write error: {why}");
                std::process::exit(1);
            }
            _ => other_panics(info),
        }
    }));
}

/// The file name in `argv0`, less the dash of a login shell.
fn applet_name(argv0: Option<&OsString>) -> String {
    let name = argv0
        .map(Path::new)
        .and_then(Path::file_name)
        .map(OsStr::to_string_lossy)
        .unwrap_or_default();
    name.strip_prefix('-').unwrap_or(&name).to_owned()
}

fn all() -> impl Iterator<Item = Applet> {
    let network = nettools::PROGRAMS.iter().chain(oxbow_netcfg::TOOLS);
    let network = network.map(|&(name, run)| Applet { name, run });
    let own = uu::APPLETS.iter().chain(applets::APPLETS).copied();
    own.chain(network)
}

fn find(name: &str) -> Option<Applet> {
    all().find(|applet| applet.name == name)
}

/// Prints every applet's name, sorted, one per line.
fn list() -> i32 {
    let mut names: Vec<&str> = all().map(|applet| applet.name).collect();
    names.sort_unstable();
    let text = names.join("\n") + "\n";
    i32::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

fn usage() {
    println!(
        "oxbox {}: {} utilities in one binary\n\
         Usage: oxbox APPLET [ARGUMENT]...\n       \
         oxbox --list",
        env!("CARGO_PKG_VERSION"),
        all().count()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = all().map(|applet| applet.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count >= 100, "only {count} applets");
    }

    #[test]
    fn name_comes_from_the_path() {
        assert_eq!(applet_name(Some(&"/usr/bin/ls".into())), "ls");
        assert_eq!(applet_name(Some(&"-sh".into())), "sh");
        assert_eq!(applet_name(None), "");
    }
}
