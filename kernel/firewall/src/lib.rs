//! The packet filter's rules: what they are ([`rule`]), and their text ([`text`]).
//!
//! The kernel reads the text that is written to /proc/net/firewall and asks [`RuleSet::decide`]
//! for each packet that opens something; `oxfw` reads and checks /etc/firewall.conf with the
//! same code. Not responsible for what answers to something that is open: the kernel knows.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod rule;
pub mod text;

pub use rule::{Action, Chain, Packet, Prefix, Protocol, Range, Rule, RuleSet};
pub use text::TextError;

/// Most bytes of a rule set's text.
pub const MAX_TEXT: usize = 64 * 1024;
/// Most rules of a set.
pub const MAX_RULES: usize = 1024;
/// Most bytes of a rule's comment.
pub const MAX_COMMENT: usize = 128;
/// Most bytes of an interface's name (IFNAMSIZ, with its end).
pub const MAX_NAME: usize = 15;

/// What a machine has that nobody configured: SSH, and the ICMP that networks need.
pub const DEFAULTS: &str = "\
default in deny
default out allow
in allow icmp comment \"echo, errors, too big\"
in allow icmpv6 comment \"the same, and neighbour discovery\"
in allow tcp 22 comment \"SSH\"
";
