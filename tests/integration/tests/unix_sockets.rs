//! Unix sockets behave as on Linux, where the same program runs first.

use oxbow_integration::same_as_on_linux;

#[test]
fn unix_sockets_are_those_of_linux() {
    same_as_on_linux("unixsock", &[]);
}
