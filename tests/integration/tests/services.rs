//! Services: unit files, restarts with back-off, logs, `svc`, the way down.

use std::time::{Duration, Instant};

use oxbow_harness::{Config, Machine};

/// Puts unit files on the machine: (name, text).
fn add_units(m: &mut Machine, units: &[(&str, &str)]) {
    for (name, text) in units {
        m.ok(&format!("printf '{text}' > /etc/services/{name}.conf"));
    }
}

/// The cells of `svc list` for `name`: name, state, pid, since, restarts...
fn row(m: &mut Machine, name: &str) -> Vec<String> {
    let list = m.ok("svc list");
    let row = list
        .lines()
        .find(|l| l.split_whitespace().next() == Some(name));
    row.unwrap_or_else(|| panic!("no {name} in\n{list}"))
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// Waits until `name` is in `state`.
fn wait_for_state(m: &mut Machine, name: &str, state: &str) -> Vec<String> {
    let start = Instant::now();
    loop {
        let row = row(m, name);
        if row[1] == state {
            return row;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{row:?}");
    }
}

#[test]
fn what_is_killed_starts_again_and_stop_means_stop() {
    let mut m = Machine::boot(&Config::default());
    let console = row(&mut m, "console");
    assert_eq!(console[1], "running");
    add_units(
        &mut m,
        &[("nap", "command = /bin/sleep 1000\\nrestart = always\\n")],
    );
    assert_eq!(m.ok("svc reload"), "");
    let first = wait_for_state(&mut m, "nap", "running");
    m.ok(&format!("kill -9 {}", first[2]));
    let second = wait_for_state(&mut m, "nap", "running");
    assert_ne!(second[2], first[2]);
    assert_eq!(second[4], "1", "one restart: {second:?}");
    let said = m.ok("svc status nap");
    assert!(said.contains("SIGKILL"), "{said}");

    assert_eq!(m.ok("svc stop nap"), "nap: stopped\n");
    assert_eq!(m.run("pgrep -x sleep").status, 1);
    assert_eq!(m.run("svc status nap").status, 3);
    assert!(m.ok("svc start nap").starts_with("nap: running, process "));
    let third = row(&mut m, "nap");
    assert!(
        m.ok("svc restart nap")
            .starts_with("nap: running, process ")
    );
    assert_ne!(row(&mut m, "nap")[2], third[2]);
    // What it comes to when the unit's file goes.
    m.ok("rm /etc/services/nap.conf; svc reload; sleep 0.3");
    assert_eq!(m.run("svc status nap").status, 4);
    assert_eq!(m.run("pgrep -x sleep").status, 1);
    assert_eq!(m.run("svc frobnicate nap").status, 2);
    m.power_off();
}

#[test]
fn stopping_ends_a_whole_session_and_what_does_not_listen() {
    let mut m = Machine::boot(&Config::default());
    // Children in the group and a shell that ignores the signal.
    let script =
        "trap \"\" TERM\\nsleep 1001 &\\nset -m\\nsleep 1002 &\\nwhile :; do sleep 1; done\\n";
    m.ok(&format!("printf '{script}' > /tmp/deaf.sh"));
    add_units(
        &mut m,
        &[(
            "deaf",
            "command = /bin/sh /tmp/deaf.sh\\nstop-timeout = 700ms\\n",
        )],
    );
    m.ok("svc reload; svc start deaf");
    assert_eq!(m.ok("pgrep -f 'sleep 100[12]' | wc -l").trim(), "2");
    let start = Instant::now();
    assert_eq!(m.ok("svc stop deaf"), "deaf: stopped\n");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(700), "{took:?}");
    assert_eq!(m.ok("pgrep -f 'sleep 100[12]' | wc -l").trim(), "0");
    m.power_off();
}

#[test]
fn a_crash_loop_costs_nothing_and_a_noisy_service_disturbs_nobody() {
    let mut m = Machine::boot(&Config::default());
    add_units(
        &mut m,
        &[
            (
                "crash",
                "command = /bin/sh -c \"echo boom; exit 7\"\\nrestart = always\\n",
            ),
            (
                "noise",
                "command = /bin/yes a line that is repeated\\nlog-limit = 64K\\n",
            ),
            ("gone", "command = /no/such/program\\nrestart = never\\n"),
        ],
    );
    m.ok("svc reload");
    wait_for_state(&mut m, "crash", "backing-off");
    assert_eq!(row(&mut m, "gone")[1], "failed");
    let log = m.ok("svc log gone");
    assert!(log.contains("cannot run /no/such/program"), "{log}");

    // Processor time of init and the crashing shell over some seconds.
    m.ok("sleep 6");
    let crash = row(&mut m, "crash");
    let restarts: u32 = crash[4].parse().expect("a number");
    assert!((2..=6).contains(&restarts), "{crash:?}");
    let log = m.ok("svc log crash -n 3");
    assert!(
        log.lines().count() == 3 && log.lines().all(|l| l.ends_with("Z boom")),
        "{log}"
    );

    let ticks = m.ok("awk '{print $14 + $15}' /proc/1/stat");
    let ticks: u32 = ticks.trim().parse().expect("clock ticks");
    assert!(ticks < 400, "init used {ticks} hundredths of a second");
    let size: u64 = m
        .ok("cat /var/log/noise.log* | wc -c")
        .trim()
        .parse()
        .expect("bytes");
    assert!((30_000..=131_072).contains(&size), "{size}");
    let rss = m.ok("awk '/VmRSS/ {print $2}' /proc/1/status");
    assert!(
        rss.trim().parse::<u32>().expect("kilobytes") < 4096,
        "{rss}"
    );
    let start = Instant::now();
    m.ok("svc list");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(m.ok("svc stop noise crash").contains("noise: stopped"));
    m.power_off();
}

#[test]
fn order_one_shots_and_dependencies() {
    let mut m = Machine::boot(&Config::default());
    let step = |name: &str, more: &str| {
        format!(
            "command = /bin/sh -c \"sleep 0.3; echo {name} >> /tmp/order\"\\none-shot = yes\\nremain = yes\\n{more}"
        )
    };
    add_units(
        &mut m,
        &[
            ("c-first", &step("first", "")),
            ("b-second", &step("second", "after = c-first\\n")),
            ("a-third", &step("third", "needs = b-second\\n")),
            ("d-bad", "command = /bin/false\\none-shot = yes\\n"),
            ("e-never", "command = /bin/sleep 9\\nneeds = d-bad\\n"),
            (
                "f-user",
                "command = /bin/sh -c \"id -un; pwd; exec sleep 1000\"\\nuser = nobody\\ndirectory = /tmp\\n",
            ),
        ],
    );
    m.ok("svc reload");
    wait_for_state(&mut m, "a-third", "done");
    assert_eq!(m.ok("cat /tmp/order"), "first\nsecond\nthird\n");
    assert_eq!(wait_for_state(&mut m, "d-bad", "failed")[1], "failed");
    let said = m.run("svc start e-never");
    assert_eq!(said.status, 1, "{}", said.text);
    assert!(
        said.text.contains("needs d-bad, which is failed"),
        "{}",
        said.text
    );
    let log = m.ok("svc log f-user");
    assert!(
        log.contains("Z nobody\n") && log.contains("Z /tmp\n"),
        "{log}"
    );
    m.power_off();
}

#[test]
fn choices_and_bad_units_over_a_reboot() {
    let mut m = Machine::boot(&Config::default());
    add_units(
        &mut m,
        &[
            ("nap", "command = /bin/sleep 1000\\n"),
            ("rest", "command = /bin/sleep 1001\\nenabled = no\\n"),
            ("bad", "command = /bin/true\\nrestrat = always\\n"),
        ],
    );
    let said = m.run("svc reload");
    assert_eq!(said.status, 1);
    assert!(
        said.text.contains("bad.conf: line 2: unknown key"),
        "{}",
        said.text
    );
    assert_eq!(row(&mut m, "rest")[1], "stopped");
    assert_eq!(m.ok("svc disable nap"), "nap: does not start at boot\n");
    m.ok("svc enable rest");
    m.power_off();
    let mut m = m.boot_again(&Config::default());
    assert_eq!(row(&mut m, "nap")[1], "stopped");
    assert_eq!(row(&mut m, "rest")[1], "running");
    assert!(m.log().contains("bad.conf: line 2: unknown key 'restrat'"));
    m.power_off();
}

#[test]
fn the_log_is_followed_and_the_system_log_written() {
    let mut m = Machine::boot(&Config::default());
    add_units(
        &mut m,
        &[(
            "tick",
            "command = /bin/sh -c \"while :; do echo tick; sleep 0.2; done\"\\n",
        )],
    );
    m.ok("svc reload; sleep 0.5");
    let seen = m.run("timeout 2 svc log -f tick -n 1 | head -n 5 | wc -l");
    assert_eq!(seen.text.trim(), "5");
    m.ok("logger -t unit-test -p auth.warning hello there");
    m.ok("sleep 0.2");
    let line = m.ok("grep unit-test /var/log/messages");
    assert!(
        line.contains("Z auth.warning unit-test: hello there\n"),
        "{line}"
    );
    m.power_off();
}
