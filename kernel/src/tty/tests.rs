//! A terminal between a line and a program.

use core::time::Duration;
use std::sync::Mutex;

use super::*;

/// A line that takes its time.
#[derive(Default)]
struct Slow {
    shown: Mutex<Vec<u8>>,
}

impl TtyDriver for Slow {
    fn write(&self, bytes: &[u8]) -> usize {
        std::thread::sleep(Duration::from_millis(20));
        self.shown.lock().unwrap().extend_from_slice(bytes);
        bytes.len()
    }
    fn room(&self) -> usize {
        1000
    }
    fn nr_pending(&self) -> usize {
        0
    }
    fn flush_output(&self) {}
}

#[test]
fn nobody_reads_what_came_before_its_echo_is_out() {
    let line = Arc::new(Slow::default());
    let tty = Tty::new("slow", 0, line.clone());
    let file = tty.open(abi::O_RDWR | abi::O_NOCTTY).unwrap();
    let of = OpenFile::new(file, abi::O_RDWR | abi::O_NONBLOCK);
    std::thread::scope(|scope| {
        scope.spawn(|| tty.receive(b"typed\n"));
        let mut buf = [0; 20];
        let read = loop {
            match of.file.read(&of, &mut IoDest::kernel(&mut buf)) {
                Err(Errno::EAGAIN) => std::thread::yield_now(),
                done => break done,
            }
        };
        assert_eq!(line.shown.lock().unwrap().as_slice(), b"typed\r\n");
        assert_eq!(read, Ok(6));
    });
}
