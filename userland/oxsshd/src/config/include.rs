//! Which files an Include line means.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where names of included files start that are not absolute.
const DIRECTORY: &str = "/etc/ssh";

/// Names of files that fit a pattern, in the order of their names; none is no error.
pub fn files(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let path = PathBuf::from(DIRECTORY).join(pattern);
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    let failed = || Err(format!("include \"{}\" glob failed.", path.display()));
    // SAFETY: glob_t is a C structure of numbers and pointers, for which zero is a value.
    let mut found: libc::glob_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pattern ends in NUL, and `found` is ours and released below.
    let status = unsafe { libc::glob(text.as_ptr(), 0, None, &mut found) };
    let paths = match status {
        0 => (0..found.gl_pathc)
            .map(|index| {
                // SAFETY: glob(3) has made gl_pathc pointers to strings, which live until globfree(3).
                let name = unsafe { CStr::from_ptr(*found.gl_pathv.add(index)) };
                PathBuf::from(OsStr::from_bytes(name.to_bytes()))
            })
            .collect(),
        _ => Vec::new(),
    };
    // SAFETY: glob(3) has filled `found`, which is not used after this.
    unsafe { libc::globfree(&mut found) };
    match status {
        0 | libc::GLOB_NOMATCH => Ok(paths),
        _ => failed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_files_that_are_there() {
        assert_eq!(files("/dev/nul[l]").unwrap(), [PathBuf::from("/dev/null")]);
        for none in ["/dev/{zero,x}", "none-of-that/*.conf"] {
            assert!(files(none).unwrap().is_empty(), "{none}");
        }
        assert!(files("a\0b").is_err());
    }
}
