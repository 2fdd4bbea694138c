//! Applets that come whole from the uutils crates: one row each.

use super::{Applet, Args};

/// Runs one uutils `uumain` after setting up its message catalogue, as the
/// crates' own `main` does (`uucore::bin!`).
macro_rules! uu {
    ($($name:literal => $krate:ident),* $(,)?) => {
        &[$(Applet {
            name: $name,
            run: |args: Args| {
                catalogue(stringify!($krate));
                $krate::uumain(args.into_iter())
            },
        }),*]
    };
}

/// Loads the English messages of the crate `name` (usage, errors, formats);
/// without them uutils prints message keys.
pub fn catalogue(name: &str) {
    if let Err(error) = uucore::locale::setup_localization(uucore::get_canonical_util_name(name)) {
        eprintln!("oxbox: {name}: message catalogue: {error}");
    }
}

/// hostname, with the addresses that uutils' does not show (`-I`).
pub fn hostname(args: Args) -> i32 {
    if args.len() == 2 && (args[1] == "-I" || args[1] == "--all-ip-addresses") {
        return nettools::addresses::main(args);
    }
    catalogue("uu_hostname");
    uu_hostname::uumain(args.into_iter())
}

/// timeout, with the status 137 that GNU's has where the signal is SIGKILL: the
/// crate's says 124 for every signal.
pub fn timeout(args: Args) -> i32 {
    const KILL: [&str; 3] = ["9", "KILL", "SIGKILL"];
    let texts: Vec<String> = args
        .iter()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .take_while(|arg| arg != "--")
        .collect();
    // Only options that stand before the duration are timeout's own.
    let mut kills = false;
    let mut preserves = false;
    let mut words = texts.iter();
    while let Some(word) = words.next() {
        let is_kill = |name: &str| KILL.contains(&name.to_uppercase().as_str());
        match word.as_str() {
            "-s" | "--signal" => kills = words.next().is_some_and(|name| is_kill(name)),
            "-k" | "--kill-after" => drop(words.next()),
            "-p" | "--preserve-status" => preserves = true,
            word if word.starts_with("--signal=") => kills = is_kill(&word[9..]),
            word if word.starts_with("-s") => kills = is_kill(&word[2..]),
            word if word.starts_with('-') => {}
            _ => break,
        }
    }
    catalogue("uu_timeout");
    match uu_timeout::uumain(args.into_iter()) {
        124 if kills && !preserves => 137,
        status => status,
    }
}

/// Every applet of this kind, sorted by name.
pub const APPLETS: &[Applet] = uu![
    "[" => uu_test,
    "arch" => uu_arch,
    "b2sum" => uu_b2sum,
    "base32" => uu_base32,
    "base64" => uu_base64,
    "basename" => uu_basename,
    "basenc" => uu_basenc,
    "cat" => uu_cat,
    "chgrp" => uu_chgrp,
    "chmod" => uu_chmod,
    "chown" => uu_chown,
    "chroot" => uu_chroot,
    "cksum" => uu_cksum,
    "comm" => uu_comm,
    "cp" => uu_cp,
    "csplit" => uu_csplit,
    "cut" => uu_cut,
    "date" => uu_date,
    "dd" => uu_dd,
    "df" => uu_df,
    "dir" => uu_dir,
    "dircolors" => uu_dircolors,
    "dirname" => uu_dirname,
    "du" => uu_du,
    "echo" => uu_echo,
    "env" => uu_env,
    "expand" => uu_expand,
    "expr" => uu_expr,
    "factor" => uu_factor,
    "false" => uu_false,
    "fmt" => uu_fmt,
    "fold" => uu_fold,
    "groups" => uu_groups,
    "head" => uu_head,
    "hostid" => uu_hostid,
    "id" => uu_id,
    "install" => uu_install,
    "join" => uu_join,
    "kill" => uu_kill,
    "link" => uu_link,
    "ln" => uu_ln,
    "logname" => uu_logname,
    "ls" => uu_ls,
    "md5sum" => uu_md5sum,
    "mkdir" => uu_mkdir,
    "mkfifo" => uu_mkfifo,
    "mknod" => uu_mknod,
    "mktemp" => uu_mktemp,
    "nice" => uu_nice,
    "nl" => uu_nl,
    "nohup" => uu_nohup,
    "nproc" => uu_nproc,
    "numfmt" => uu_numfmt,
    "od" => uu_od,
    "paste" => uu_paste,
    "pathchk" => uu_pathchk,
    "pinky" => uu_pinky,
    "pr" => uu_pr,
    "printenv" => uu_printenv,
    "printf" => uu_printf,
    "ptx" => uu_ptx,
    "pwd" => uu_pwd,
    "readlink" => uu_readlink,
    "realpath" => uu_realpath,
    "rm" => uu_rm,
    "rmdir" => uu_rmdir,
    "seq" => uu_seq,
    "sha1sum" => uu_sha1sum,
    "sha224sum" => uu_sha224sum,
    "sha256sum" => uu_sha256sum,
    "sha384sum" => uu_sha384sum,
    "sha512sum" => uu_sha512sum,
    "shred" => uu_shred,
    "shuf" => uu_shuf,
    "sleep" => uu_sleep,
    "sort" => uu_sort,
    "split" => uu_split,
    "stat" => uu_stat,
    "stty" => uu_stty,
    "sum" => uu_sum,
    "sync" => uu_sync,
    "tac" => uu_tac,
    "tail" => uu_tail,
    "tee" => uu_tee,
    "test" => uu_test,
    "touch" => uu_touch,
    "tr" => uu_tr,
    "true" => uu_true,
    "truncate" => uu_truncate,
    "tsort" => uu_tsort,
    "tty" => uu_tty,
    "uname" => uu_uname,
    "unexpand" => uu_unexpand,
    "uniq" => uu_uniq,
    "unlink" => uu_unlink,
    "users" => uu_users,
    "vdir" => uu_vdir,
    "wc" => uu_wc,
    "who" => uu_who,
    "whoami" => uu_whoami,
    "yes" => uu_yes,
];
