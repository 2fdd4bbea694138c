//! What a machine's serial console printed, collected by a thread.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    ended: bool,
}

/// The console's output so far.
#[derive(Clone, Default)]
pub struct Console {
    log: Arc<(Mutex<Log>, Condvar)>,
}

impl Console {
    /// Collects `source` in a thread, and copies it to the file `copy`.
    pub fn collect(mut source: impl Read + Send + 'static, copy: &Path) -> Console {
        let console = Console::default();
        let log = console.log.clone();
        let mut copy = std::fs::File::create(copy).expect("a log file");
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let n = source.read(&mut buffer).unwrap_or(0);
                let (lock, changed) = &*log;
                let mut log = lock.lock().expect("console lock");
                if n == 0 {
                    log.ended = true;
                    changed.notify_all();
                    return;
                }
                // The copy is for people: losing it must not fail a test.
                let _ = copy.write_all(&buffer[..n]);
                log.bytes.extend_from_slice(&buffer[..n]);
                changed.notify_all();
            }
        });
        console
    }

    /// Waits until `found` finds something in the output from `from` on; `None` after `limit`
    /// or when the machine ended without it.
    pub fn wait_for<R>(
        &self,
        from: usize,
        limit: Duration,
        mut found: impl FnMut(&[u8]) -> Option<R>,
    ) -> Option<R> {
        let deadline = Instant::now() + limit;
        let (lock, changed) = &*self.log;
        let mut log = lock.lock().expect("console lock");
        loop {
            if let Some(result) = found(&log.bytes[from.min(log.bytes.len())..]) {
                return Some(result);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if log.ended || left.is_zero() {
                return None;
            }
            log = changed.wait_timeout(log, left).expect("console lock").0;
        }
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.log.0.lock().expect("console lock").bytes).into_owned()
    }
}

/// Where `needle` starts in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}
