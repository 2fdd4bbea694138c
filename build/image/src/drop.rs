//! Puts one file onto the root partition of an existing image.

use crate::disk::SECTOR;
use crate::error::{Error, Result};
use crate::{ext2, gpt, work_file};
use oxbow_loader_core::disk::{Disk, DiskError};
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
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
    let work = work_file::WorkFile::from_image(image)?;
    let raw = File::open(work.path()).map_err(|e| Error::file(work.path(), e))?;
    let partition = oxbow_loader_core::gpt::find(&mut RawDisk(raw), &gpt::guid(gpt::LINUX_ROOT))
        .map_err(|e| Error::file(image, format!("no root partition: {e}")))?;
    let volume = ext2::Volume::new(work.path(), partition.start * SECTOR);
    // A guest that was ended by force leaves a volume to repair.
    volume.repair()?;

    let dest = resolve(&volume, file, dest)?;
    let (Some(parent), Some(name)) = (dest.parent(), dest.file_name().and_then(|n| n.to_str()))
    else {
        return Err(Error::file(&dest, "not a file name"));
    };
    let name = ext2::quoted(name.as_bytes())?;
    let mut script = String::new();
    // `cd` follows a link to a directory; a path given to `mkdir` or `write` would not.
    for missing in missing_directories(&volume, parent)? {
        let (above, name) = (missing.parent(), missing.file_name());
        let name = ext2::quoted(name.unwrap_or_default().as_bytes())?;
        enter(&mut script, above.unwrap_or(Path::new("/")))?;
        let _ = writeln!(script, "mkdir {name}");
        ext2::own(&mut script, &name, 0o040755);
    }
    enter(&mut script, parent)?;
    if volume.stat(&dest)?.is_some() {
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

/// The command that makes `directory` the working directory.
fn enter(script: &mut String, directory: &Path) -> Result<()> {
    let directory = ext2::quoted(through(directory).as_os_str().as_bytes())?;
    let _ = writeln!(script, "cd {directory}");
    Ok(())
}

/// `path` such that debugfs looks at what a link at its end leads to.
fn through(path: &Path) -> PathBuf {
    path.join(".")
}

fn is_directory(volume: &ext2::Volume, path: &Path) -> Result<bool> {
    let stat = volume.stat(&through(path))?;
    Ok(stat.is_some_and(|stat| is_kind(&stat, "directory")))
}

/// Where the file goes: into `dest` if that is a directory, else in its place.
fn resolve(volume: &ext2::Volume, file: &Path, dest: &Path) -> Result<PathBuf> {
    if !is_directory(volume, dest)? {
        return Ok(dest.into());
    }
    let dest = dest.join(file.file_name().unwrap_or_default());
    if is_directory(volume, &dest)? {
        return Err(Error::file(&dest, "is a directory on the image"));
    }
    Ok(dest)
}

/// The directories on the way to and including `path` that are not there, outermost first.
fn missing_directories<'a>(volume: &ext2::Volume, path: &'a Path) -> Result<Vec<&'a Path>> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if is_directory(volume, ancestor)? {
            break;
        }
        if volume.stat(ancestor)?.is_some() {
            return Err(Error::file(ancestor, "is no directory on the image"));
        }
        missing.push(ancestor);
    }
    missing.reverse();
    Ok(missing)
}

fn is_kind(stat: &str, kind: &str) -> bool {
    stat.lines()
        .any(|line| line.contains(&format!("Type: {kind}")))
}
