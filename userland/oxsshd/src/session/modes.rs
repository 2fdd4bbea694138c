//! Terminal modes of a pty-req (RFC 4254, 8) in termios terms.

use nix::libc;
use nix::sys::termios::{BaudRate, Termios, cfsetspeed};
use russh::Pty;

/// Applies what the client's terminal is set to. Codes that this system does not have are left out.
pub fn apply(termios: &mut Termios, modes: &[(Pty, u32)]) {
    let mut raw: libc::termios = termios.clone().into();
    let mut speed = None;
    for &(code, value) in modes {
        if let Some(index) = control_character(code) {
            // 255 is "none" in the protocol, 0 (_POSIX_VDISABLE) here.
            raw.c_cc[index] = u8::try_from(value)
                .ok()
                .filter(|value| *value != 255)
                .unwrap_or(0);
            continue;
        }
        let (field, bit) = match code {
            Pty::TTY_OP_ISPEED | Pty::TTY_OP_OSPEED => {
                speed = Some(value);
                continue;
            }
            Pty::CS7 | Pty::CS8 => {
                let size = if code == Pty::CS8 {
                    libc::CS8
                } else {
                    libc::CS7
                };
                if value != 0 {
                    raw.c_cflag = raw.c_cflag & !libc::CSIZE | size;
                }
                continue;
            }
            _ => match flag(code) {
                None => continue,
                Some(Flag::Input(bit)) => (&mut raw.c_iflag, bit),
                Some(Flag::Output(bit)) => (&mut raw.c_oflag, bit),
                Some(Flag::Control(bit)) => (&mut raw.c_cflag, bit),
                Some(Flag::Local(bit)) => (&mut raw.c_lflag, bit),
            },
        };
        if value != 0 {
            *field |= bit
        } else {
            *field &= !bit
        }
    }
    *termios = raw.into();
    if let Some(speed) = speed {
        let _ = cfsetspeed(termios, baud_rate(speed));
    }
}

fn control_character(code: Pty) -> Option<usize> {
    Some(match code {
        Pty::VINTR => libc::VINTR,
        Pty::VQUIT => libc::VQUIT,
        Pty::VERASE => libc::VERASE,
        Pty::VKILL => libc::VKILL,
        Pty::VEOF => libc::VEOF,
        Pty::VEOL => libc::VEOL,
        Pty::VEOL2 => libc::VEOL2,
        Pty::VSTART => libc::VSTART,
        Pty::VSTOP => libc::VSTOP,
        Pty::VSUSP => libc::VSUSP,
        Pty::VREPRINT => libc::VREPRINT,
        Pty::VWERASE => libc::VWERASE,
        Pty::VLNEXT => libc::VLNEXT,
        Pty::VDISCARD => libc::VDISCARD,
        Pty::VSWTCH => libc::VSWTC,
        _ => return None,
    })
}

enum Flag {
    Input(libc::tcflag_t),
    Output(libc::tcflag_t),
    Control(libc::tcflag_t),
    Local(libc::tcflag_t),
}

fn flag(code: Pty) -> Option<Flag> {
    use Flag::{Control, Input, Local, Output};
    Some(match code {
        Pty::IGNPAR => Input(libc::IGNPAR),
        Pty::PARMRK => Input(libc::PARMRK),
        Pty::INPCK => Input(libc::INPCK),
        Pty::ISTRIP => Input(libc::ISTRIP),
        Pty::INLCR => Input(libc::INLCR),
        Pty::IGNCR => Input(libc::IGNCR),
        Pty::ICRNL => Input(libc::ICRNL),
        Pty::IXON => Input(libc::IXON),
        Pty::IXANY => Input(libc::IXANY),
        Pty::IXOFF => Input(libc::IXOFF),
        Pty::IMAXBEL => Input(libc::IMAXBEL),
        Pty::IUTF8 => Input(libc::IUTF8),
        Pty::ISIG => Local(libc::ISIG),
        Pty::ICANON => Local(libc::ICANON),
        Pty::ECHO => Local(libc::ECHO),
        Pty::ECHOE => Local(libc::ECHOE),
        Pty::ECHOK => Local(libc::ECHOK),
        Pty::ECHONL => Local(libc::ECHONL),
        Pty::NOFLSH => Local(libc::NOFLSH),
        Pty::TOSTOP => Local(libc::TOSTOP),
        Pty::IEXTEN => Local(libc::IEXTEN),
        Pty::ECHOCTL => Local(libc::ECHOCTL),
        Pty::ECHOKE => Local(libc::ECHOKE),
        Pty::OPOST => Output(libc::OPOST),
        Pty::ONLCR => Output(libc::ONLCR),
        Pty::OCRNL => Output(libc::OCRNL),
        Pty::ONOCR => Output(libc::ONOCR),
        Pty::ONLRET => Output(libc::ONLRET),
        Pty::PARENB => Control(libc::PARENB),
        Pty::PARODD => Control(libc::PARODD),
        _ => return None,
    })
}

fn baud_rate(speed: u32) -> BaudRate {
    match speed {
        0 => BaudRate::B0,
        300 => BaudRate::B300,
        1200 => BaudRate::B1200,
        2400 => BaudRate::B2400,
        4800 => BaudRate::B4800,
        9600 => BaudRate::B9600,
        19200 => BaudRate::B19200,
        57600 => BaudRate::B57600,
        115_200 => BaudRate::B115200,
        _ => BaudRate::B38400,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_reach_termios() {
        let pair = nix::pty::openpty(None, None);
        let Ok(pair) = pair else { return };
        let mut termios = nix::sys::termios::tcgetattr(&pair.slave).unwrap();
        apply(
            &mut termios,
            &[
                (Pty::ECHO, 0),
                (Pty::VINTR, 7),
                (Pty::VEOL, 255),
                (Pty::ONLCR, 0),
                (Pty::IUTF8, 1),
                (Pty::XCASE, 1),
                (Pty::VQUIT, 70000),
            ],
        );
        let raw: libc::termios = termios.into();
        assert_eq!(raw.c_lflag & libc::ECHO, 0);
        assert_eq!(raw.c_oflag & libc::ONLCR, 0);
        assert_ne!(raw.c_iflag & libc::IUTF8, 0);
        assert_eq!(
            (
                raw.c_cc[libc::VINTR],
                raw.c_cc[libc::VEOL],
                raw.c_cc[libc::VQUIT]
            ),
            (7, 0, 0)
        );
    }
}
