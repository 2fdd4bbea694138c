//! The network from inside and outside the guest, over QEMU's user networking: 10.0.2.2 is
//! the host, 10.0.2.3 its name server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use oxbow_harness::{Config, DataDisk, Machine, free_port};
use oxbow_integration::disk_of_c_programs;

const MOUNT: &str = "mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt";

/// A card, a modern one unless `more` says otherwise; `forward` is a host port that leads to
/// the guest's port 7000.
fn with_card(mut config: Config, forward: Option<u16>, more: &str) -> Config {
    let mut netdev = String::from("user,id=n0");
    if let Some(port) = forward {
        netdev += &format!(",hostfwd=tcp:127.0.0.1:{port}-:7000");
    }
    config.extra.extend([
        "-netdev".into(),
        netdev,
        "-device".into(),
        format!("virtio-net-pci,netdev=n0,id=c0,romfile={more}"),
    ]);
    config
}

fn disk() -> DataDisk {
    disk_of_c_programs(&["net"])
}

/// Boots, mounts the programs and waits for an address.
fn boot(config: Config, disk: &DataDisk) -> Machine {
    let mut m = Machine::boot(&config.with_disk(disk));
    m.ok(MOUNT);
    wait_for_address(&mut m);
    m
}

fn wait_for_address(m: &mut Machine) {
    let end = Instant::now() + Duration::from_secs(20);
    while !m.ok("cat /proc/net/route").contains("eth0\t00000000") {
        assert!(Instant::now() < end, "no lease: {}", m.log());
        thread::sleep(Duration::from_millis(200));
    }
}

/// An echo server on the host; returns its port.
fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut reader = peer.try_clone().expect("a second handle");
                let mut writer = peer;
                let _ = std::io::copy(&mut reader, &mut writer);
                let _ = writer.shutdown(Shutdown::Write);
            });
        }
    });
    port
}

/// Byte `i` of a stream, as the guest's program has it.
fn pattern(i: u64) -> u8 {
    (i.wrapping_mul(31).wrapping_add(i >> 9)) as u8
}

/// Whoever connects to the first port is sent `len` bytes; whoever connects to the second one
/// may send as many, and is told nothing but the end when they were the right ones.
fn bulk_servers(len: u64) -> (u16, u16) {
    let listen = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        (listener, port)
    };
    let (source, source_port) = listen();
    let (sink, sink_port) = listen();
    thread::spawn(move || {
        let data: Vec<u8> = (0..len).map(pattern).collect();
        for mut peer in source.incoming().flatten() {
            let _ = peer.write_all(&data);
        }
    });
    thread::spawn(move || {
        for mut peer in sink.incoming().flatten() {
            let mut data = Vec::new();
            let _ = peer.read_to_end(&mut data);
            let right = (0..len).map(pattern).eq(data);
            let _ = peer.write_all(if right { b"" } else { b"!" });
        }
    });
    (source_port, sink_port)
}

/// Page cache fills memory and leaves it in pieces: streams go on as before.
#[test]
fn streams_keep_their_pace_when_memory_is_in_pieces() {
    const LEN: u64 = 50_000_000;
    let disk = disk();
    let sparse = std::env::temp_dir().join(format!("oxbow-sparse-{}", std::process::id()));
    let file = std::fs::File::create(&sparse).expect("a file");
    file.set_len(8 << 30).expect("a sparse file");
    let mut config = with_card(Config::default(), None, "").with_disk(&disk);
    config.disks.push(sparse.clone());
    let mut m = Machine::boot(&config);
    m.ok(MOUNT);
    wait_for_address(&mut m);
    let (source, sink) = bulk_servers(LEN);
    let pace = |m: &mut Machine, when: &str| {
        m.ok("(/mnt/net serve 7000 1 > /tmp/served &)");
        m.ok("until grep -q listening /tmp/served; do sleep 0.1; done");
        for command in [
            format!("take 10.0.2.2 {source}"),
            format!("give 10.0.2.2 {sink}"),
            "stream 127.0.0.1 7000".into(),
        ] {
            let start = Instant::now();
            let out = m.run_for(&format!("/mnt/net {command} {LEN}"), 400);
            let seconds = start.elapsed().as_secs_f64();
            println!("{when}: {command}: {:.1} MB/s", LEN as f64 / 1e6 / seconds);
            assert_eq!(out.text, format!("{LEN} of {LEN} right, then 0\n"));
            assert!(seconds < 25.0, "{seconds} s, {}", m.log());
        }
    };
    pace(&mut m, "fresh");
    // Pages of the cache go in the order in which they came, which is not that of memory.
    m.run_for("/mnt/net scatter /dev/vdc 150000", 250);
    m.run_for("head -c 300000000 /dev/vdc > /dev/null", 100);
    println!("{}", m.ok("grep -E 'MemFree|Cached' /proc/meminfo"));
    pace(&mut m, "full");
    m.power_off();
    let _ = std::fs::remove_file(&sparse);
}

#[test]
fn the_guest_reaches_the_host() {
    for (config, more) in [
        (Config::default(), ""),
        (Config::default().with_cpus(1), ",mrg_rxbuf=off,csum=off"),
        (
            Config {
                machine: "pc",
                ..Config::default()
            },
            ",disable-modern=on,disable-legacy=off",
        ),
        (Config::default(), ",vectors=0,event_idx=off"),
    ] {
        println!("a card with '{more}'");
        let disk = disk();
        let mut m = boot(with_card(config, None, more), &disk);
        assert_eq!(m.ok("/mnt/net ping 10.0.2.2 5"), "5 of 5\n");
        assert_eq!(m.ok("/mnt/net ping 127.0.0.1 5"), "5 of 5\n");
        let port = echo_server();
        let out = m.run_for(&format!("/mnt/net stream 10.0.2.2 {port} 3000000"), 120);
        assert_eq!(out.text, "3000000 of 3000000 right, then 0\n");
        let closed = free_port();
        let out = m.ok(&format!("/mnt/net refused 10.0.2.2 {closed}"));
        assert_eq!(out, "Connection refused\n");
        m.power_off();
    }
}

#[test]
fn the_host_reaches_the_guest() {
    let disk = disk();
    let forward = free_port();
    let mut m = boot(with_card(Config::default(), Some(forward), ""), &disk);
    m.ok("oxfw add allow tcp 7000");
    m.ok("/mnt/net serve 7000 4 > /tmp/served &");
    m.ok("until grep -q listening /tmp/served; do sleep 0.1; done");
    let data: Vec<u8> = (0..2_000_000u32).map(|i| (i >> 3) as u8).collect();
    for len in [1, 1000, 2_000_000, 0] {
        let mut to = TcpStream::connect(("127.0.0.1", forward)).expect("the forwarded port");
        let mut back = to.try_clone().expect("a second handle");
        let sent = data[..len].to_vec();
        let writer = thread::spawn(move || {
            to.write_all(&sent).expect("bytes go in");
            to.shutdown(Shutdown::Write).expect("half a close");
        });
        let mut got = Vec::new();
        back.read_to_end(&mut got).expect("bytes come out");
        writer.join().expect("the writer");
        assert!(got == data[..len], "{} of {len} bytes", got.len());
    }
    m.ok("wait");
    let said = m.ok("cat /tmp/served");
    assert_eq!(
        said,
        "listening\nechoed 1\nechoed 1000\nechoed 2000000\nechoed 0\n"
    );
    // Everything else is kept out, and the connection that this machine made is not.
    m.power_off();
}

#[test]
fn datagrams_and_names() {
    let disk = disk();
    let mut m = boot(with_card(Config::default(), None, ""), &disk);
    let echo = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = echo.local_addr().expect("its address").port();
    thread::spawn(move || {
        let mut buf = vec![0; 70_000];
        while let Ok((n, from)) = echo.recv_from(&mut buf) {
            let _ = echo.send_to(&buf[..n], from);
        }
    });
    // In fragments, there and back.
    let out = m.ok(&format!("/mnt/net bigudp 10.0.2.2 {port}"));
    assert_eq!(out, "1000 1472 1473 8000 40000 right\n");
    let host = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = host.local_addr().expect("its address").port();
    let answer = thread::spawn(move || {
        let mut buf = [0; 100];
        let (n, from) = host.recv_from(&mut buf).expect("a datagram");
        buf[..n].reverse();
        host.send_to(&buf[..n], from).expect("an answer");
    });
    let out = m.ok(&format!("/mnt/net udp 10.0.2.2 {port} drawer"));
    assert_eq!(out, format!("reward from 10.0.2.2:{port}\n"));
    answer.join().expect("the answer");
    // A subshell, so that the prompt tells nothing when it ends.
    m.ok("(/mnt/net udpserve 5000 > /tmp/answered &)");
    m.ok("until grep -q bound /tmp/answered; do sleep 0.1; done");
    let out = m.ok("/mnt/net udp 127.0.0.1 5000 straw");
    assert_eq!(out, "warts from 127.0.0.1:5000\n");
    // DHCP named the server; whether it knows anything is the host's affair.
    let servers = m.ok("cat /etc/resolv.conf");
    assert!(servers.contains("nameserver 10.0.2.3"), "{servers}");
    let out = m.run_for("/mnt/net dns 10.0.2.3 localhost", 30);
    println!("dns: {}", out.text.trim());
    let names = m.ok("/mnt/net interfaces");
    for line in ["lo 127.0.0.1", "lo ::1", "eth0 10.0.2.15", "eth0 fe80::"] {
        assert!(names.contains(line), "no {line} in {names}");
    }
    m.power_off();
}

#[test]
fn a_thousand_connections_at_once() {
    let disk = disk();
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok(MOUNT);
    let out = m.run_for("/mnt/net many 7000 1000", 120);
    assert_eq!(out.text, "1000 of 1000\n");
    let out = m.ok("/mnt/net refused 127.0.0.1 7001");
    assert_eq!(out, "Connection refused\n");
    m.power_off();
}

fn free_kib(m: &mut Machine) -> i64 {
    let text = m.ok("grep MemFree /proc/meminfo");
    let number = text.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

/// Connections cost what is in their buffers, and what is over is forgotten.
#[test]
fn ten_thousand_connections_and_a_storm() {
    let disk = disk();
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok(MOUNT);
    m.ok("/mnt/net storm 7000 500");
    let before = free_kib(&mut m);
    let out = m.run_for("/mnt/net many 7001 10000", 300);
    assert_eq!(out.text, "10000 of 10000\n");
    println!(
        "after 10,000 connections: {} KiB",
        before - free_kib(&mut m)
    );
    let out = m.run_for("/mnt/net storm 7002 20000", 300);
    assert_eq!(out.text, "20000 of 20000\n");
    let waiting = m.ok("wc -l < /proc/net/tcp");
    let waiting: usize = waiting.trim().parse().expect("a number");
    assert!(waiting <= 4200, "{waiting} connections are kept");
    let taken = before - free_kib(&mut m);
    println!("after 20,000 in a row: {taken} KiB, {waiting} in TIME_WAIT");
    assert!(taken < 24 * 1024, "{taken} KiB are gone");
    let out = m.run_for("/mnt/net exhaust 7003", 120);
    let ends = "Address in use and Address not available\n";
    assert!(out.text.ends_with(ends), "{}", out.text);
    m.power_off();
}

#[test]
fn the_cable_is_pulled_and_put_back() {
    let disk = disk();
    let mut m = boot(with_card(Config::default(), None, ""), &disk);
    let set_link = |m: &Machine, up: bool| {
        let answer = m.monitor_with("set_link", &format!("{{\"name\":\"n0\",\"up\":{up}}}"));
        assert!(answer.contains("return"), "{answer}");
    };
    set_link(&m, false);
    m.ok("until dmesg | grep -q 'eth0: link down'; do sleep 0.1; done");
    set_link(&m, true);
    m.ok("until dmesg | grep -q 'eth0: link up'; do sleep 0.1; done");
    wait_for_address(&mut m);
    assert_eq!(m.ok("/mnt/net ping 10.0.2.2 3"), "3 of 3\n");
    m.power_off();
}

#[test]
fn several_cards() {
    let disk = disk();
    let mut config = with_card(Config::default(), None, "");
    config.extra.extend([
        "-netdev".into(),
        "user,id=n1,net=10.0.9.0/24".into(),
        "-device".into(),
        "virtio-net-pci,netdev=n1,romfile=".into(),
    ]);
    let mut m = boot(config, &disk);
    m.ok("until grep -q eth1 /proc/net/route; do sleep 0.1; done");
    assert_eq!(m.ok("/mnt/net ping 10.0.2.2 3"), "3 of 3\n");
    assert_eq!(m.ok("/mnt/net ping 10.0.9.2 3"), "3 of 3\n");
    m.power_off();
}
