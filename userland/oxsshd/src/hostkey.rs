//! The host's keys: read, and made at the first start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::rand_core::UnwrapErr;
use russh::keys::{Algorithm, HashAlg, PrivateKey};

use crate::log::{error, info};

/// Reads the keys of `paths`. An Ed25519 key that is missing is made; another kind that is missing is left out.
pub fn load(paths: &[PathBuf]) -> Vec<PrivateKey> {
    paths.iter().filter_map(|path| load_one(path)).collect()
}

fn load_one(path: &Path) -> Option<PrivateKey> {
    let key = match read(path) {
        Ok(key) => key,
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_make(path) => match make(path)
        {
            Ok(key) => {
                info!("Made host key {}", path.display());
                key
            }
            Err(error) => {
                error!("Could not make host key {}: {error}", path.display());
                return None;
            }
        },
        Err(error) => {
            error!("Unable to load host key \"{}\": {error}", path.display());
            return None;
        }
    };
    info!(
        "Server host key: {} {}",
        key_type(&key.algorithm()),
        key.public_key().fingerprint(HashAlg::Sha256)
    );
    Some(key)
}

/// Only a name that says so gets an Ed25519 key.
fn may_make(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().contains("ed25519"))
}

fn read(path: &Path) -> io::Result<PrivateKey> {
    let mode = fs::metadata(path)?;
    if mode.mode() & 0o077 != 0 && mode.uid() == nix::unistd::getuid().as_raw() {
        return Err(io::Error::other(format!(
            "permissions {:04o} are too open",
            mode.mode() & 0o777
        )));
    }
    let text = fs::read_to_string(path)?;
    let key = PrivateKey::from_openssh(&text).map_err(io::Error::other)?;
    if key.is_encrypted() {
        return Err(io::Error::other("the key has a passphrase"));
    }
    Ok(key)
}

/// Makes a key that is either there as a whole or not at all, whenever the power goes.
fn make(path: &Path) -> io::Result<PrivateKey> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut random = UnwrapErr(SystemRandom);
    let mut key = PrivateKey::random(&mut random, Algorithm::Ed25519).map_err(io::Error::other)?;
    let host = nix::unistd::gethostname().unwrap_or_default();
    key.set_comment(format!("root@{}", host.to_string_lossy()));
    let private = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
    let public = key.public_key().to_openssh().map_err(io::Error::other)? + "\n";
    // The public half first: with the private one the key is complete.
    let mut public_name = path.as_os_str().to_owned();
    public_name.push(".pub");
    replace(Path::new(&public_name), public.as_bytes(), 0o644)?;
    replace(path, private.as_bytes(), 0o600)?;
    File::open(folder)?.sync_all()?;
    Ok(key)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The kernel's random numbers, as a source for the key generator.
struct SystemRandom;

impl russh::keys::ssh_key::rand_core::TryRng for SystemRandom {
    type Error = io::Error;

    fn try_next_u32(&mut self) -> Result<u32, io::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, io::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), io::Error> {
        random_bytes(bytes)
    }
}

impl russh::keys::ssh_key::rand_core::TryCryptoRng for SystemRandom {}

/// Fills `bytes` from getrandom(2).
pub fn random_bytes(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: the pointer and length are those of `rest`, which is writable for the call.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// A key's kind as OpenSSH's logs name it.
pub fn key_type(algorithm: &Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ed25519 => "ED25519",
        Algorithm::Rsa { .. } => "RSA",
        Algorithm::Ecdsa { .. } => "ECDSA",
        Algorithm::SkEd25519 => "ED25519-SK",
        Algorithm::SkEcdsaSha2NistP256 => "ECDSA-SK",
        Algorithm::Dsa => "DSA",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let folder = std::env::temp_dir().join(format!("oxsshd-hostkey-{}", std::process::id()));
        let path = folder.join("ssh_host_ed25519_key");
        let first = load(std::slice::from_ref(&path));
        let second = load(std::slice::from_ref(&path));
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].public_key(), second[0].public_key());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(
            fs::read_to_string(folder.join("ssh_host_ed25519_key.pub"))
                .unwrap()
                .starts_with("ssh-ed25519 ")
        );
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(load(std::slice::from_ref(&path)).is_empty());
        fs::remove_dir_all(folder).unwrap();
    }
}
