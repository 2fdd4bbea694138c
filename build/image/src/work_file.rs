//! Raw work files: made from an existing image by `qemu-img`, and what becomes of them.

use crate::error::{Error, Result};
use crate::qcow2;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A raw disk beside the final image; removed when dropped.
pub struct WorkFile(PathBuf);

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{ending}", std::process::id()));
    name.into()
}

fn is_raw(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "raw" || e == "img")
}

fn qemu_img(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(args.iter().map(|a| a.as_ref()))
        .output()
        .map_err(|e| Error::text(format!("qemu-img: {e} (package qemu-utils)")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("lock") && said.contains("another process") {
        return Err(Error::text(
            "the image is in use by a running guest: switch that off first",
        ));
    }
    Err(Error::text(format!("qemu-img failed: {}", said.trim())))
}

impl WorkFile {
    /// An empty file for an image that will be `output`; makes its directory.
    pub fn beside(output: &Path) -> Result<Self> {
        if let Some(dir) = output.parent() {
            std::fs::create_dir_all(dir).map_err(|e| Error::file(dir, e))?;
        }
        let path = beside(output, "work");
        std::fs::File::create(&path).map_err(|e| Error::file(&path, e))?;
        Ok(WorkFile(path))
    }

    /// The content of an existing image.
    pub fn from_image(image: &Path) -> Result<Self> {
        let work = WorkFile(beside(image, "work"));
        let format = if is_raw(image) { "raw" } else { "qcow2" };
        qemu_img(&[&"convert", &"-f", &format, &"-O", &"raw", &image, &work.0])?;
        Ok(work)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Replaces `output` by the work file's content, in one step.
    pub fn finish(self, output: &Path) -> Result<()> {
        let done = if is_raw(output) {
            WorkFile(self.0.clone())
        } else {
            let done = WorkFile(beside(output, "done"));
            qcow2::write(&self.0, &done.0)?;
            done
        };
        // An image that is replaced keeps its permissions.
        if let Ok(old) = std::fs::metadata(output) {
            std::fs::set_permissions(&done.0, old.permissions())
                .map_err(|e| Error::file(&done.0, e))?;
        }
        std::fs::rename(&done.0, output).map_err(|e| Error::file(output, e))
    }
}

impl Drop for WorkFile {
    fn drop(&mut self) {
        // Gone already when it became the image.
        let _ = std::fs::remove_file(&self.0);
    }
}
