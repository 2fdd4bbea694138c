//! The packet filter and the network's configuration: oxfw, ifup, ip, seen from the host over
//! QEMU's user networking, and from a second guest over a wire of sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use oxbow_harness::{Config, Machine};
use oxbow_integration::disk_of_c_programs;

const MOUNT: &str = "mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt";

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// A card on QEMU's user network; `forwards` are pairs of a host's and a guest's TCP port.
fn user_network(forwards: &[(u16, u16)]) -> Config {
    let mut netdev = String::from("user,id=n0");
    for (host, guest) in forwards {
        netdev += &format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
    }
    with_netdev(netdev, "52:54:00:12:34:56")
}

fn with_netdev(netdev: String, mac: &str) -> Config {
    let mut config = Config::default();
    config.extra.extend([
        "-netdev".into(),
        netdev,
        "-device".into(),
        format!("virtio-net-pci,netdev=n0,mac={mac},romfile="),
    ]);
    config
}

fn wait_until(m: &mut Machine, command: &str, needle: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let said = m.run(command).text;
        if said.contains(needle) {
            return;
        }
        assert!(Instant::now() < end, "{command}: no {needle} in {said}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// What happens to a connection to a forwarded port: QEMU takes it at once and tells the
/// guest's answer by closing it.
#[derive(Debug, PartialEq)]
enum Seen {
    /// What was sent came back.
    Echo,
    /// It was closed.
    Refused,
    /// Nothing came for two seconds.
    Silence,
}

fn dial(port: u16) -> Seen {
    let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)) else {
        return Seen::Refused;
    };
    to.set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a limit");
    if to.write_all(b"hello").is_err() {
        return Seen::Refused;
    }
    let mut buf = [0; 5];
    match to.read_exact(&mut buf) {
        Ok(()) => Seen::Echo,
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Seen::Silence,
        Err(_) => Seen::Refused,
    }
}

#[test]
fn rules_open_and_close_ports() {
    let disk = disk_of_c_programs(&["net"]);
    let (ssh, web) = (free_port(), free_port());
    let config = user_network(&[(ssh, 2222), (web, 8080)]).with_disk(&disk);
    let mut m = Machine::boot(&config);
    m.ok(MOUNT);
    wait_until(&mut m, "ip route", "default via 10.0.2.2");
    m.ok("/mnt/net serve 2222 20 > /tmp/a &");
    m.ok("/mnt/net serve 8080 20 > /tmp/b &");
    m.ok("until grep -q listening /tmp/a && grep -q listening /tmp/b; do sleep 0.1; done");
    let rules = m.ok("oxfw list");
    assert!(rules.contains("default in deny"), "{rules}");
    assert!(rules.contains("in allow tcp 22"), "{rules}");

    // Both listen, and nobody is let in; one rule opens one port.
    assert_eq!(dial(web), Seen::Silence);
    m.ok("oxfw add allow tcp 2222 from 10.0.2.0/24 on eth0");
    assert_eq!(dial(ssh), Seen::Echo);
    assert_eq!(dial(web), Seen::Silence);
    let counted = m.ok("oxfw list -v");
    assert!(counted.contains("on eth0    # packets 1 "), "{counted}");

    // A refusal is told at once, a denial never.
    m.ok("oxfw insert 1 reject tcp 8080");
    assert_eq!(dial(web), Seen::Refused);

    // What is open stays open when its rule goes.
    let mut open = TcpStream::connect(("127.0.0.1", ssh)).expect("the forwarded port");
    open.set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a limit");
    let mut echo = |text: &[u8]| {
        open.write_all(text).expect("bytes go in");
        let mut buf = vec![0; text.len()];
        open.read_exact(&mut buf).expect("they come back");
        assert_eq!(buf, text);
    };
    echo(b"before");
    m.ok("oxfw delete allow tcp 2222 from 10.0.2.0/24 on eth0");
    assert_eq!(dial(ssh), Seen::Silence);
    echo(b"after");

    // Datagrams come back to who asked, though nothing lets datagrams in.
    let host = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = host.local_addr().expect("its address").port();
    let answer = thread::spawn(move || {
        let mut buf = [0; 100];
        let (n, from) = host.recv_from(&mut buf).expect("a datagram");
        host.send_to(&buf[..n], from).expect("the answer");
    });
    let said = m.ok(&format!("/mnt/net udp 10.0.2.2 {port} same"));
    answer.join().expect("the answer");
    assert_eq!(said, format!("same from 10.0.2.2:{port}\n"));

    // What programs send is judged, too.
    m.ok("oxfw add out deny icmp to 10.0.2.2");
    let out = m.run("/mnt/net ping 10.0.2.2 1");
    assert!(!out.text.contains("1 of 1"), "{}", out.text);

    // A text that is wrong changes nothing and names its line.
    let before = m.ok("oxfw list");
    m.ok("printf 'allow tcp 1\\nallow tcp x\\n' > /tmp/bad");
    let out = m.run("oxfw load /tmp/bad");
    assert!(
        out.text.contains("/tmp/bad: line 2: x: not understood"),
        "{}",
        out.text
    );
    assert_eq!(m.ok("oxfw list"), before);

    // Saved rules are there after a reboot, others are not.
    m.ok("oxfw flush; oxfw add allow tcp 2222 comment 'kept'; oxfw save");
    m.ok("oxfw add allow tcp 8080");
    m.power_off();
    let mut m = m.boot_again(&config);
    wait_until(&mut m, "oxfw list", "comment \"kept\"");
    let rules = m.ok("oxfw list");
    assert!(!rules.contains("8080"), "{rules}");
    m.power_off();
}

#[test]
fn two_guests_with_addresses_of_their_own() {
    let port = free_port();
    let disks = [disk_of_c_programs(&["net"]), disk_of_c_programs(&["net"])];
    let one = format!("socket,id=n0,listen=127.0.0.1:{port}");
    let other = format!("socket,id=n0,connect=127.0.0.1:{port}");
    let mut a = Machine::boot(&with_netdev(one, "52:54:00:00:00:01").with_disk(&disks[0]));
    let mut b = Machine::boot(&with_netdev(other, "52:54:00:00:00:02").with_disk(&disks[1]));
    for (m, last) in [(&mut a, 1), (&mut b, 2)] {
        m.ok(MOUNT);
        let text = format!(
            "auto lo\\niface lo inet loopback\\nauto eth0\\niface eth0 inet static\\n\
             address 192.168.7.{last}/24\\ngateway 192.168.7.254\\ndns-nameservers 192.168.7.9\\n\
             dns-search example.org\\nup echo $IFACE > /tmp/up\\n"
        );
        m.ok(&format!(
            "ifdown -a; printf '{text}' > /etc/network/interfaces; ifup -a"
        ));
        let shown = m.ok("ip -4 addr show eth0");
        assert!(
            shown.contains(&format!("inet 192.168.7.{last}/24")),
            "{shown}"
        );
        assert_eq!(m.ok("cat /proc/net/dhcp"), "eth0 off\n");
        assert_eq!(m.ok("cat /tmp/up"), "eth0\n");
        let names = m.ok("cat /etc/resolv.conf");
        assert!(
            names.ends_with("search example.org\nnameserver 192.168.7.9\n"),
            "{names}"
        );
        assert!(
            m.ok("ip route")
                .contains("default via 192.168.7.254 dev eth0")
        );
    }
    assert_eq!(b.ok("/mnt/net ping 192.168.7.1 3"), "3 of 3\n");
    assert!(
        b.ok("ip neigh")
            .contains("192.168.7.1 dev eth0 lladdr 52:54:00:00:00:01")
    );
    assert!(
        b.ok("ip route get 192.168.7.1")
            .contains("dev eth0 src 192.168.7.2")
    );
    assert!(b.ok("ip route get 8.8.8.8").contains("via 192.168.7.254"));

    // A port opens for the other guest alone, and for nobody once the rule is gone.
    a.ok("/mnt/net serve 7000 1 > /tmp/served &");
    a.ok("until grep -q listening /tmp/served; do sleep 0.1; done");
    a.ok("oxfw add allow tcp 7000 from 192.168.7.2");
    let out = b.run_for("/mnt/net stream 192.168.7.1 7000 200000", 60);
    assert_eq!(out.text, "200000 of 200000 right, then 0\n");
    a.ok("oxfw add reject tcp 7001");
    assert_eq!(
        b.ok("/mnt/net refused 192.168.7.1 7001"),
        "Connection refused\n"
    );

    // Down takes the address and the names away.
    b.ok("ifdown eth0");
    assert!(!b.ok("ip addr show eth0").contains("192.168.7.2"));
    assert_eq!(b.ok("readlink /etc/resolv.conf"), "../proc/net/pnp\n");
    a.power_off();
    b.power_off();
}
