//! Assembles the disk image.
fn main() {}
