//! Puts one file onto the root partition of an existing image.

use crate::disk::SECTOR;
use crate::error::{Error, Result};
use crate::{ext2, gpt, qcow2};
use oxbow_loader_core::disk::{Disk, DiskError};
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

struct RawDisk(File);

impl Disk for RawDisk {
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> std::result::Result<(), DiskError> {
        self.0
            .read_exact_at(buf, lba * SECTOR)
            .map_err(|_| DiskError {
                lba,
                status: DiskError::RANGE,
            })
    }
}

/// Puts `file` onto `image` as `dest`.
pub fn put(image: &Path, file: &Path, dest: &Path) -> Result<()> {
    let meta = file.metadata().map_err(|e| Error::file(file, e))?;
    if !meta.is_file() {
        return Err(Error::file(file, "not a regular file"));
    }
    if !dest.is_absolute() {
        return Err(Error::file(
            dest,
            "the destination must be an absolute path",
        ));
    }
    if !image.exists() {
        return Err(Error::file(image, "no such image"));
    }
    let work = qcow2::WorkFile::from_image(image)?;
    let raw = File::open(work.path()).map_err(|e| Error::file(work.path(), e))?;
    let partition = oxbow_loader_core::gpt::find(&mut RawDisk(raw), &gpt::guid(gpt::LINUX_ROOT))
        .map_err(|e| Error::file(image, format!("no root partition: {e}")))?;
    let volume = ext2::Volume::new(work.path(), partition.start * SECTOR);
    // A volume that was not unmounted cleanly may still be repaired by its system.
    volume.check()?;

    let (dest, existing) = resolve(&volume, file, dest)?;
    let (Some(parent), Some(name)) = (dest.parent(), dest.file_name().and_then(|n| n.to_str()))
    else {
        return Err(Error::file(&dest, "not a file name"));
    };
    let (Some(parent), false) = (parent.to_str(), name.contains('"') || name.starts_with('<'))
    else {
        return Err(Error::file(&dest, "debugfs cannot take this name"));
    };
    if !volume
        .stat(Path::new(parent))?
        .is_some_and(|s| is_kind(&s, "directory") || is_kind(&s, "symlink"))
    {
        return Err(Error::file(&dest, "its directory is not on the image"));
    }
    let name = format!("\"{name}\"");
    let mut script = String::new();
    let _ = writeln!(script, "cd \"{parent}\"");
    if existing {
        let _ = writeln!(script, "rm {name}");
    }
    ext2::write_file(
        &mut script,
        file,
        &name,
        0o100000 | meta.permissions().mode() & 0o7777,
    )?;
    volume.edit(&script, None)?;
    volume.check()?;
    work.finish(image)
}

/// Where the file goes, and whether something that can be replaced is there.
fn resolve(volume: &ext2::Volume, file: &Path, dest: &Path) -> Result<(PathBuf, bool)> {
    match volume.stat(dest)? {
        None => Ok((dest.into(), false)),
        Some(stat) if is_kind(&stat, "directory") => {
            let dest = dest.join(file.file_name().unwrap_or_default());
            match volume.stat(&dest)? {
                Some(stat) if is_kind(&stat, "directory") => {
                    Err(Error::file(&dest, "is a directory on the image"))
                }
                other => Ok((dest, other.is_some())),
            }
        }
        Some(_) => Ok((dest.into(), true)),
    }
}

fn is_kind(stat: &str, kind: &str) -> bool {
    stat.lines()
        .any(|line| line.contains(&format!("Type: {kind}")))
}
