//! Puts one file onto the root partition of an existing image.

use crate::disk::SECTOR;
use crate::error::{Error, Result};
use crate::{ext2, gpt, work_file};
use oxbow_loader_core::disk::{Disk, DiskError};
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

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

/// What the running system mounts something else over.
const HIDDEN: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// Puts `file` onto `image` as `dest`; returns where it is then.
pub fn put(image: &Path, file: &Path, dest: &Path) -> Result<PathBuf> {
    let meta = file.metadata().map_err(|e| Error::file(file, e))?;
    if !meta.is_file() {
        return Err(Error::file(file, "not a regular file"));
    }
    let dest = &tidy(file, dest)?;
    // What a link leads to is the image, not the link.
    let image = &image.canonicalize().map_err(|e| Error::file(image, e))?;
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
    work.finish(image)?;
    Ok(dest)
}

/// `dest` without double slashes and single dots. One that ends in a slash is a directory.
fn tidy(file: &Path, dest: &Path) -> Result<PathBuf> {
    if !dest.is_absolute() {
        return Err(Error::file(
            dest,
            "the destination must be an absolute path",
        ));
    }
    // Through a link, `..` is not what it looks like.
    if dest.components().any(|c| c == Component::ParentDir) {
        return Err(Error::file(dest, "the destination must do without '..'"));
    }
    let mut tidied: PathBuf = dest.components().collect();
    if dest.as_os_str().as_bytes().ends_with(b"/") {
        tidied.push(file.file_name().unwrap_or_default());
    }
    if let Some(dir) = HIDDEN.iter().find(|dir| tidied.starts_with(dir)) {
        return Err(Error::file(
            &tidied,
            format!("the running system shows something else at {dir}"),
        ));
    }
    if tidied.iter().any(|name| name.len() > 255) {
        return Err(Error::file(&tidied, "a file name has at most 255 bytes"));
    }
    Ok(tidied)
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
