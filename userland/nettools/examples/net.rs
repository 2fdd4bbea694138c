//! Runs one of the programs, by its own name (a link) or by its first argument,
//! to try them without building all of oxbox:
//! `cargo run -p nettools --example net -- ping -c 1 localhost`.

use std::path::Path;

fn main() {
    let mut args: Vec<_> = std::env::args_os().collect();
    let find = |name: Option<&std::ffi::OsString>| {
        let name = name.map(Path::new).and_then(Path::file_name)?.to_str()?;
        let known = nettools::PROGRAMS.iter();
        known.copied().find(|(known, _)| *known == name)
    };
    let program = find(args.first()).or_else(|| {
        args.remove(0);
        find(args.first())
    });
    let Some((_, run)) = program else {
        for (name, _) in nettools::PROGRAMS {
            println!("{name}");
        }
        std::process::exit(127);
    };
    std::process::exit(run(args));
}
