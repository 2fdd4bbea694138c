//! The long names of directory listings, as `ls -l` prints them: clients show them as they are.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{Gid, Group, Uid, User};

/// Names of users and groups that have been looked up.
#[derive(Default)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    fn user(&mut self, uid: u32) -> &str {
        let find = || {
            User::from_uid(Uid::from_raw(uid))
                .ok()
                .flatten()
                .map_or(uid.to_string(), |user| user.name)
        };
        self.users.entry(uid).or_insert_with(find)
    }

    fn group(&mut self, gid: u32) -> &str {
        let find = || {
            Group::from_gid(Gid::from_raw(gid))
                .ok()
                .flatten()
                .map_or(gid.to_string(), |group| group.name)
        };
        self.groups.entry(gid).or_insert_with(find)
    }

    /// The line for `name`.
    pub fn long_name(&mut self, name: &[u8], status: &Metadata) -> Vec<u8> {
        let mode = mode_text(status.mode());
        let (links, size) = (status.nlink(), status.size());
        let date = date_text(status.mtime());
        let user = self.user(status.uid()).to_string();
        let group = self.group(status.gid());
        let mut line =
            format!("{mode} {links:>4} {user:<8} {group:<8} {size:>8} {date} ").into_bytes();
        line.extend_from_slice(name);
        line
    }
}

fn mode_text(mode: u32) -> String {
    let kind = match mode & libc::S_IFMT {
        libc::S_IFDIR => 'd',
        libc::S_IFLNK => 'l',
        libc::S_IFCHR => 'c',
        libc::S_IFBLK => 'b',
        libc::S_IFIFO => 'p',
        libc::S_IFSOCK => 's',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, set, unset) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => unset,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// The time of day for the last half year, else the year.
fn date_text(seconds: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs() as i64);
    let recent = seconds <= now && seconds > now - 365 * 86400 / 2;
    let format = if recent { c"%b %e %H:%M" } else { c"%b %e  %Y" };
    let mut buffer = [0u8; 64];
    // SAFETY: an all-zero `tm` is valid; both calls get pointers to live locals and the buffer's true size, and
    // strftime ends what it writes with a NUL where it returns a length.
    let written = unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut time).is_null() {
            return String::new();
        }
        libc::strftime(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            format.as_ptr(),
            &time,
        )
    };
    if written == 0 {
        return String::new();
    }
    CStr::from_bytes_until_nul(&buffer)
        .map_or(String::new(), |text| text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(mode_text(0o100644), "-rw-r--r--");
        assert_eq!(mode_text(0o041777), "drwxrwxrwt");
        assert_eq!(mode_text(0o104750), "-rwsr-x---");
        assert_eq!(mode_text(0o102640), "-rw-r-S---");
        assert_eq!(mode_text(0o120777), "lrwxrwxrwx");
    }

    #[test]
    fn old_dates_have_a_year() {
        assert_eq!(date_text(86400 * 40 + 3600 * 13), "Feb 10  1970");
    }
}
