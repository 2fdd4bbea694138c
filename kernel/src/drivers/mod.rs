//! Device drivers, behind the traits of lower layers. Only `init` names them.

pub mod keyboard;
pub mod pci;
pub mod rtc;
#[cfg(target_os = "none")]
pub mod uart;
pub mod virtio;

/// Finds the devices that the kernel has drivers for and starts them. In a thread, once:
/// drivers sleep while their devices work.
#[cfg(target_os = "none")]
pub fn start() {
    use virtio::transport::Kind;

    for f in pci::functions() {
        let started = match virtio::transport::kind_of(&f) {
            Some(Kind::Block) => virtio::blk::probe(&f).map(|disk| {
                use crate::block::BlockDevice;
                info!(
                    "{}: virtio disk at {}, {} MiB",
                    disk.name(),
                    f.address,
                    disk.nr_sectors() / 2048
                );
                crate::block::register(disk);
            }),
            Some(Kind::Entropy) => virtio::rng::probe(&f),
            Some(Kind::Network) => virtio::net::probe(&f).map(attach),
            _ => continue,
        };
        if let Err(e) = started {
            error!("virtio device at {}: {e:?}", f.address);
        }
    }
}

/// Makes an interface of a card and brings it up.
#[cfg(target_os = "none")]
fn attach(card: alloc::sync::Arc<virtio::net::VirtioNet>) {
    use crate::cmdline::{self, Options};
    use crate::net::device::NetDevice;
    use crate::net::stack::{self, config};

    let link = if card.link_is_up() { "up" } else { "down" };
    match stack::attach(card) {
        Ok(netif) => {
            info!("{}: virtio network card, link {link}", netif.name);
            if Options::parse(cmdline::get()).configures_cards {
                config::bring_up(&netif);
            }
        }
        Err(e) => error!("no interface for a network card: {e:?}"),
    }
}
