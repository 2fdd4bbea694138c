//! Threads of Rust's standard library: channels, locks, scoped threads, time-outs, panics.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

fn main() {
    let (send, receive) = mpsc::channel();
    let workers: Vec<_> = (0..8u64)
        .map(|n| {
            let send = send.clone();
            std::thread::spawn(move || {
                for i in 0..1000 {
                    send.send(n * i).unwrap();
                }
            })
        })
        .collect();
    drop(send);
    println!("sum {}", receive.iter().sum::<u64>());
    workers.into_iter().for_each(|w| w.join().unwrap());

    let counter = Arc::new((Mutex::new(0u64), Condvar::new()));
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..5000 {
                    *counter.0.lock().unwrap() += 1;
                }
                counter.1.notify_all();
            });
        }
        let guard = counter.0.lock().unwrap();
        let done = counter
            .1
            .wait_while(guard, |count| *count < 20_000)
            .unwrap();
        println!("counted {done}");
    });

    let start = Instant::now();
    let nobody = counter
        .1
        .wait_timeout(counter.0.lock().unwrap(), Duration::from_millis(50));
    println!(
        "timed out {} after 50 ms: {}",
        nobody.unwrap().1.timed_out(),
        start.elapsed() >= Duration::from_millis(50)
    );

    let panicked = std::thread::spawn(|| panic!("on purpose")).join();
    println!("a panic stays in its thread: {}", panicked.is_err());

    let words: BTreeMap<_, _> = std::env::args().skip(1).map(|w| (w.len(), w)).collect();
    println!("arguments {words:?}");
}
