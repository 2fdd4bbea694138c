//! The tools without the rest of oxbox: named by `argv[0]`, or `netcfg TOOL [ARGUMENT]...`.

use std::ffi::OsString;
use std::path::Path;

fn main() {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let find = |name: &OsString| {
        let name = Path::new(name).file_name()?.to_str()?;
        oxbow_netcfg::TOOLS.iter().find(|(known, _)| *known == name)
    };
    let mut tool = args.first().and_then(find);
    if tool.is_none() && !args.is_empty() {
        args.remove(0);
        tool = args.first().and_then(find);
    }
    std::process::exit(match tool {
        Some((_, run)) => run(args),
        None => {
            for (name, _) in oxbow_netcfg::TOOLS {
                println!("{name}");
            }
            2
        }
    });
}
