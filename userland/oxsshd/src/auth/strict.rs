//! StrictModes: a file of keys counts only if nobody but its owner and root could have written it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::account::Account;

/// Checks the open file and every directory from it up to the home directory, or to the root when it is elsewhere.
///
/// # Errors
/// The reason, in OpenSSH's words.
pub fn check(file: &Metadata, path: &Path, account: &Account) -> Result<(), String> {
    let real = path
        .canonicalize()
        .map_err(|error| format!("realpath {} failed: {error}", path.display()))?;
    let home = account.home.canonicalize().ok();
    if !safe(file, account.uid) {
        return Err(format!(
            "bad ownership or modes for file {}",
            real.display()
        ));
    }
    for directory in real.ancestors().skip(1) {
        let status = directory
            .metadata()
            .map_err(|error| format!("stat {}: {error}", directory.display()))?;
        if !safe(&status, account.uid) {
            return Err(format!(
                "bad ownership or modes for directory {}",
                directory.display()
            ));
        }
        if home.as_deref() == Some(directory) {
            break;
        }
    }
    Ok(())
}

fn safe(status: &Metadata, uid: u32) -> bool {
    (status.uid() == uid || status.uid() == 0) && status.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_others_can_write_is_refused() {
        let home = std::env::temp_dir().join(format!("oxsshd-strict-{}", std::process::id()));
        let folder = home.join(".ssh");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("authorized_keys");
        fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
        };
        let uid = nix::unistd::getuid().as_raw();
        let account = Account::for_test("me", uid, home.to_str().unwrap());
        let verdict = || check(&fs::metadata(&file).unwrap(), &file, &account);
        mode(&home, 0o755);
        mode(&folder, 0o700);
        mode(&file, 0o600);
        assert_eq!(verdict(), Ok(()));
        for (path, what) in [
            (&file, "file"),
            (&folder, "directory"),
            (&home, "directory"),
        ] {
            let before = fs::metadata(path).unwrap().mode();
            mode(path, 0o775);
            assert_eq!(
                verdict(),
                Err(format!(
                    "bad ownership or modes for {what} {}",
                    path.canonicalize().unwrap().display()
                ))
            );
            mode(path, before);
        }
        let other = Account::for_test("other", uid + 1, home.to_str().unwrap());
        if uid != 0 {
            assert!(check(&fs::metadata(&file).unwrap(), &file, &other).is_err());
        }
        fs::remove_dir_all(home).unwrap();
    }
}
