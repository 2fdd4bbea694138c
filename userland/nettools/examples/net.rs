//! Runs one of the programs by name, to try them without building all of oxbox:
//! `cargo run -p nettools --example net -- ping -c 1 localhost`.

fn main() {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let name = args.first().and_then(|name| name.to_str()).unwrap_or("");
    let program = nettools::PROGRAMS.iter().find(|(known, _)| *known == name);
    let Some((_, run)) = program else {
        for (name, _) in nettools::PROGRAMS {
            println!("{name}");
        }
        std::process::exit(127);
    };
    std::process::exit(run(args));
}
