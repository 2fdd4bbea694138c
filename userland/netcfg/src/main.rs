//! `netcfg TOOL [ARGUMENT]...`: the tools without the rest of oxbox.

fn main() {
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    let name = args.first().map(|a| a.to_string_lossy().into_owned());
    let tool = oxbow_netcfg::TOOLS
        .iter()
        .find(|(known, _)| Some(*known) == name.as_deref());
    std::process::exit(match tool {
        Some((_, run)) => run(std::mem::take(&mut args)),
        None => {
            for (name, _) in oxbow_netcfg::TOOLS {
                println!("{name}");
            }
            2
        }
    });
}
