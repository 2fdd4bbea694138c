//! The shell on the console: language, pipes, redirections, scripts, job control.

use oxbow_harness::{Config, Machine};

#[test]
fn shell_language() {
    let mut m = Machine::boot(&Config::default());
    for (command, want) in [
        ("echo one two | tr a-z A-Z", "ONE TWO\n"),
        (
            "for i in 1 2 3; do echo $i; done | sort -r | head -n 2",
            "3\n2\n",
        ),
        ("x=$(echo inner); echo \"<$x>\"", "<inner>\n"),
        ("f() { echo $1-$#; }; f a b", "a-2\n"),
        ("echo $((6 * 7))", "42\n"),
        (
            "cd /tmp && echo data > r && cat < r && rm r && cd /",
            "data\n",
        ),
        ("echo out; ls /no/such 2>&1 | wc -l", "out\n1\n"),
        ("cat <<X\nhere $((1+1))\nX", "here 2\n"),
        ("a=(x y z); echo ${a[1]} ${#a[@]}", "y 3\n"),
        ("echo /et*/passw?", "/etc/passwd\n"),
        ("true && echo yes || echo no", "yes\n"),
        ("case abc in a*) echo matched;; esac", "matched\n"),
        (
            "seq 1 5 | while read n; do echo -n $n,; done; echo",
            "1,2,3,4,5,\n",
        ),
    ] {
        assert_eq!(m.ok(command), want, "{command}");
    }
    assert_eq!(m.run("false").status, 1);
    assert_eq!(m.run("sh -c 'exit 3'").status, 3);
    assert_eq!(m.run("sh -c 'kill -TERM $$'").status, 143);
    assert_eq!(m.run("no-such-command").status, 127);
    m.power_off();
}

#[test]
fn pipes_carry_any_amount_between_several_programs() {
    let mut m = Machine::boot(&Config::default());
    assert_eq!(
        m.ok("head -c 3000000 /dev/zero | cat | wc -c").trim(),
        "3000000"
    );
    assert_eq!(m.ok("seq 1 20000 | sort -n | tail -n 1").trim(), "20000");
    // The writer gets SIGPIPE when the reader leaves.
    assert_eq!(m.ok("yes | head -n 3"), "y\ny\ny\n");
}

/// A shell's test for having the terminal: keys typed earlier would go to who had it before.
const IN_FRONT: &str = "read -r pid name state parent group session tty front rest \
                        < /proc/self/stat && [ $group = $front ]";

#[test]
fn ctrl_c_ends_the_foreground_job_only() {
    let mut m = Machine::boot(&Config::default());
    let once = format!("until {IN_FRONT}; do :; done; echo in front");
    m.send(&format!(
        "sh -c '{once}; exec sleep 1000'; echo status=$?\n"
    ));
    m.expect("in front\r\n", 20);
    m.send("\x03");
    m.wait_for_prompt(10);
    assert_eq!(m.run("echo alive").text, "alive\n");
    // A program that reads the terminal is interrupted as well.
    m.send(&format!("sh -c '{once}; exec cat'\n"));
    m.expect("in front\r\n", 20);
    m.send("typed\n");
    m.expect("typed\r\ntyped", 10);
    m.send("\x04");
    m.wait_for_prompt(10);
}

#[test]
fn jobs_stop_continue_and_end() {
    let mut m = Machine::boot(&Config::default());
    let job = format!("while :; do {IN_FRONT} && echo in front; sleep 0.1; done");
    m.send(&format!("sh -c '{job}'\n"));
    // The script has waited for a command or two.
    for _ in 0..3 {
        m.expect("in front\r\n", 20);
    }
    m.send("\x1a");
    m.wait_for_prompt(10);
    let jobs = m.ok("jobs");
    assert!(
        jobs.contains("Stopped") && jobs.contains("sleep 0.1"),
        "{jobs}"
    );
    m.ok("bg");
    assert!(m.ok("jobs").contains("Running"), "bg continues the job");
    m.send("fg\n");
    m.expect("in front\r\n", 20);
    // Also between two commands of its loop.
    m.send("\x03");
    m.wait_for_prompt(10);
    assert_eq!(m.ok("jobs").trim(), "");
    // A stop ends the loop around the command; its job goes on where it stopped.
    let once = format!("until {IN_FRONT}; do :; done; echo in front");
    let body = format!("sh -c '{once}; read line; echo got $line'");
    m.send(&format!("for i in 1 2 3; do {body}; done\n"));
    m.expect("in front\r\n", 20);
    m.send("\x1a");
    m.wait_for_prompt(10);
    m.send("fg\n");
    m.expect("got $line'\r\n", 10);
    m.send("typed\n");
    m.expect("got typed\r\n", 10);
    m.wait_for_prompt(10);
    assert_eq!(m.ok("jobs"), "");
    // A subshell ends where its command stops, which is the shell's job then.
    m.send(&format!("({body}; echo not reached)\n"));
    m.expect("in front\r\n", 20);
    m.send("\x1a");
    m.wait_for_prompt(10);
    assert_eq!(m.ok("jobs | grep -c 'Stopped *sh -c'").trim(), "1");
    m.ok("kill -KILL %1; sleep 0.2");
    m.ok("sleep 0.2 & wait $!");
}

#[test]
fn scripts_run_by_their_first_line() {
    let mut m = Machine::boot(&Config::default());
    m.ok("printf '#!/bin/sh\\necho script $1\\n' > /tmp/s; chmod +x /tmp/s");
    assert_eq!(m.ok("/tmp/s arg"), "script arg\n");
    m.ok("printf '#!/usr/bin/env bash\\necho env\\n' > /tmp/e; chmod +x /tmp/e");
    assert_eq!(m.ok("/tmp/e"), "env\n");
    m.ok("printf '#!/no/such/shell\\n' > /tmp/n; chmod +x /tmp/n");
    assert_ne!(m.run("/tmp/n").status, 0);
}
