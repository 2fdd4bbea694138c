//! An interface's addresses and routes: changing them, and telling those who answer for them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use smoltcp::iface::{self, Interface};
use smoltcp::wire::IpCidr;

use super::Netif;
use super::config::{Change, Config};
use super::interfaces::netifs;

impl Netif {
    /// Replaces addresses and routes. More than smoltcp's tables take are not announced.
    pub fn set_config(self: &Arc<Self>, config: Config) {
        let guard = self.changing.lock();
        self.install(config);
        drop(guard);
    }

    /// [`Netif::set_config`], by who holds `changing`.
    fn install(self: &Arc<Self>, config: Config) {
        let config = Arc::new(config);
        if let Some(ether) = &self.ether {
            announce(&mut ether.lock().iface, &config);
        }
        let lost = {
            let old = self.config();
            old.addresses.iter().any(|a| !config.has(a.address()))
        };
        let old = core::mem::replace(&mut *self.link.config.lock(), config);
        drop(old);
        if lost {
            self.link.neighbours.lock().clear();
            for netif in netifs() {
                for shard in &netif.shards {
                    shard.with(&netif, |state| state.drop_strangers(&netif, shard));
                }
            }
        }
        self.kick();
    }

    /// Changes addresses and routes.
    pub fn change_config(self: &Arc<Self>, change: impl FnOnce(&mut Config)) {
        let guard = self.changing.lock();
        let mut config = Config::clone(&self.config());
        change(&mut config);
        self.install(config);
        drop(guard);
    }

    /// What DHCP and routers gave, in order.
    pub(super) fn apply_changes(self: &Arc<Self>, changes: Vec<Change>) {
        for change in changes {
            let guard = self.changing.lock();
            let config = change.apply(&self.name, &self.config());
            self.install(config);
            drop(guard);
        }
    }
}

/// Tells the part that answers ARP and neighbour discovery about addresses and routes.
pub(super) fn announce(iface: &mut Interface, config: &Config) {
    iface.update_ip_addrs(|addrs| {
        addrs.clear();
        let usable = |a: &&IpCidr| a.address().is_unicast();
        for cidr in config.addresses.iter().filter(usable) {
            if addrs.push(*cidr).is_err() {
                break;
            }
        }
    });
    iface.routes_mut().update(|routes| {
        routes.clear();
        for route in &config.routes {
            let Some(via_router) = route.gateway else {
                continue;
            };
            let route = iface::Route {
                cidr: route.to,
                via_router,
                preferred_until: None,
                expires_at: None,
            };
            if routes.push(route).is_err() {
                break;
            }
        }
    });
}
