//! Questions to name servers: the messages ([`message`]), the settings
//! ([`config`]) and the asking ([`client`]). What std and libc look up when a
//! program connects by name does not go through here.

pub mod client;
pub mod config;
pub mod message;
pub mod name;
pub mod record;
