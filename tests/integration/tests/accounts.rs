//! Users, groups, passwords and su.

use oxbow_harness::{Config, Machine};

/// A machine with ordinary users who have no password.
fn boot_with(users: &[&str]) -> Machine {
    let mut m = Machine::boot(&Config::default());
    for user in users {
        m.ok(&format!("adduser -D {user}"));
    }
    m
}

/// Answers questions on the terminal: each line of input is sent when the text before it has come.
fn converse(m: &mut Machine, steps: &[(&str, &str)]) {
    for (question, answer) in steps {
        m.expect(question, 20);
        m.send(answer);
    }
}

#[test]
fn users_come_and_go() {
    let mut m = boot_with(&["bob"]);
    m.ok("addgroup staff && addgroup bob staff");
    assert_eq!(
        m.ok("id bob"),
        "uid=1000(bob) gid=1000(bob) groups=1000(bob),1001(staff)\n"
    );
    assert_eq!(m.ok("stat -c '%a %U %G' /home/bob"), "700 bob bob\n");
    assert!(m.ok("passwd -S bob").starts_with("bob L "));
    m.ok("useradd -m -u 1500 -s /bin/oxsh -G wheel eve");
    assert_eq!(
        m.ok("grep ^eve: /etc/passwd"),
        "eve:x:1500:1500::/home/eve:/bin/oxsh\n"
    );
    assert_eq!(m.run("useradd eve").status, 9);
    assert_eq!(m.run("groupdel bob").status, 8);
    assert_eq!(m.run("userdel root").status, 1);
    // The files keep their modes, and leave nothing behind.
    assert_eq!(
        m.ok("stat -c %a /etc/passwd /etc/shadow /etc/group"),
        "644\n600\n644\n"
    );
    m.ok("userdel -r bob && userdel -r eve && delgroup staff");
    assert_eq!(
        m.ok("ls /home; grep -c -e bob -e eve /etc/passwd /etc/shadow /etc/group; true"),
        "/etc/passwd:0\n/etc/shadow:0\n/etc/group:0\n"
    );
    m.power_off();
}

#[test]
fn passwords_are_asked_for_and_kept_over_a_reboot() {
    let mut m = boot_with(&["bob", "eve"]);
    // Nobody can use root's password as shipped.
    assert!(m.ok("passwd -S root").starts_with("root L "));
    m.ok("printf 'bob:first password\\neve:other password\\n' | chpasswd");
    assert!(m.ok("grep ^bob: /etc/shadow").starts_with("bob:$y$"));
    assert_eq!(m.run("echo nobody-here:x | chpasswd").status, 1);

    // Bob changes it: the terminal shows none of them.
    m.send("su - bob\n");
    converse(
        &mut m,
        &[
            ("$ ", "passwd\n"),
            ("Current password: ", "first password\n"),
            ("New password: ", "short\n"),
            ("longer password", ""),
            ("New password: ", "second password\n"),
            ("Retype new password: ", "second password\n"),
            ("password updated successfully", ""),
            // And becomes eve with hers, but not root, and not with a wrong one.
            ("$ ", "su eve -c 'id -un; pwd'\n"),
            ("Password: ", "other password\n"),
            // Where eve may not go: commands run there all the same.
            ("\neve\r\n/home/bob\r\n", ""),
            ("$ ", "su\n"),
            ("Password: ", "second password\n"),
            ("su: Authentication failure", ""),
            // Ctrl-C at the question leaves a terminal that echoes.
            ("$ ", "su eve\n"),
            ("Password: ", "\x03"),
            ("Authentication failure", ""),
            ("$ ", "echo still-$((20 + 1))-here\n"),
            ("$((20 + 1))", ""),
            ("still-21-here", ""),
        ],
    );
    m.send("exit\n");
    m.wait_for_prompt(20);
    let log = m.log();
    assert!(!log.contains("second password"), "a password was shown");
    let said = m.ok("grep ' su\\[' /var/log/messages");
    assert!(
        said.contains("bob became eve") && said.contains("bob failed to become root"),
        "{said}"
    );

    m.power_off();
    let mut m = m.boot_again(&Config::default());
    assert!(m.ok("passwd -S bob").starts_with("bob P "));
    m.ok("passwd -l bob");
    assert!(m.ok("passwd -S bob").starts_with("bob L "));
    m.ok("passwd -u bob");
    assert!(m.ok("passwd -S bob").starts_with("bob P "));
    m.power_off();
}

#[test]
fn set_user_id_gives_only_what_it_is_for() {
    let mut m = boot_with(&["bob"]);
    for command in [
        "adduser -D mallory",
        "usermod -aG wheel bob",
        "userdel root",
        "echo root:x | chpasswd",
        "passwd -d root",
        "passwd -u root",
        "passwd -S root",
        "login -f root",
        "cat /etc/shadow",
        "svc list",
    ] {
        let said = m.run(&format!("su - bob -c '{command}' < /dev/null"));
        assert_ne!(said.status, 0, "{command}: {}", said.text);
    }
    assert_eq!(
        m.ok("su - bob -c 'id -u; id -un; pwd; echo $HOME $SHELL'"),
        "1000\nbob\n/home/bob\n/home/bob /bin/sh\n"
    );
    assert_eq!(m.run("su - bob -c 'exit 5'").status, 5);
    assert_eq!(m.run("su nobody-here").status, 1);
    assert!(m.ok("grep ^root: /etc/shadow").starts_with("root:*:"));
    m.power_off();
}
