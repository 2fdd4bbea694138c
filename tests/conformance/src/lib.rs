//! Conformance: `programs/*.c` are built static with musl, run on the host's Linux and then in
//! one boot of the image (`tests/conformance.rs`); what they print must be the same.
