//! -i: a file that takes the place of another when all of it is written.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Machine, Res, Trouble};
use crate::output::Output;
use crate::{path_of, reason};

impl<'s> Machine<'s> {
    pub(super) fn begin_change(&mut self, name: &[u8]) -> Res<()> {
        let path = path_of(name).to_path_buf();
        let trouble = |what: &str, error: io::Error| {
            Trouble(format!("{what} {}: {}", path.display(), reason(&error)), 4)
        };
        let metadata = fs::metadata(&path).map_err(|e| trouble("couldn't edit", e))?;
        for attempt in 0..100 {
            let mut temporary = path.file_name().unwrap_or_default().to_os_string();
            temporary.push(format!(".sed{}-{attempt}", std::process::id()));
            let temporary = path.with_file_name(temporary);
            match File::create_new(&temporary) {
                Ok(file) => {
                    // Mode and owner as before; the owner is root's to keep.
                    let _ = file.set_permissions(metadata.permissions());
                    use std::os::unix::fs::MetadataExt;
                    let _ = std::os::unix::fs::fchown(
                        &file,
                        Some(metadata.uid()),
                        Some(metadata.gid()),
                    );
                    self.changing = Some((
                        Output::new(Box::new(file), self.setup.end, false),
                        temporary,
                        path,
                    ));
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(trouble("couldn't open temporary file for", error)),
            }
        }
        Err(Trouble(
            format!("couldn't open temporary file for {}", path.display()),
            4,
        ))
    }

    /// Puts the changed file in its place, or drops it.
    pub(super) fn finish_file(&mut self, keep: bool) -> Res<()> {
        let Some((mut output, temporary, path)) = self.changing.take() else {
            return Ok(());
        };
        let written = output.flush();
        drop(output);
        if !keep || written.is_err() {
            let _ = fs::remove_file(&temporary);
            written?;
            return Ok(());
        }
        let suffix = self.setup.in_place.clone().unwrap_or_default();
        let moved = (|| {
            if !suffix.is_empty() {
                let copy = backup_name(&path, &suffix);
                // The name must not be free for a moment.
                let _ = fs::remove_file(&copy);
                fs::hard_link(&path, &copy).or_else(|_| fs::rename(&path, &copy))?;
            }
            fs::rename(&temporary, &path)
        })();
        moved.map_err(|error| {
            Trouble(
                format!("cannot rename {}: {}", temporary.display(), reason(&error)),
                4,
            )
        })
    }
}

fn backup_name(path: &Path, suffix: &[u8]) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut copy = Vec::new();
    if suffix.contains(&b'*') {
        for byte in suffix {
            match byte {
                b'*' => copy.extend_from_slice(name),
                other => copy.push(*other),
            }
        }
    } else {
        copy.extend_from_slice(name);
        copy.extend_from_slice(suffix);
    }
    let copy = std::ffi::OsString::from_vec(copy);
    if suffix.contains(&b'/') {
        copy.into()
    } else {
        path.with_file_name(copy)
    }
}
