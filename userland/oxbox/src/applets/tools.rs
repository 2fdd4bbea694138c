//! Fronts to the uutils crates that are not coreutils: grep, find, xargs.

use std::ffi::OsString;

use super::Args;

pub fn grep(args: Args) -> i32 {
    uu_grep::uumain(args.into_iter())
}

/// grep with `option` put before the user's own arguments.
fn grep_with(option: &str, mut args: Args) -> i32 {
    let at = args.len().min(1);
    args.insert(at, OsString::from(option));
    grep(args)
}

pub fn egrep(args: Args) -> i32 {
    grep_with("-E", args)
}

pub fn fgrep(args: Args) -> i32 {
    grep_with("-F", args)
}

pub fn find(args: Args) -> i32 {
    findutils::find::find_main(&args, &findutils::find::StandardDependencies::new())
}

pub fn xargs(args: Args) -> i32 {
    findutils::xargs::xargs_main(&args)
}
