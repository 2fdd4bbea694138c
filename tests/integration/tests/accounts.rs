//! Users, groups, passwords and su.

use oxbow_harness::{Config, Machine};

#[test]
fn users_come_and_go() {
    let mut m = Machine::boot(&Config::default());
    m.ok("adduser -D bob && addgroup staff && addgroup bob staff");
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
    let mut m = Machine::boot(&Config::default());
    // Nobody can use root's password as shipped.
    assert!(m.ok("passwd -S root").starts_with("root L "));
    m.ok("adduser -D bob; adduser -D eve; printf 'bob:first password\\neve:other password\\n' | chpasswd");
    assert!(m.ok("grep ^bob: /etc/shadow").starts_with("bob:$y$"));
    assert_eq!(m.run("echo nobody-here:x | chpasswd").status, 1);

    // Bob changes it: the terminal shows none of them.
    m.send("su - bob\n");
    m.expect("$ ", 20);
    m.send("passwd\n");
    m.expect("Current password: ", 20);
    m.send("first password\n");
    m.expect("New password: ", 20);
    m.send("short\n");
    m.expect("longer password", 20);
    m.expect("New password: ", 20);
    m.send("second password\n");
    m.expect("Retype new password: ", 20);
    m.send("second password\n");
    m.expect("password updated successfully", 20);
    m.expect("$ ", 20);
    // And becomes eve with hers, but not root, and not with a wrong one.
    m.send("su eve -c 'cd / && id -un'\n");
    m.expect("Password: ", 20);
    m.send("other password\n");
    m.expect("\neve\r\n", 20);
    m.expect("$ ", 20);
    m.send("su\n");
    m.expect("Password: ", 20);
    m.send("second password\n");
    m.expect("su: Authentication failure", 20);
    m.expect("$ ", 20);
    // Ctrl-C at the question leaves a terminal that echoes.
    m.send("su eve\n");
    m.expect("Password: ", 20);
    m.send("\x03");
    m.expect("Authentication failure", 20);
    m.expect("$ ", 20);
    m.send("echo still-$((20 + 1))-here\n");
    m.expect("$((20 + 1))", 20);
    m.expect("still-21-here", 20);
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
    let mut m = Machine::boot(&Config::default());
    m.ok("adduser -D bob");
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
