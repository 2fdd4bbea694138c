//! Credentials and, later, sandbox and audit. Credentials arrive as arguments.

pub mod cred;
pub use cred::Credentials;
