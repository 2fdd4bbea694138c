//! Virtio devices on PCI: the queue, the transport, and one driver per kind of device.

pub mod queue;

#[cfg(target_os = "none")]
pub mod blk;
#[cfg(target_os = "none")]
pub mod net;
#[cfg(target_os = "none")]
pub mod rng;
#[cfg(target_os = "none")]
pub mod transport;
