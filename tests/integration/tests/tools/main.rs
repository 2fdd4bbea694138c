//! The network's client programs against servers on the host, over QEMU's user networking
//! (10.0.2.2 is the host): no test needs more network than that.

mod peers;
mod web;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oxbow_harness::{Config, DataDisk, Machine, host};

/// Boots with a card and waits for its address; `forward` is a host port that leads to the
/// guest's port 22.
fn boot(mut config: Config, forward: Option<u16>) -> Machine {
    let mut netdev = String::from("user,id=n0");
    if let Some(port) = forward {
        netdev += &format!(",hostfwd=tcp:127.0.0.1:{port}-:22");
    }
    config.extra.extend([
        "-netdev".into(),
        netdev,
        "-device".into(),
        "virtio-net-pci,netdev=n0,romfile=".into(),
    ]);
    let mut m = Machine::boot(&config);
    let end = Instant::now() + Duration::from_secs(20);
    while !m.ok("cat /proc/net/route").contains("eth0\t00000000") {
        assert!(Instant::now() < end, "no lease: {}", m.log());
        thread::sleep(Duration::from_millis(200));
    }
    m
}

/// Runs a command that must end with `status`; returns what it printed.
#[track_caller]
fn ends_with(m: &mut Machine, status: i32, command: &str) -> String {
    let out = m.run_for(command, 120);
    assert_eq!(out.status, status, "{command}: {}", out.text);
    out.text
}

/// The SHA-256 of `bytes`, by the host's program.
fn sha256(bytes: &[u8]) -> String {
    let path = std::env::temp_dir().join(format!("oxbow-sum-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("a file");
    let said = host("sha256sum", &[&path.to_string_lossy()]);
    std::fs::remove_file(&path).expect("the file is ours");
    said.split(' ').next().unwrap_or_default().to_owned()
}

#[track_caller]
fn is_the_file(m: &mut Machine, path: &str, sum: &str) {
    let said = m.run_for(&format!("sha256sum {path}"), 60).text;
    assert!(said.starts_with(sum), "{path}: {said}, not {sum}");
}

#[test]
fn echoes_and_names() {
    let mut m = boot(Config::default(), None);
    let said = m.ok("ping -c 3 -i 0.2 10.0.2.2");
    assert!(
        said.contains("64 bytes from 10.0.2.2: icmp_seq=3 ttl="),
        "{said}"
    );
    assert!(
        said.contains("3 packets transmitted, 3 received, 0% packet loss"),
        "{said}"
    );
    let said = m.ok("ping -c 1 -s 1000 ::1");
    assert!(said.contains("1008 bytes from ::1: icmp_seq=1"), "{said}");
    let said = m.ok("ping -q -c 1 localhost");
    assert!(said.contains("1 received"), "{said}");
    assert_eq!(m.ok("hostname -I").split(' ').next(), Some("10.0.2.15"));
    // QEMU answers for no address of its network but its own.
    let said = ends_with(&mut m, 1, "ping -c 1 -W 1 10.0.2.77");
    assert!(said.contains("0 received"), "{said}");
    ends_with(&mut m, 2, "ping -c 0 localhost");
    // Ctrl-C ends it with its statistics.
    m.send("ping 127.0.0.1\n");
    m.expect("icmp_seq=2", 20);
    m.send("\x03");
    m.expect("packet loss", 10);
    m.expect("rtt min/avg/max", 10);
    m.wait_for_prompt(10);

    let port = peers::name_server();
    let dig = format!("dig @10.0.2.2 -p {port}");
    let said = m.ok(&format!("{dig} www.example.test"));
    assert!(said.contains("status: NOERROR"), "{said}");
    assert!(
        said.contains("www.example.test.\t300\tIN\tA\t10.0.2.2"),
        "{said}"
    );
    assert_eq!(
        m.ok(&format!("{dig} +short www.example.test aaaa")),
        "::1\n"
    );
    assert_eq!(
        m.ok(&format!("{dig} +short example.test MX")),
        "10 mail.example.test.\n"
    );
    assert_eq!(
        m.ok(&format!("{dig} +short +tcp example.test TXT")),
        "\"hello\" \"world\"\n"
    );
    assert_eq!(
        m.ok(&format!("{dig} +short -x 10.0.2.2")),
        "www.example.test.\n"
    );
    // Cut as a datagram, whole over a stream.
    let said = m.ok(&format!("{dig} +short big.example.test TXT"));
    assert_eq!(said.lines().count(), 10, "{said}");
    let said = m.ok(&format!("{dig} nothing.test"));
    assert!(said.contains("status: NXDOMAIN"), "{said}");
    let closed = free_port();
    let command = format!("dig @10.0.2.2 -p {closed} +tries=1 +time=1 x.test");
    let said = ends_with(&mut m, 9, &command);
    assert!(said.contains("no servers could be reached"), "{said}");
    let said = m.ok(&format!("nslookup -port={port} www.example.test 10.0.2.2"));
    assert!(
        said.contains("Name:\twww.example.test\nAddress: 10.0.2.2\n"),
        "{said}"
    );
    let said = ends_with(
        &mut m,
        1,
        &format!("nslookup -port={port} nothing.test 10.0.2.2"),
    );
    assert!(
        said.contains("server can't find nothing.test: NXDOMAIN"),
        "{said}"
    );
    let said = m.ok(&format!("host -p {port} www.example.test 10.0.2.2"));
    assert!(
        said.contains("www.example.test has address 10.0.2.2"),
        "{said}"
    );
    m.power_off();
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

#[test]
fn files_from_a_web_server() {
    let mut m = boot(Config::default(), None);
    let url = format!("http://10.0.2.2:{}", web::serve(None));
    let file = web::file();
    let sum = sha256(&file);
    m.ok("cd /tmp");
    let said = ends_with(&mut m, 0, &format!("wget {url}/file"));
    assert!(
        said.contains(&format!("'file' saved [{0}/{0}]", web::SIZE)),
        "{said}"
    );
    is_the_file(&mut m, "file", &sum);
    // Resumed: by wget where the file ends, and in the middle of a run; by curl.
    m.ok("head -c 3000000 file > part");
    ends_with(&mut m, 0, &format!("wget -q -c -O part {url}/file"));
    is_the_file(&mut m, "part", &sum);
    let said = ends_with(&mut m, 0, &format!("wget -c -O part {url}/file"));
    assert!(said.contains("already fully retrieved"), "{said}");
    ends_with(&mut m, 0, &format!("wget -q {url}/flaky"));
    is_the_file(&mut m, "flaky", &sum);
    m.ok("head -c 5000000 file > part");
    ends_with(&mut m, 0, &format!("curl -sS -C - -o part {url}/file"));
    is_the_file(&mut m, "part", &sum);
    // What is not whole is no success.
    ends_with(&mut m, 4, &format!("wget -q -t 1 -O - {url}/short"));
    let said = ends_with(&mut m, 18, &format!("curl -sS {url}/short"));
    assert!(said.contains("curl: (18)"), "{said}");
    ends_with(&mut m, 33, &format!("curl -sS -C 3 -o part {url}/hello"));
    // What the server refuses, and who is no server.
    ends_with(&mut m, 8, &format!("wget -q {url}/nothing"));
    let said = ends_with(&mut m, 22, &format!("curl -sSf {url}/nothing"));
    assert_eq!(said, "curl: (22) The requested URL returned error: 404\n");
    assert_eq!(
        ends_with(&mut m, 0, &format!("curl -s {url}/nothing")),
        "none\n"
    );
    let closed = free_port();
    ends_with(&mut m, 7, &format!("curl -s http://10.0.2.2:{closed}/"));
    ends_with(
        &mut m,
        4,
        &format!("wget -q -t 1 http://10.0.2.2:{closed}/"),
    );
    ends_with(&mut m, 28, "curl -s --connect-timeout 1 http://10.0.2.77/");
    // Redirections, heads, forms, uploads.
    assert_eq!(
        ends_with(&mut m, 0, &format!("curl -sL {url}/moved")),
        "hello\n"
    );
    let format = "-o /dev/null -w '%{http_code} %{size_download}\\n'";
    assert_eq!(m.ok(&format!("curl -s {format} {url}/moved")), "302 0\n");
    assert_eq!(m.ok(&format!("curl -sL {format} {url}/moved")), "200 6\n");
    assert!(
        m.ok(&format!("curl -sI {url}/file"))
            .contains("Content-Length: 8000003")
    );
    assert_eq!(m.ok(&format!("wget -qO- {url}/moved")), "hello\n");
    let expected = |method: &str, body: &[u8]| {
        let sum = body
            .iter()
            .fold(0u64, |sum, b| sum.rotate_left(5) ^ u64::from(*b));
        format!("{method} {} {sum:x}\n", body.len())
    };
    let said = m.ok(&format!("curl -s -d a=1 -d b=2 {url}/sum"));
    assert_eq!(said, expected("POST", b"a=1&b=2"));
    let said = ends_with(&mut m, 0, &format!("curl -s -T file {url}/sum"));
    assert_eq!(said, expected("PUT", &file));
    m.power_off();
}

#[test]
fn only_servers_that_prove_who_they_are() {
    let authority = peers::Authority::new();
    let names = "DNS:good.test,IP:10.0.2.2";
    let (certificate, key) = authority.certificate("good", names);
    let port = web::serve(Some((&certificate, &key)));
    let disk = DataDisk::new(8, &[(&authority.file("ca.pem"), "ca.pem")]);
    let mut m = boot(Config::default().with_disk(&disk), None);
    m.ok("mkdir -p /mnt && mount -t ext2 /dev/vdb /mnt && cd /tmp");
    m.ok("echo 10.0.2.2 good.test bad.test >> /etc/hosts");
    let good = format!("https://good.test:{port}");
    let ca = "--cacert /mnt/ca.pem";
    assert_eq!(
        ends_with(&mut m, 0, &format!("curl -sS {ca} {good}/hello")),
        "hello\n"
    );
    assert_eq!(
        ends_with(
            &mut m,
            0,
            &format!("curl -sS {ca} https://10.0.2.2:{port}/hello")
        ),
        "hello\n"
    );
    ends_with(&mut m, 0, &format!("curl -sS {ca} -o file {good}/file"));
    is_the_file(&mut m, "file", &sha256(&web::file()));
    let wget = format!("SSL_CERT_FILE=/mnt/ca.pem wget -q -O file {good}/file");
    ends_with(&mut m, 0, &wget);
    is_the_file(&mut m, "file", &sha256(&web::file()));
    // An authority that the image does not know; its own are there.
    let roots = m.ok("grep -c BEGIN /etc/ssl/certs/ca-certificates.crt");
    assert!(roots.trim().parse::<u32>().is_ok_and(|n| n > 50), "{roots}");
    let said = ends_with(&mut m, 60, &format!("curl -sS {good}/hello"));
    assert!(
        said.contains("unable to get local issuer certificate"),
        "{said}"
    );
    ends_with(&mut m, 5, &format!("wget -q {good}/hello"));
    assert_eq!(m.run("test -e hello").status, 1);
    // A certificate for another name.
    let said = ends_with(
        &mut m,
        60,
        &format!("curl -sS {ca} https://bad.test:{port}/hello"),
    );
    assert!(
        said.contains("does not") || said.contains("no alternative"),
        "{said}"
    );
    let wget = format!("wget -q --ca-certificate=/mnt/ca.pem https://bad.test:{port}/hello");
    ends_with(&mut m, 5, &wget);
    // Whoever asks for it takes anybody.
    assert_eq!(
        ends_with(&mut m, 0, &format!("curl -sk {good}/hello")),
        "hello\n"
    );
    // No TLS at all.
    let plain = web::serve(None);
    ends_with(
        &mut m,
        35,
        &format!("curl -sS {ca} https://10.0.2.2:{plain}/hello"),
    );
    ends_with(
        &mut m,
        77,
        &format!("curl -sS --cacert /nothing {good}/hello"),
    );
    // Before the certificate is valid.
    m.ok("date -s 2001-01-01");
    let said = ends_with(&mut m, 60, &format!("curl -sS {ca} {good}/hello"));
    assert!(said.contains("not yet valid"), "{said}");
    m.power_off();
}

#[test]
fn bytes_both_ways() {
    let forward = free_port();
    let mut m = boot(Config::default(), Some(forward));
    // The guest calls: an upper-casing server hears all, then answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("a caller");
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).expect("all of it");
        peer.write_all(&heard.to_ascii_uppercase())
            .expect("an answer");
        heard.len()
    });
    m.ok("cd /tmp; seq -f 'line %g' 1 50000 > lines; tr a-z A-Z < lines > upper");
    ends_with(&mut m, 0, &format!("nc 10.0.2.2 {port} < lines > answer"));
    m.ok("cmp answer upper");
    let size: usize = m.ok("wc -c < lines").trim().parse().expect("a number");
    assert_eq!(server.join().expect("the server"), size);
    ends_with(&mut m, 1, &format!("nc -z 10.0.2.2 {}", free_port()));
    // The host calls, at the one port that the firewall leaves open.
    m.run("svc stop sshd");
    m.send("nc -l -p 22 < lines > /tmp/heard\n");
    // Until the listener is there QEMU's end takes the connection and closes it.
    let end = Instant::now() + Duration::from_secs(20);
    let got = loop {
        assert!(Instant::now() < end, "no listener: {}", m.log());
        let mut caller = TcpStream::connect(("127.0.0.1", forward)).expect("QEMU");
        let mut got = Vec::new();
        let sent = caller.write_all(&[b'x'; 300_000]);
        let _ = caller.shutdown(Shutdown::Write);
        if caller.read_to_end(&mut got).is_ok() && sent.is_ok() && !got.is_empty() {
            break got;
        }
        thread::sleep(Duration::from_millis(300));
    };
    m.wait_for_prompt(20);
    assert_eq!(got.len(), size);
    assert!(got.starts_with(b"line 1\nline 2\n") && got.ends_with(b"line 50000\n"));
    assert_eq!(
        m.ok("tr -d x < /tmp/heard | wc -c; wc -c < /tmp/heard"),
        "0\n300000\n"
    );
    // Datagrams.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("its address").port();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        let (count, from) = socket.recv_from(&mut buffer).expect("a datagram");
        buffer[..count].reverse();
        socket.send_to(&buffer[..count], from).expect("an answer");
    });
    let said = ends_with(
        &mut m,
        0,
        &format!("echo -n drawer | nc -u -w 2 10.0.2.2 {port}; echo"),
    );
    assert_eq!(said, "reward\n");
    // Within the guest: TCP over both families, and unix sockets.
    for (listen, call) in [
        ("-l 5000", "127.0.0.1 5000"),
        ("-l -6 5000", "::1 5000"),
        ("-lU /tmp/s", "-U /tmp/s"),
    ] {
        let script = format!(
            "nc {listen} < lines > there & until nc {call} < upper > here 2>/dev/null; \
             do sleep 0.2; done; wait; cmp here lines && cmp there upper && echo same"
        );
        let out = m.script(&format!("cd /tmp\n{script}"), 60);
        assert_eq!(out.text, "same\n", "{listen}");
    }
    m.power_off();
}

#[test]
fn the_clock_is_set_once() {
    let ahead = Duration::from_secs(5000);
    let port = peers::time_server(ahead);
    let mut m = boot(Config::default(), None);
    let said = ends_with(&mut m, 0, &format!("ntpdate -q 10.0.2.2:{port}"));
    assert!(said.contains("stratum 2, offset +"), "{said}");
    let host_now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
    };
    let guest_now = |m: &mut Machine| {
        let seconds = m.ok("date +%s");
        Duration::from_secs(seconds.trim().parse().expect("a number"))
    };
    // Only asked: still as wrong as it was.
    assert!(guest_now(&mut m) < host_now() + ahead / 2);
    let said = ends_with(&mut m, 0, &format!("ntpd -q -p 10.0.2.2:{port}"));
    assert!(said.contains("ntpd: set the clock to "), "{said}");
    let off = guest_now(&mut m).abs_diff(host_now() + ahead);
    assert!(off < Duration::from_secs(3), "{off:?}");
    // Nobody there.
    let closed = free_port();
    let said = ends_with(&mut m, 1, &format!("ntpdate -p 1 -t 1 10.0.2.2:{closed}"));
    assert!(said.contains("no server suitable"), "{said}");
    m.power_off();
}
