//! Credentials and, later, sandbox and audit. Credentials arrive as arguments.

pub mod capability;
pub mod cred;
pub mod random;
pub use cred::Credentials;
