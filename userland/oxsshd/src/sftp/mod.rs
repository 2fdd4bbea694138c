//! The SFTP server: a process of its own, with the user's ids and in the user's home, that answers requests on standard
//! input one after the other. The kernel decides what it may do.
//!
//! Version 3 with OpenSSH's extensions. Blocking on purpose: requests that have come together are answered together.

mod files;
mod listing;
mod wire;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use files::Server;
use wire::{MAX_PACKET, Reader, Status, Writer};

/// Answers are written when this much has come together, or nothing more is asked.
const FLUSH_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 128 << 10;

/// Runs the server on standard input and output. Arguments are those of OpenSSH's: `-R` (read only), `-d` (start
/// directory), `-u` (umask); those of its log are taken and have no effect.
pub fn main(arguments: &[String]) -> ExitCode {
    let mut read_only = false;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-R" => read_only = true,
            "-e" => {}
            "-l" | "-f" => drop(words.next()),
            "-d" => {
                if let Some(folder) = words.next()
                    && let Err(error) = std::env::set_current_dir(folder)
                {
                    eprintln!("sftp-server: {folder}: {error}");
                    return ExitCode::from(255);
                }
            }
            "-u" => match words
                .next()
                .and_then(|mask| u32::from_str_radix(mask, 8).ok())
            {
                // SAFETY: a plain system call.
                Some(mask) => drop(unsafe { libc::umask(mask) }),
                None => return usage(),
            },
            _ => return usage(),
        }
    }
    match serve(
        &mut io::stdin().lock(),
        &mut io::stdout().lock(),
        Server::new(read_only),
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sftp-server: {error}");
            ExitCode::from(255)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: internal-sftp [-R] [-d start_directory] [-u umask]");
    ExitCode::from(1)
}

fn serve(input: &mut impl Read, output: &mut impl Write, mut server: Server) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::new();
    let mut answers = Writer::default();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let mut used = 0;
        while let Some(packet) = next_packet(&buffer[used..])? {
            used += 4 + packet.len();
            answer(&mut server, packet, &mut answers);
            if answers.bytes.len() >= FLUSH_BYTES {
                flush(output, &mut answers)?;
            }
        }
        buffer.drain(..used);
        flush(output, &mut answers)?;
        match input.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(got) => buffer.extend_from_slice(&chunk[..got]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn flush(output: &mut impl Write, answers: &mut Writer) -> io::Result<()> {
    output.write_all(&answers.bytes)?;
    answers.bytes.clear();
    output.flush()
}

/// The first whole packet of `bytes`.
fn next_packet(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some(length) = bytes
        .first_chunk::<4>()
        .map(|length| u32::from_be_bytes(*length) as usize)
    else {
        return Ok(None);
    };
    if length == 0 || length > MAX_PACKET {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("bad message of {length} bytes"),
        ));
    }
    Ok(bytes.get(4..4 + length))
}

mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const STATUS: u8 = 101;
}

/// Handles one request.
fn answer(server: &mut Server, packet: &[u8], answers: &mut Writer) {
    let mut reader = Reader(packet);
    let Ok(request) = reader.byte() else { return };
    if request == kind::INIT {
        answers.packet(kind::VERSION, |answer| {
            answer.u32(3);
            for (name, version) in files::EXTENSIONS {
                answer.string(name.as_bytes());
                answer.string(version.as_bytes());
            }
        });
        return;
    }
    let id = reader.u32().unwrap_or(0);
    let before = answers.bytes.len();
    let status = match server.request(request, id, &mut reader, answers) {
        Ok(()) if answers.bytes.len() > before => return,
        Ok(()) => Status::Ok,
        Err(status) => status,
    };
    // Whatever a failed request had begun to say.
    answers.bytes.truncate(before);
    answers.packet(kind::STATUS, |answer| {
        answer.u32(id);
        answer.u32(status as u32);
        answer.string(status.text().as_bytes());
        answer.string(b"");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u8, fields: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.packet(kind, |writer| {
            writer.u32(7);
            fields(writer);
        });
        writer.bytes
    }

    fn run(requests: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut output = Vec::new();
        serve(&mut &requests[..], &mut output, Server::new(false)).unwrap();
        let (mut rest, mut packets) = (&output[..], Vec::new());
        while let Some(packet) = next_packet(rest).unwrap() {
            rest = &rest[4 + packet.len()..];
            packets.push((packet[0], packet[1..].to_vec()));
        }
        packets
    }

    fn status(packet: &(u8, Vec<u8>)) -> u32 {
        assert_eq!(packet.0, kind::STATUS);
        u32::from_be_bytes(packet.1[4..8].try_into().unwrap())
    }

    #[test]
    fn files_are_written_and_read_by_any_name() {
        let folder = std::env::temp_dir().join(format!("oxsshd-sftp-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut name = folder.to_str().unwrap().as_bytes().to_vec();
        name.extend_from_slice(b"/\xff\xfe");
        let mut all = request(3, |writer| {
            writer.string(&name);
            writer.u32(0x1 | 0x2 | 0x8);
            writer.u32(0);
        });
        let handle = 0u32.to_be_bytes();
        all.extend(request(6, |writer| {
            writer.string(&handle);
            writer.u64(2);
            writer.string(b"abc");
        }));
        all.extend(request(5, |writer| {
            writer.string(&handle);
            writer.u64(1);
            writer.u32(100);
        }));
        all.extend(request(5, |writer| {
            writer.string(&handle);
            writer.u64(5);
            writer.u32(100);
        }));
        all.extend(request(4, |writer| writer.string(&handle)));
        all.extend(request(4, |writer| writer.string(&handle)));
        all.extend(request(17, |writer| writer.string(b"/does/not/exist")));
        all.extend(request(99, |_| {}));
        all.extend(request(13, |writer| writer.string(&name)));
        let answers = run(&all);
        assert_eq!(answers[0].0, 102);
        assert_eq!(status(&answers[1]), 0);
        assert_eq!((answers[2].0, &answers[2].1[8..]), (103, &b"\0abc"[..]));
        assert_eq!(status(&answers[3]), Status::Eof as u32);
        assert_eq!(status(&answers[4]), 0);
        assert_eq!(status(&answers[5]), Status::Failure as u32);
        assert_eq!(status(&answers[6]), Status::NoSuchFile as u32);
        assert_eq!(status(&answers[7]), Status::Unsupported as u32);
        assert_eq!(status(&answers[8]), 0);
        std::fs::remove_dir(folder).unwrap();
    }

    #[test]
    fn junk_ends_the_server_and_short_requests_do_not() {
        assert!(serve(&mut &[0xffu8; 64][..], &mut Vec::new(), Server::new(false)).is_err());
        let answers = run(&request(3, |writer| writer.u32(1000)));
        assert_eq!(status(&answers[0]), Status::BadMessage as u32);
    }
}
