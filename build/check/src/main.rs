//! `oxbow-check layers DIRECTORY`: checks that the modules of the kernel keep to their layers.
//!
//! Responsible for: the rule that Rust itself does not make inside one crate. A module imports only from
//! its own layer, without cycles, or from a lower one; plug-ins are named by the boot code alone. Not
//! for: style, which is rustfmt's and clippy's.
//!
//! DIRECTORY is the kernel's `src`. Prints `file:line: what is wrong` for every offence and ends with
//! status 1 if there was one, 2 if a file could not be read.

mod imports;
mod layers;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let root = match (arguments.next(), arguments.next()) {
        (Some(verb), Some(root)) if verb == "layers" => PathBuf::from(root),
        _ => {
            eprintln!("usage: oxbow-check layers kernel/src");
            return ExitCode::from(2);
        }
    };
    match check(&root) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(offences) => {
            eprintln!(
                "{offences} offences against the layers of the kernel; the table is in build/check/src/layers.rs"
            );
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("oxbow-check: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Checks all sources under `root`, prints the offences and returns how many there are.
fn check(root: &Path) -> Result<usize, String> {
    let mut files = Vec::new();
    collect(root, &mut files).map_err(|error| format!("{}: {error}", root.display()))?;
    files.sort();
    if files.is_empty() {
        return Err(format!("{}: no Rust sources", root.display()));
    }
    let mut sources = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let path = imports::module_path(file.strip_prefix(root).unwrap_or(&file));
        let source = imports::Source::parse(&file, path, &text)?;
        sources.push(source);
    }
    let offences = layers::offences(&imports::imports(&sources));
    for offence in &offences {
        println!("{offence}");
    }
    Ok(offences.len())
}

/// Adds every `.rs` file below `directory` to `files`.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
