//! Whom the listener lets in: MaxStartups, connections per source, and penalties for sources whose logins fail.
//!
//! Pure bookkeeping; the listener tells it what happened and when. Sources are single IPv4 addresses and /64 networks
//! of IPv6, because one machine has all addresses of such a network. The tables are bounded, so that a flood from many
//! addresses costs no memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::config::{Config, Penalties, Startups};
use crate::pattern::{self, Verdict};

/// Sources with a penalty that are remembered.
const MAX_SOURCES: usize = 4096;

/// What a connection did that costs its source time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// Its process died.
    Crash,
    /// A login failed.
    AuthFail,
    /// It ended without a try to log in.
    NoAuth,
    /// It let LoginGraceTime pass.
    GraceExceeded,
}

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Penalty { seconds: u64 },
    MaxStartups,
    PerSource,
}

/// The addresses that count as one.
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        address => address,
    }
}

/// The state of the gate. Times are seconds of a monotonic clock.
#[derive(Default)]
pub struct Gate {
    /// Until when a source's penalties last.
    penalties: HashMap<IpAddr, u64>,
    /// Connections of each source that have not logged in.
    pending: HashMap<IpAddr, usize>,
    total: usize,
}

impl Gate {
    /// Decides on a new connection. `dice` is a random number below 100.
    pub fn admit(
        &mut self,
        peer: IpAddr,
        now: u64,
        dice: usize,
        config: &Config,
    ) -> Result<(), Refusal> {
        let source = source(peer);
        if config.penalties.enabled && !exempt(peer, &config.penalties) {
            let left = self
                .penalties
                .get(&source)
                .map_or(0, |until| until.saturating_sub(now));
            if left >= config.penalties.min {
                return Err(Refusal::Penalty { seconds: left });
            }
        }
        if refused_early(self.total, config.max_startups, dice) {
            return Err(Refusal::MaxStartups);
        }
        let own = self.pending.get(&source).copied().unwrap_or(0);
        if config.per_source_startups.is_some_and(|limit| own >= limit) {
            return Err(Refusal::PerSource);
        }
        *self.pending.entry(source).or_default() += 1;
        self.total += 1;
        Ok(())
    }

    /// A connection that was let in has logged in or ended.
    pub fn settled(&mut self, peer: IpAddr) {
        let source = source(peer);
        self.total = self.total.saturating_sub(1);
        if let Some(own) = self.pending.get_mut(&source) {
            *own -= 1;
            if *own == 0 {
                self.pending.remove(&source);
            }
        }
    }

    /// Connections that have not logged in.
    pub fn pending(&self) -> usize {
        self.total
    }

    /// Adds the penalty for `offence`.
    pub fn punish(&mut self, peer: IpAddr, offence: Offence, now: u64, penalties: &Penalties) {
        if !penalties.enabled || exempt(peer, penalties) {
            return;
        }
        let seconds = match offence {
            Offence::Crash => penalties.crash,
            Offence::AuthFail => penalties.authfail,
            Offence::NoAuth => penalties.noauth,
            Offence::GraceExceeded => penalties.grace_exceeded,
        };
        let source = source(peer);
        if self.penalties.len() >= MAX_SOURCES && !self.penalties.contains_key(&source) {
            self.penalties.retain(|_, until| *until > now);
            if self.penalties.len() >= MAX_SOURCES {
                // The one that ends first makes room.
                if let Some(first) = self
                    .penalties
                    .iter()
                    .min_by_key(|(_, until)| **until)
                    .map(|(source, _)| *source)
                {
                    self.penalties.remove(&first);
                }
            }
        }
        let until = self.penalties.entry(source).or_insert(now);
        // A penalty that is over counts no more. What refuses a source lasts, it does not grow with each refused try.
        *until = (*until)
            .max(now)
            .saturating_add(seconds)
            .min(now.saturating_add(penalties.max));
    }

    /// A login from there succeeded: what failed before were mistakes.
    pub fn forgive(&mut self, peer: IpAddr) {
        self.penalties.remove(&source(peer));
    }
}

fn exempt(peer: IpAddr, penalties: &Penalties) -> bool {
    penalties
        .exempt
        .iter()
        .any(|list| pattern::address(peer, list) == Verdict::Match)
}

/// Random early drop (man 5 sshd_config, MaxStartups).
fn refused_early(pending: usize, limits: Startups, dice: usize) -> bool {
    if pending < limits.begin {
        return false;
    }
    if pending >= limits.full || limits.rate == 100 {
        return true;
    }
    let rise = (100 - limits.rate) * (pending - limits.begin) / (limits.full - limits.begin);
    dice < limits.rate + rise
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "").unwrap()
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn early_drop_rises_to_all() {
        let limits = Startups {
            begin: 10,
            rate: 30,
            full: 100,
        };
        assert!(!refused_early(9, limits, 0));
        assert!(refused_early(10, limits, 29));
        assert!(!refused_early(10, limits, 30));
        assert!(refused_early(55, limits, 64));
        assert!(!refused_early(55, limits, 65));
        assert!(refused_early(100, limits, 99));
    }

    #[test]
    fn wrong_passwords_close_the_gate_for_a_while() {
        let config = config("PersourcePenalties authfail:5 min:30 max:60");
        let mut gate = Gate::default();
        let attacker = peer("192.0.2.1");
        for _ in 0..5 {
            gate.punish(attacker, Offence::AuthFail, 1000, &config.penalties);
            assert_eq!(gate.admit(attacker, 1000, 99, &config), Ok(()));
        }
        gate.punish(attacker, Offence::AuthFail, 1000, &config.penalties);
        assert_eq!(
            gate.admit(attacker, 1000, 99, &config),
            Err(Refusal::Penalty { seconds: 30 })
        );
        assert_eq!(gate.admit(peer("192.0.2.2"), 1000, 99, &config), Ok(()));
        assert_eq!(gate.admit(attacker, 1001, 99, &config), Ok(()));
        for _ in 0..100 {
            gate.punish(attacker, Offence::AuthFail, 1000, &config.penalties);
        }
        assert_eq!(
            gate.admit(attacker, 1000, 99, &config),
            Err(Refusal::Penalty { seconds: 60 })
        );
        gate.forgive(attacker);
        assert_eq!(gate.admit(attacker, 1000, 99, &config), Ok(()));
    }

    #[test]
    fn exempt_sources_have_no_penalties() {
        let config = config("PerSourcePenaltyExemptList 10.0.0.0/8\n");
        let mut gate = Gate::default();
        for _ in 0..100 {
            gate.punish(peer("10.1.1.1"), Offence::Crash, 0, &config.penalties);
        }
        assert_eq!(gate.admit(peer("10.1.1.1"), 0, 99, &config), Ok(()));
    }

    #[test]
    fn connections_per_source_and_in_all() {
        let config = config("PerSourceMaxStartups 2\nMaxStartups 3");
        let mut gate = Gate::default();
        let (a, b) = (peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(gate.admit(a, 0, 99, &config), Ok(()));
        assert_eq!(gate.admit(peer("2001:db8::2"), 0, 99, &config), Ok(()));
        assert_eq!(gate.admit(a, 0, 99, &config), Err(Refusal::PerSource));
        assert_eq!(gate.admit(b, 0, 99, &config), Ok(()));
        assert_eq!(gate.admit(b, 0, 99, &config), Err(Refusal::MaxStartups));
        gate.settled(a);
        assert_eq!(gate.pending(), 2);
        assert_eq!(gate.admit(b, 0, 99, &config), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let config = config("");
        let mut gate = Gate::default();
        for number in 0..3 * MAX_SOURCES as u32 {
            gate.punish(
                IpAddr::from(number.to_be_bytes()),
                Offence::NoAuth,
                0,
                &config.penalties,
            );
        }
        assert!(gate.penalties.len() <= MAX_SOURCES);
        assert!(gate.pending.is_empty());
    }
}
