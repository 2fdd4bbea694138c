//! Virtio entropy device (virtio 1.2, 5.4): feeds the kernel's random number generator at
//! boot and every few minutes.

use alloc::sync::Arc;

use super::queue::{Access, Piece, Queue};
use super::transport::{Notifier, SetupError, Transport, handler, next_cpu};
use crate::drivers::pci::Function;
use crate::mm::FrameRef;
use crate::mm::frame::Purpose;
use crate::security::random;
use crate::sync::{IrqLock, Rank};
use crate::time::{NS_PER_SEC, Timer, TimerCallback, now_ns};

/// Bytes asked for at a time.
const BYTES: u32 = 64;
/// How often.
const INTERVAL_NS: u64 = 300 * NS_PER_SEC;

struct State {
    queue: Queue,
    buffer: FrameRef,
    in_flight: bool,
}

struct Rng {
    _transport: Transport,
    notifier: Notifier,
    state: IrqLock<State>,
}

/// Takes over an entropy device and asks it for the first bytes.
pub fn probe(function: &Function) -> Result<(), SetupError> {
    let mut transport = Transport::new(function)?;
    transport.negotiate(0)?;
    let (queue, notifier) = transport.setup_queue(0, 0)?;
    let buffer = FrameRef::alloc_zeroed(Purpose::Kernel).map_err(|_| SetupError::OutOfMemory)?;
    let rng = Arc::new(Rng {
        _transport: transport,
        notifier,
        state: IrqLock::new(
            Rank::Device,
            State {
                queue,
                buffer,
                in_flight: false,
            },
        ),
    });
    rng._transport
        .connect(0, next_cpu(), handler(&rng, Rng::on_interrupt))?;
    rng._transport.start();
    rng.state.lock().queue.enable_interrupts();
    rng.ask();
    let timer = Arc::new_cyclic(|weak: &alloc::sync::Weak<Refresh>| Refresh {
        rng,
        timer: Timer::new(Arc::new(Tick(weak.clone()))),
    });
    timer.timer.arm(now_ns() + INTERVAL_NS);
    // The device stays for ever.
    core::mem::forget(timer);
    Ok(())
}

struct Refresh {
    rng: Arc<Rng>,
    timer: Timer,
}
struct Tick(alloc::sync::Weak<Refresh>);

impl TimerCallback for Tick {
    fn expired(&self, now: u64) {
        if let Some(refresh) = self.0.upgrade() {
            refresh.rng.ask();
            refresh.timer.arm(now + INTERVAL_NS);
        }
    }
}

impl Rng {
    fn ask(&self) {
        let mut state = self.state.lock();
        if state.in_flight {
            return;
        }
        let piece = Piece {
            addr: state.buffer.addr(),
            len: BYTES,
            access: Access::DeviceWrites,
        };
        if state.queue.add(&[piece]).is_ok() {
            state.in_flight = true;
            if state.queue.must_notify() {
                self.notifier.notify();
            }
        }
    }

    fn on_interrupt(&self) {
        let mut bytes = [0u8; BYTES as usize];
        let written = {
            let mut state = self.state.lock();
            let mut written = 0;
            while let Ok(Some(used)) = state.queue.pop() {
                state.in_flight = false;
                written = (used.written as usize).min(bytes.len());
                // SAFETY: the buffer came back; `written` is within it. The copy is what
                // counts: the device cannot change it any more.
                unsafe {
                    core::ptr::copy_nonoverlapping(
                        state.buffer.as_ptr(),
                        bytes.as_mut_ptr(),
                        written,
                    );
                }
            }
            state.queue.enable_interrupts();
            written
        };
        if written > 0 {
            random::add(&bytes[..written], random::Trust::Full);
        }
    }
}
