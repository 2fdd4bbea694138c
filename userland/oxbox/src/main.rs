//! The multi-call utilities.
fn main() {}
