//! The three files together: read, changed under a lock, and replaced as a whole.
//!
//! Each file is written to a temporary one beside it, synced and renamed, with
//! mode and owner as before, so that a reader or a power cut finds the old
//! or the new one. The lock is /etc/.pwd.lock, as lckpwdf(3) has it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};

use crate::table::Table;
use crate::{Failure, failure, with_status};

/// lckpwdf(3) waits as long.
const LOCK_WAIT: Duration = Duration::from_secs(15);

/// Fields of passwd(5).
pub const UID: usize = 2;
pub const GID: usize = 3;
pub const COMMENT: usize = 4;
pub const HOME: usize = 5;
pub const SHELL: usize = 6;
/// Fields of shadow(5).
pub const HASH: usize = 1;
pub const LAST_CHANGE: usize = 2;
pub const EXPIRES: usize = 7;
/// Field of group(5); its number is field 2.
pub const MEMBERS: usize = 3;

pub struct Accounts {
    folder: PathBuf,
    pub passwd: Table,
    pub shadow: Table,
    pub group: Table,
    before: [Table; 3],
    _lock: Option<Flock<File>>,
}

/// A user's entry in /etc/passwd.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    pub shell: String,
}

impl Accounts {
    /// The files in `folder`, to look at.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let table = |name: &str| match fs::read_to_string(folder.join(name)) {
            Ok(text) => Ok(Table::parse(&text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Table::parse("")),
            // Others' passwords are root's to see.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && name == "shadow" => {
                Ok(Table::parse(""))
            }
            Err(error) => Err(failure(format!("{}: {error}", folder.join(name).display()))),
        };
        let (passwd, shadow, group) = (table("passwd")?, table("shadow")?, table("group")?);
        Ok(Self {
            folder: folder.to_owned(),
            before: [passwd.clone(), shadow.clone(), group.clone()],
            passwd,
            shadow,
            group,
            _lock: None,
        })
    }

    /// The files in `folder`, to change: locked until this is dropped.
    pub fn lock(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(".pwd.lock");
        let denied = |error: &dyn std::fmt::Display| {
            failure(format!("cannot lock {}: {error}", path.display()))
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied => failure("Permission denied."),
                _ => denied(&error),
            })?;
        let end = Instant::now() + LOCK_WAIT;
        let lock = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((_, error)) if Instant::now() >= end => return Err(denied(&error.desc())),
                Err((back, _)) => file = back,
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        Ok(Self {
            _lock: Some(lock),
            ..Self::read(folder)?
        })
    }

    /// Writes what has changed. A user's line in passwd comes last: with it the
    /// user is there.
    pub fn save(&mut self) -> Result<(), Failure> {
        let [passwd, shadow, group] = &self.before;
        for (name, now, before, mode) in [
            ("group", &self.group, group, 0o644),
            ("shadow", &self.shadow, shadow, 0o600),
            ("passwd", &self.passwd, passwd, 0o644),
        ] {
            if now != before {
                let path = self.folder.join(name);
                replace(&path, &now.text(), mode).map_err(|error| {
                    failure(format!("cannot write {}: {error}", path.display()))
                })?;
            }
        }
        self.before = [self.passwd.clone(), self.shadow.clone(), self.group.clone()];
        Ok(())
    }

    pub fn user(&self, name: &str) -> Option<User> {
        let fields = self.passwd.find(name)?;
        let field = |index: usize| fields.get(index).map_or("", String::as_str);
        Some(User {
            name: name.to_owned(),
            uid: field(UID).parse().ok()?,
            gid: field(GID).parse().ok()?,
            home: field(HOME).to_owned(),
            shell: match field(SHELL) {
                "" => "/bin/sh".to_owned(),
                shell => shell.to_owned(),
            },
        })
    }

    pub fn user_of(&self, uid: u32) -> Option<User> {
        let text = uid.to_string();
        let mut rows = self.passwd.rows();
        let name = rows.find(|row| row.get(UID) == Some(&text.as_str()))?[0].to_owned();
        self.user(&name)
    }

    /// The number of a group given by name or number.
    pub fn group_id(&self, group: &str) -> Result<u32, Failure> {
        let by_name = self
            .group
            .find(group)
            .and_then(|fields| fields.get(2)?.parse().ok());
        let by_number = || {
            let mut rows = self.group.rows();
            rows.find(|row| row.get(2) == Some(&group))
                .and_then(|_| group.parse().ok())
        };
        by_name
            .or_else(by_number)
            .ok_or_else(|| with_status(6, format!("group '{group}' does not exist")))
    }

    /// The hash of `name`; `*` where there is none.
    pub fn hash(&self, name: &str) -> String {
        let entry = self.shadow.find(name);
        entry
            .and_then(|fields| fields.into_iter().nth(HASH))
            .unwrap_or_else(|| "*".to_owned())
    }

    /// Gives `name` the hash, as of today.
    pub fn set_hash(&mut self, name: &str, hash: &str) {
        let today = today().to_string();
        if !self.shadow.set(name, HASH, hash) {
            self.shadow
                .push(&[name, hash, &today, "0", "99999", "7", "", "", ""]);
        }
        self.shadow.set(name, LAST_CHANGE, &today);
        // Not a hash in a file that everybody reads.
        self.passwd.set(name, 1, "x");
    }

    /// Whether `name`'s account is past its day of expiry.
    pub fn is_expired(&self, name: &str) -> bool {
        let day = self
            .shadow
            .find(name)
            .and_then(|fields| fields.get(EXPIRES)?.parse::<u64>().ok());
        day.is_some_and(|day| day <= today())
    }
}

/// Days since 1970-01-01.
pub fn today() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / 86_400)
}

fn replace(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let (mode, owner) = match fs::metadata(path) {
        Ok(old) => (old.mode() & 0o7777, Some((old.uid(), old.gid()))),
        Err(_) => (mode, None),
    };
    let mut new = path.as_os_str().to_owned();
    new.push("+");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| {
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&new, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A folder with the files of a small system.
    pub fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("oxsu-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        for (file, text, mode) in [
            (
                "passwd",
                "root:x:0:0:root:/root:/bin/oxsh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
                0o644,
            ),
            (
                "shadow",
                "root:*:20000:0:99999:7:::\nnobody:*:20000:0:99999:7:::\n",
                0o600,
            ),
            (
                "group",
                "root:x:0:\nwheel:x:10:root\nusers:x:100:\nnogroup:x:65534:\n",
                0o644,
            ),
        ] {
            let path = folder.join(file);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        }
        folder
    }

    #[test]
    fn only_what_changed_is_written_and_modes_stay() {
        let folder = folder("save");
        let inode = |file: &str| fs::metadata(folder.join(file)).expect("there").ino();
        let (passwd, shadow) = (inode("passwd"), inode("shadow"));
        let mut accounts = Accounts::lock(&folder).expect("unlocked");
        accounts.set_hash("root", "$y$x");
        accounts.save().expect("writable");
        assert_eq!(inode("passwd"), passwd);
        assert_ne!(inode("shadow"), shadow);
        let mode = fs::metadata(folder.join("shadow")).expect("there").mode();
        assert_eq!(mode & 0o7777, 0o600);
        let text = fs::read_to_string(folder.join("shadow")).expect("there");
        assert!(text.starts_with(&format!("root:$y$x:{}:0:99999:7:::\n", today())));
        assert!(!folder.join("shadow+").exists());
    }

    #[test]
    fn the_lock_is_held() {
        let folder = folder("lock");
        let held = Accounts::lock(&folder).expect("unlocked");
        let file = File::open(folder.join(".pwd.lock")).expect("there");
        assert!(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err());
        drop(held);
        Accounts::lock(&folder).expect("unlocked again");
    }

    #[test]
    fn users_groups_and_expiry() {
        let folder = folder("look");
        let mut accounts = Accounts::read(&folder).expect("there");
        assert_eq!(accounts.user("root").expect("there").uid, 0);
        assert_eq!(accounts.user_of(65534).expect("there").name, "nobody");
        assert_eq!(accounts.group_id("wheel").expect("there"), 10);
        assert_eq!(accounts.group_id("100").expect("there"), 100);
        assert!(accounts.group_id("5").is_err());
        assert!(!accounts.is_expired("root"));
        accounts.shadow.set("root", EXPIRES, "1");
        assert!(accounts.is_expired("root"));
        assert_eq!(accounts.hash("eve"), "*");
    }
}
