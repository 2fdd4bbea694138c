//! What `--help` says of the applets that are ours; the crates' answer for themselves.

/// Name, arguments, and what it does with its options.
const USAGE: &[(&str, &str, &str)] = &[
    (
        "awk",
        "[-F SEP] [-v VAR=VALUE] PROGRAM|-f FILE [FILE]...",
        "Run an awk program over the lines of FILEs.",
    ),
    (
        "bunzip2",
        "[-cfkqtv] [FILE]...",
        "Decompress bzip2 files; see bzip2.",
    ),
    (
        "bzcat",
        "[FILE]...",
        "Decompress bzip2 files to standard output.",
    ),
    (
        "bzip2",
        "[-cdfkqtvz1..9] [FILE]...",
        "Compress FILEs in place (standard input without any).\n\n  -d  decompress\n  -c  write to standard output\n  -k  keep input files\n  -f  overwrite, and write to terminals\n  -t  test",
    ),
    ("cal", "[[MONTH] YEAR]", "Show a calendar."),
    ("clear", "", "Clear the terminal's screen."),
    (
        "diff",
        "[-abBiNqrswy] [-u|-c|-U N|-C N] [-L LABEL] FILE FILE",
        "Show in which lines two files or directories differ.\nThe status is 0 where they do not, 1 where they do.",
    ),
    (
        "dmesg",
        "[-cCwWrtTxDE] [-l LEVELS] [-n LEVEL]",
        "Show the kernel's messages.\n\n  -c  and forget them          -C  only forget them\n  -w  wait for more            -n  messages below LEVEL (1-8) go to the console\n  -l  only those of LEVELS     -x  show the levels\n  -r  as the kernel has them   -t  without times        -T  with times of day",
    ),
    (
        "fallocate",
        "[-npzciv] [-o OFFSET] -l LENGTH FILE",
        "Make storage for a part of a file.\n\n  -n  without a change of its size\n  -p  take the storage away: zeros without blocks\n  -z  zeros, with blocks         -c -i  take the part out, or put one in",
    ),
    (
        "flock",
        "[-snuw] [-E STATUS] FILE|DIRECTORY COMMAND [ARGUMENT]...|-c TEXT",
        "Run a command while a lock is held.\n\n  -s  shared   -n  do not wait   -E  status where the lock is taken (1)",
    ),
    (
        "free",
        "[-bkmghtwl] [-s SECONDS] [-c COUNT]",
        "Show how much memory is used.\n\n  -b -k -m -g  in bytes, KiB, MiB, GiB   -h  in what is easy to read\n  -t  with a line of totals    -w  buffers and cache apart\n  -s  again every SECONDS      -c  COUNT times",
    ),
    (
        "gunzip",
        "[-cfklnNqrtv] [FILE]...",
        "Decompress gzip files; see gzip.",
    ),
    (
        "gzip",
        "[-cdfklnNqrtv1..9] [-S SUFFIX] [FILE]...",
        "Compress FILEs in place (standard input without any).\n\n  -d  decompress                  -c  write to standard output\n  -k  keep input files            -f  overwrite, and write to terminals\n  -l  list compressed files       -t  test\n  -r  descend into directories    -n -N  without, with the stored name\n  -1 .. -9  fast .. small         -S  use SUFFIX for .gz",
    ),
    (
        "halt",
        "[-fn]",
        "Stop the machine and leave it on.\n\n  -f  at once, without stopping services   -n  do not sync",
    ),
    ("hd", "[FILE]...", "Show bytes in hexadecimal and as text."),
    ("help", "[NAME]", "List the programs, or tell about one."),
    (
        "hexdump",
        "[-bcCdox] [-n BYTES] [-s OFFSET] [FILE]...",
        "Show bytes.\n\n  -C  in hexadecimal and as text",
    ),
    (
        "killall",
        "[-SIGNAL] [-qvwe] NAME...",
        "Send a signal (TERM) to the processes of that name.",
    ),
    (
        "less",
        "[FILE]...",
        "Show a text page by page; q ends, h helps.",
    ),
    (
        "logger",
        "[-is] [-t TAG] [-p FACILITY.LEVEL] [-f FILE] [MESSAGE]...",
        "Send messages to the system log.",
    ),
    ("lsof", "[-p PID,...] [FILE]...", "List open files."),
    (
        "lzcat",
        "[FILE]...",
        "Decompress lzma files to standard output.",
    ),
    ("more", "[FILE]...", "Show a text page by page."),
    (
        "mount",
        "[-arvn] [-t TYPE] [-o OPTIONS] [DEVICE] [DIRECTORY]",
        "Mount a filesystem; without arguments list the mounted ones.\n\n  -a  all of /etc/fstab      -r  read-only (-o ro)\n  -o  ro rw remount bind noexec nosuid nodev noatime sync ... and the filesystem's own\n  --bind --rbind --move  a directory in another place",
    ),
    (
        "mountpoint",
        "[-qdx] DIRECTORY",
        "Say whether a directory is a mount point.",
    ),
    (
        "pgrep",
        "[-acfilnovx] [-u USER] [-P PARENT] [-t TTY] [-g GROUP] [-s SESSION] [-d TEXT] [PATTERN]",
        "List the processes that match.\n\n  -f  match the whole command line   -x  exactly\n  -l  show names   -a  show command lines   -c  count\n  -n  the newest   -o  the oldest    -v  those that do not match",
    ),
    (
        "pidof",
        "[-sqx] [-o PID] NAME...",
        "List the processes that run a program.",
    ),
    (
        "pkill",
        "[-SIGNAL] [-cefinovx] [-u USER] [-P PARENT] [-t TTY] [-g GROUP] [-s SESSION] [PATTERN]",
        "Send a signal (TERM) to the processes that match; see pgrep.",
    ),
    (
        "poweroff",
        "[-fn]",
        "Stop the machine and turn it off.\n\n  -f  at once, without stopping services   -n  do not sync",
    ),
    (
        "ps",
        "[aux|-ef|-ely] [OPTION]...",
        "List processes.\n\n  -e -A ax    all            -f -F u l j  more columns\n  -p PIDS     -C NAMES       -u USERS     -t TTYS    --ppid PIDS\n  -o COLUMNS  pid ppid user args comm %cpu %mem rss vsz stat tty time etime nice ...\n  --sort=[-]COLUMN           -H f --forest  as a tree\n  -L -T       threads        -N  all but those     w  wide",
    ),
    ("pstree", "[-pa] [PID]", "Show processes as a tree."),
    (
        "reboot",
        "[-fn]",
        "Stop the machine and start it anew.\n\n  -f  at once, without stopping services   -n  do not sync",
    ),
    (
        "renice",
        "[-n] NICE [-p PID...] [-g GROUP...] [-u USER...]",
        "Change the nice value of running processes.",
    ),
    ("reset", "", "Bring a confused terminal back."),
    ("rev", "[FILE]...", "Reverse the characters of each line."),
    (
        "setsid",
        "[-cfw] PROGRAM [ARGUMENT]...",
        "Run a program in a session of its own.\n\n  -c  with this terminal   -f  always fork   -w  wait for it",
    ),
    (
        "shutdown",
        "[-hPHr] [now|+MINUTES|HH:MM] [MESSAGE]",
        "Stop the machine.\n\n  -h -P  and turn it off (as when not told)   -r  and start it anew   -H  and leave it on",
    ),
    (
        "strings",
        "[-n LENGTH] [-t d|o|x] [FILE]...",
        "Show the text in files that are none.",
    ),
    (
        "sysctl",
        "[-anwqe] [-p [FILE]] [NAME[=VALUE]]...",
        "Show or set parameters of the kernel.",
    ),
    (
        "tar",
        "-c|-x|-t|-r|-u [-f ARCHIVE] [OPTION]... [NAME]...",
        "Make (-c), unpack (-x), list (-t), extend (-r, -u) archives.\n\n  -f  the archive; standard input or output without it\n  -z -j -J --zstd -a  gzip, bzip2, xz, zstd, by the archive's name; -x and -t see it themselves\n  -C DIRECTORY  be there     -v  tell names       -O  to standard output\n  -p  exact modes            -o  own the files    -m  not the old times\n  -h  follow links           -S  keep holes       -P  keep leading slashes\n  -k  keep files that exist  -T FILE  names from FILE   -X FILE  patterns from FILE\n  --exclude=PATTERN --strip-components=N --numeric-owner --no-recursion --overwrite\n  --skip-old-files --wildcards --one-file-system --remove-files --null\n  --owner=NAME --group=NAME --mode=OCTAL --mtime=DATE",
    ),
    (
        "time",
        "[-pv] [-o FILE [-a]] COMMAND [ARGUMENT]...",
        "Run a command and tell how long it took.",
    ),
    (
        "top",
        "[-b] [-d SECONDS] [-n COUNT] [-p PIDS] [-u USER] [-o COLUMN] [-Hci]",
        "Show who uses the processor; q ends, P M N T sort.\n\n  -b  without a terminal",
    ),
    (
        "tree",
        "[-adfF] [-L DEPTH] [DIRECTORY]...",
        "Show directories as a tree.",
    ),
    (
        "umount",
        "[-aflrR] [-t TYPE] DIRECTORY|DEVICE...",
        "Unmount filesystems.\n\n  -l  now from sight, later for good   -f  by force\n  -r  where it is busy, make it read-only   -R  with what is below",
    ),
    ("unlzma", "[-cfkqtv] [FILE]...", "Decompress lzma files."),
    (
        "unxz",
        "[-cfkqtv] [FILE]...",
        "Decompress xz files; see xz.",
    ),
    (
        "unzip",
        "[-lpqtnojuv] ARCHIVE [NAME]... [-x NAME...] [-d DIRECTORY]",
        "Unpack zip archives.\n\n  -l  list   -t  test   -p  to standard output\n  -o  overwrite   -n  never overwrite   -j  without directories",
    ),
    (
        "unzstd",
        "[-cfkqtv] [FILE]...",
        "Decompress zstd files; see zstd.",
    ),
    (
        "uptime",
        "[-ps]",
        "Tell how long the system has been running.\n\n  -p  in words   -s  since when",
    ),
    (
        "w",
        "[-hs] [USER]",
        "Tell who is logged in and what they do.",
    ),
    (
        "watch",
        "[-tegxdb] [-n SECONDS] COMMAND [ARGUMENT]...",
        "Run a command again and again and show what it prints.\n\n  -n  every SECONDS (2)      -t  without a title   -x  not by a shell\n  -e  until it fails         -g  until its output changes\n  -d  show what changed      -b  ring the bell when it fails",
    ),
    ("which", "[-a] NAME...", "Show where in $PATH a program is."),
    (
        "xxd",
        "[-bipruE] [-c COLUMNS] [-g BYTES] [-l LENGTH] [-s OFFSET] [INPUT [OUTPUT]]",
        "Show bytes in hexadecimal, or (-r) make bytes from that.",
    ),
    (
        "xz",
        "[-cdfkqtvz0..9] [-T N] [FILE]...",
        "Compress FILEs in place (standard input without any).\n\n  -d  decompress   -c  write to standard output   -k  keep input files\n  -f  overwrite, and write to terminals   -t  test",
    ),
    (
        "xzcat",
        "[FILE]...",
        "Decompress xz files to standard output.",
    ),
    (
        "zcat",
        "[-f] [FILE]...",
        "Decompress gzip files to standard output.",
    ),
    (
        "zip",
        "[-rqjymuD0..9] ARCHIVE [NAME]... [-x NAME...]",
        "Make zip archives, or add to them.\n\n  -r  with what is in directories   -y  links as links   -j  without directories\n  -m  move files into the archive   -u  only newer files   -d  delete from it",
    ),
    (
        "zstd",
        "[-cdfkqtvz] [--rm] [-o FILE] [FILE]...",
        "Compress FILEs beside themselves (standard input without any), at one level.\n\n  -d  decompress   -c  write to standard output   --rm  remove input files\n  -f  overwrite, and write to terminals   -t  test",
    ),
    (
        "zstdcat",
        "[FILE]...",
        "Decompress zstd files to standard output.",
    ),
];

/// What `--help` prints for `name`, if that applet is ours.
pub fn of(name: &str) -> Option<String> {
    let (_, arguments, about) = USAGE.iter().find(|(own, _, _)| *own == name)?;
    let blank = if arguments.is_empty() { "" } else { " " };
    Some(format!("Usage: {name}{blank}{arguments}\n{about}\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_applet_of_ours_has_help() {
        // Crates that answer for themselves.
        const OTHERS: [&str; 11] = [
            "egrep", "fgrep", "find", "grep", "hostname", "sed", "xargs", "cmp", "patch",
            "timeout", "mv",
        ];
        for applet in crate::applets::APPLETS {
            let known = super::of(applet.name).is_some();
            assert!(known || OTHERS.contains(&applet.name), "{}", applet.name);
        }
    }
}
