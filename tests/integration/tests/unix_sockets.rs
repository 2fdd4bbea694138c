//! Unix sockets behave as on Linux, where the same program runs first.

use oxbow_integration::same_as_on_linux;

#[test]
fn unix_sockets_are_those_of_linux() {
    let mut m = same_as_on_linux("unixsock", &[]);
    // Those of the tools that list them.
    let rows = m.ok("cat /proc/net/unix");
    assert!(rows.starts_with("Num       RefCount Protocol Flags    Type St Inode Path\n"));
    let sockets = m.ok("ss -xa");
    println!("{sockets}");
    let all = rows.lines().count() - 1;
    assert_eq!(sockets.lines().count() - 1, all, "{rows}");
    assert_eq!(m.ok("netstat -xa").matches("unix ").count(), all, "{rows}");
}
