//! The discipline as a terminal uses it: bytes typed, bytes shown, lines read.

use super::*;

fn typed(ld: &mut LineDiscipline, bytes: &[u8]) -> (Vec<u8>, Vec<u32>) {
    let (mut echo, mut signals) = (Vec::new(), Vec::new());
    for &b in bytes {
        signals.extend(ld.receive(b, &mut echo).signal);
    }
    (echo, signals)
}

fn raw() -> LineDiscipline {
    let mut s = Settings::cooked();
    s.lflag = 0;
    s.iflag = 0;
    LineDiscipline::new(s)
}

#[test]
fn a_line_is_edited_echoed_and_read_once() {
    let mut ld = LineDiscipline::default();
    let (echo, _) = typed(&mut ld, b"lx\x7fs\r");
    assert_eq!(echo, b"lx\x08 \x08s\r\n");
    assert!(ld.readable());
    assert_eq!(ld.read(100).as_deref(), Some(&b"ls\n"[..]));
    assert_eq!(ld.read(100), None);
}

#[test]
fn reads_never_cross_a_line_and_may_split_one() {
    let mut ld = LineDiscipline::default();
    typed(&mut ld, b"abc\nde\n");
    assert_eq!(ld.read(2).as_deref(), Some(&b"ab"[..]));
    assert_eq!(ld.read(100).as_deref(), Some(&b"c\n"[..]));
    assert_eq!(ld.read(100).as_deref(), Some(&b"de\n"[..]));
}

#[test]
fn eof_ends_a_line_without_a_byte() {
    let mut ld = LineDiscipline::default();
    typed(&mut ld, b"ab\x04\x04");
    assert_eq!(ld.read(9).as_deref(), Some(&b"ab"[..]));
    assert_eq!(ld.read(9).as_deref(), Some(&b""[..]));
    assert_eq!(ld.read(9), None);
}

#[test]
fn signals_flush_unless_told_not_to() {
    let mut ld = LineDiscipline::default();
    let (echo, signals) = typed(&mut ld, b"ab\x03");
    assert_eq!(
        (echo.as_slice(), signals.as_slice()),
        (&b"^C"[..], &[abi::SIGINT][..])
    );
    typed(&mut ld, b"\n");
    assert_eq!(ld.read(9).as_deref(), Some(&b"\n"[..]));
    let mut s = *ld.settings();
    s.lflag |= abi::NOFLSH;
    ld.set_settings(s);
    assert_eq!(
        typed(&mut ld, b"x\x1c\x1a\n").1,
        [abi::SIGQUIT, abi::SIGTSTP]
    );
    assert_eq!(ld.read(9).as_deref(), Some(&b"x\n"[..]));
}

#[test]
fn erasing_counts_columns_of_tabs_controls_and_utf8() {
    let mut ld = LineDiscipline::default();
    assert_eq!(
        typed(&mut ld, b"a\t\x7f").0,
        b"a\t\x08\x08\x08\x08\x08\x08\x08"
    );
    assert_eq!(
        typed(&mut ld, b"\x16\x01\x7f").0,
        b"^\x08^A\x08 \x08\x08 \x08"
    );
    assert_eq!(
        typed(&mut ld, "é\x7f".as_bytes()).0,
        "é\x08 \x08".as_bytes()
    );
    typed(&mut ld, b"\n");
    assert_eq!(ld.read(9).as_deref(), Some(&b"a\n"[..]));
}

#[test]
fn word_and_line_erase() {
    let mut ld = LineDiscipline::default();
    typed(&mut ld, b"one two \x17x\n");
    assert_eq!(ld.read(99).as_deref(), Some(&b"one x\n"[..]));
    typed(&mut ld, b"one two\x15x\n");
    assert_eq!(ld.read(99).as_deref(), Some(&b"x\n"[..]));
}

#[test]
fn raw_mode_delivers_bytes_and_vmin_holds() {
    let mut ld = raw();
    let mut s = *ld.settings();
    s.cc[abi::VMIN as usize] = 3;
    ld.set_settings(s);
    assert!(typed(&mut ld, b"\x03\r").1.is_empty());
    assert!(!ld.readable());
    typed(&mut ld, b"z");
    assert!(ld.readable());
    assert_eq!(ld.read(9).as_deref(), Some(&b"\x03\rz"[..]));
}

#[test]
fn switching_modes_loses_nothing() {
    let mut ld = LineDiscipline::default();
    typed(&mut ld, b"one\ntwo");
    let mut s = *ld.settings();
    s.lflag &= !abi::ICANON;
    ld.set_settings(s);
    assert_eq!(ld.read(99).as_deref(), Some(&b"one\ntwo"[..]));
    typed(&mut ld, b"three");
    ld.set_settings(Settings::cooked());
    assert_eq!(ld.read(99).as_deref(), Some(&b"three"[..]));
}

#[test]
fn flow_control_stops_and_resumes() {
    let mut ld = LineDiscipline::default();
    typed(&mut ld, b"\x13");
    assert!(ld.stopped());
    let mut echo = Vec::new();
    assert!(ld.receive(0x11, &mut echo).wake_writers);
    assert!(!ld.stopped());
}

#[test]
fn an_overlong_line_keeps_room_for_its_end() {
    let mut ld = LineDiscipline::default();
    typed(&mut ld, &[b'a'; 2 * INPUT_MAX]);
    typed(&mut ld, b"\n");
    let line = ld.read(3 * INPUT_MAX).unwrap();
    assert_eq!((line.len(), line.last()), (INPUT_MAX, Some(&b'\n')));
}

#[test]
fn room_is_what_comes_in_without_loss() {
    let mut ld = LineDiscipline::default();
    // Nobody can read an unfinished line: it takes what comes.
    typed(&mut ld, &[b'a'; 2 * INPUT_MAX]);
    assert_eq!(ld.input_room(), INPUT_MAX);
    typed(&mut ld, b"\n");
    assert_eq!(ld.input_room(), 0);
    assert!(ld.read(INPUT_MAX).is_some());
    assert_eq!(ld.input_room(), INPUT_MAX);
    let mut s = *ld.settings();
    s.lflag &= !(abi::ICANON | abi::ECHO);
    ld.set_settings(s);
    let room = ld.input_room();
    typed(&mut ld, &alloc::vec![b'r'; room]);
    assert_eq!(ld.input_room(), 0);
    assert_eq!(ld.read(2 * INPUT_MAX).map(|b| b.len()), Some(room));
}

#[test]
fn unread_ends_of_lines_are_bounded() {
    let mut ld = LineDiscipline::default();
    typed(&mut ld, &[b'\n'; 3 * INPUT_MAX]);
    typed(&mut ld, &[0x04; 3 * INPUT_MAX]);
    assert!(ld.ready.len() + ld.lines.len() <= INPUT_MAX + 1);
}

#[test]
fn echo_follows_the_mode_and_its_flags() {
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut s = Settings::cooked();
        change(&mut s);
        LineDiscipline::new(s)
    };
    // Without lines, the return key alone moves the cursor.
    let mut ld = with(&|s| s.lflag &= !abi::ICANON);
    assert_eq!(typed(&mut ld, b"a\n\r").0, b"a^J\r\n");
    // ERASE shows itself without ECHOE; WERASE still wipes.
    let mut ld = with(&|s| s.lflag &= !abi::ECHOE);
    assert_eq!(
        typed(&mut ld, b"ab\x7fc d\x17\n").0,
        b"ab^?c d\x08 \x08\r\n"
    );
    let mut ld = with(&|s| s.lflag |= abi::ECHOPRT);
    assert_eq!(typed(&mut ld, b"abc\x7f\x7fd\n").0, b"abc\\cb/d\r\n");
    let mut ld = with(&|s| s.iflag |= abi::PARMRK);
    typed(&mut ld, b"\xff\n");
    assert_eq!(ld.read(9).as_deref(), Some(&b"\xff\xff\n"[..]));
}

#[test]
fn a_program_s_hold_outlasts_the_start_character() {
    let mut ld = LineDiscipline::default();
    ld.set_stopped(true);
    typed(&mut ld, b"\x11");
    assert!(ld.stopped());
    ld.set_stopped(false);
    assert!(!ld.stopped());
    typed(&mut ld, b"\x13");
    ld.set_stopped(false);
    assert!(ld.stopped(), "what was typed is not undone");
    typed(&mut ld, b"\x11");
    assert!(!ld.stopped());
}
