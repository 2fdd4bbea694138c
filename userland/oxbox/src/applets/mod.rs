//! The applets that are not whole crates of their own: thin fronts to library
//! crates ([`tools`], [`archive`]), and what no library gives.

mod archive;
mod changes;
mod differ;
mod dmesg;
mod dump;
mod fallocate;
mod hunks;
mod logger;
mod memory;
mod mounts;
mod moves;
mod pager;
mod patch;
mod power;
mod ps;
mod run;
mod session;
mod signals;
mod text;
mod tools;
mod top;
pub mod usage;
mod watch;

use super::{Applet, Args};

macro_rules! applets {
    ($($name:literal => $run:path),* $(,)?) => {
        &[$(Applet { name: $name, run: $run }),*]
    };
}

/// Every applet of this kind, sorted by name.
pub const APPLETS: &[Applet] = applets![
    "awk" => oxbow_awk::main,
    "bunzip2" => archive::bunzip2,
    "bzcat" => archive::bzcat,
    "bzip2" => archive::bzip2,
    "cal" => text::cal,
    "clear" => session::clear,
    "cmp" => differ::cmp,
    "diff" => differ::diff,
    "dmesg" => dmesg::dmesg,
    "egrep" => tools::egrep,
    "fallocate" => fallocate::fallocate,
    "fgrep" => tools::fgrep,
    "find" => tools::find,
    "flock" => run::flock,
    "free" => memory::free,
    "grep" => tools::grep,
    "gunzip" => archive::gunzip,
    "gzip" => archive::gzip,
    "halt" => power::halt,
    "hd" => dump::hd,
    "help" => session::help,
    "hexdump" => dump::hexdump,
    "hostname" => crate::uu::hostname,
    "killall" => signals::killall,
    "less" => pager::less,
    "logger" => logger::logger,
    "lsof" => memory::lsof,
    "lzcat" => archive::lzcat,
    "more" => pager::more,
    "mount" => mounts::mount,
    "mountpoint" => mounts::mountpoint,
    "mv" => moves::mv,
    "patch" => patch::patch,
    "pgrep" => signals::pgrep,
    "pidof" => signals::pidof,
    "pkill" => signals::pkill,
    "poweroff" => power::poweroff,
    "ps" => ps::ps,
    "pstree" => ps::pstree,
    "reboot" => power::reboot,
    "renice" => signals::renice,
    "reset" => session::reset,
    "rev" => text::rev,
    "sed" => oxbow_sed::main,
    "setsid" => session::setsid,
    "shutdown" => power::shutdown,
    "strings" => dump::strings,
    "sysctl" => memory::sysctl,
    "tar" => archive::tar,
    "time" => run::time,
    "timeout" => crate::uu::timeout,
    "top" => top::top,
    "tree" => text::tree,
    "umount" => mounts::umount,
    "unlzma" => archive::unlzma,
    "unxz" => archive::unxz,
    "unzip" => archive::unzip,
    "unzstd" => archive::unzstd,
    "uptime" => memory::uptime,
    "w" => ps::w,
    "watch" => watch::watch,
    "which" => session::which,
    "xargs" => tools::xargs,
    "xxd" => dump::xxd,
    "xz" => archive::xz,
    "xzcat" => archive::xzcat,
    "zcat" => archive::zcat,
    "zip" => archive::zip,
    "zstd" => archive::zstd,
    "zstdcat" => archive::zstdcat,
];
