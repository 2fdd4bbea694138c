//! The descriptor table: small numbers to open file descriptions, with the close-on-exec flag
//! (man 2 open, man 2 dup, man 2 close_range).
//!
//! Descriptions are dropped outside the table's lock: the last close of a file may sleep.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::OpenFile;
use crate::error::{Errno, Result};
use crate::sync::{Rank, SpinLock};

/// One descriptor.
#[derive(Clone, Default)]
enum Slot {
    #[default]
    Free,
    /// Promised to a call that has not made its file yet; looks closed to everybody else.
    Reserved,
    Open {
        file: Arc<OpenFile>,
        close_on_exec: bool,
    },
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    /// No slot below this one is free.
    lowest_free: usize,
}

/// A process's descriptors; `CLONE_FILES` shares the table.
pub struct FdTable {
    inner: SpinLock<Slots>,
}

impl Slots {
    fn grow_to(&mut self, len: usize) -> Result<()> {
        if len > self.slots.len() {
            let more = len - self.slots.len();
            self.slots.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
            self.slots.resize_with(len, Slot::default);
        }
        Ok(())
    }

    fn take_lowest(&mut self, min: usize, limit: usize) -> Result<usize> {
        let start = min.max(self.lowest_free);
        let fd = (start..self.slots.len())
            .find(|&i| matches!(self.slots[i], Slot::Free))
            .unwrap_or(start.max(self.slots.len()));
        if fd >= limit {
            return Err(Errno::EMFILE);
        }
        self.grow_to(fd + 1)?;
        self.slots[fd] = Slot::Reserved;
        if min <= self.lowest_free {
            self.lowest_free = fd + 1;
        }
        Ok(fd)
    }

    fn release(&mut self, fd: usize) -> Slot {
        let old = core::mem::take(&mut self.slots[fd]);
        self.lowest_free = self.lowest_free.min(fd);
        old
    }

    fn index(&self, fd: i32) -> Result<usize> {
        let i = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if i < self.slots.len() {
            Ok(i)
        } else {
            Err(Errno::EBADF)
        }
    }
}

/// A descriptor number promised to the caller; given back unless [`Reservation::install`]ed.
pub struct Reservation<'a> {
    table: &'a FdTable,
    fd: usize,
}

impl Reservation<'_> {
    /// The number.
    pub fn fd(&self) -> i32 {
        self.fd as i32
    }

    /// Makes the descriptor refer to `file`.
    pub fn install(self, file: Arc<OpenFile>, close_on_exec: bool) -> i32 {
        self.table.inner.lock().slots[self.fd] = Slot::Open {
            file,
            close_on_exec,
        };
        let fd = self.fd as i32;
        core::mem::forget(self);
        fd
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.table.inner.lock().release(self.fd);
    }
}

impl FdTable {
    /// An empty table.
    pub fn new() -> FdTable {
        FdTable {
            inner: SpinLock::new(Rank::Object, Slots::default()),
        }
    }

    /// What identifies the table as the owner of POSIX locks ([`super::lock`]).
    pub fn lock_owner(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// One of the table's descriptors went away.
    fn closed(&self, slot: Slot) {
        if let Slot::Open { file, .. } = slot {
            file.file.flush(&file);
            super::lock::release_posix(self.lock_owner(), &file);
        }
    }

    /// One past the last descriptor `select` looks at: Linux's size of the table, which is 64
    /// at first and then a power of two of at least 128 (man 2 select, "BUGS").
    pub fn select_limit(&self) -> usize {
        match self.inner.lock().slots.len() {
            0..=64 => 64,
            len => len.next_power_of_two(),
        }
    }

    /// The description behind `fd`; EBADF.
    pub fn get(&self, fd: i32) -> Result<Arc<OpenFile>> {
        self.get_with_flag(fd).map(|(file, _)| file)
    }

    /// The description behind `fd` and its close-on-exec flag; EBADF.
    pub fn get_with_flag(&self, fd: i32) -> Result<(Arc<OpenFile>, bool)> {
        let inner = self.inner.lock();
        match &inner.slots[inner.index(fd)?] {
            Slot::Open {
                file,
                close_on_exec,
            } => Ok((file.clone(), *close_on_exec)),
            _ => Err(Errno::EBADF),
        }
    }

    /// Promises the lowest free number below `limit` (RLIMIT_NOFILE). EMFILE, ENOMEM.
    pub fn reserve(&self, limit: u64) -> Result<Reservation<'_>> {
        self.reserve_from(0, limit)
    }

    /// As [`FdTable::reserve`], not below `min` (F_DUPFD).
    pub fn reserve_from(&self, min: usize, limit: u64) -> Result<Reservation<'_>> {
        let fd = self.inner.lock().take_lowest(min, clamp_limit(limit))?;
        Ok(Reservation { table: self, fd })
    }

    /// Gives `file` the lowest free number below `limit`. EMFILE, ENOMEM.
    pub fn insert(&self, file: Arc<OpenFile>, close_on_exec: bool, limit: u64) -> Result<i32> {
        Ok(self.reserve(limit)?.install(file, close_on_exec))
    }

    /// Makes exactly `fd` refer to `file`, closing what it referred to (dup2). EBADF when
    /// `fd` is not below `limit`; EBUSY when another call is about to fill it.
    pub fn replace(
        &self,
        fd: i32,
        file: Arc<OpenFile>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<i32> {
        let i = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if i >= clamp_limit(limit) {
            return Err(Errno::EBADF);
        }
        let old = {
            let mut inner = self.inner.lock();
            inner.grow_to(i + 1)?;
            if matches!(inner.slots[i], Slot::Reserved) {
                return Err(Errno::EBUSY);
            }
            core::mem::replace(
                &mut inner.slots[i],
                Slot::Open {
                    file,
                    close_on_exec,
                },
            )
        };
        self.closed(old);
        Ok(fd)
    }

    /// Closes `fd`. EBADF.
    pub fn close(&self, fd: i32) -> Result<()> {
        let old = {
            let mut inner = self.inner.lock();
            let i = inner.index(fd)?;
            if !matches!(inner.slots[i], Slot::Open { .. }) {
                return Err(Errno::EBADF);
            }
            inner.release(i)
        };
        self.closed(old);
        Ok(())
    }

    /// Closes all descriptors of `first..=last`, or marks them close-on-exec.
    pub fn close_range(&self, first: u32, last: u32, only_mark: bool) {
        let mut fd = first as usize;
        loop {
            let old = {
                let mut inner = self.inner.lock();
                let end = inner.slots.len().min((last as usize).saturating_add(1));
                let Some(i) = (fd..end).find(|&i| matches!(inner.slots[i], Slot::Open { .. }))
                else {
                    return;
                };
                fd = i + 1;
                if only_mark {
                    if let Slot::Open { close_on_exec, .. } = &mut inner.slots[i] {
                        *close_on_exec = true;
                    }
                    continue;
                }
                inner.release(i)
            };
            self.closed(old);
        }
    }

    /// Sets `fd`'s close-on-exec flag. EBADF.
    pub fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<()> {
        let mut inner = self.inner.lock();
        let i = inner.index(fd)?;
        match &mut inner.slots[i] {
            Slot::Open { close_on_exec, .. } => {
                *close_on_exec = on;
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// A copy for a child without CLONE_FILES. ENOMEM.
    pub fn duplicate(&self) -> Result<FdTable> {
        let mut copy = Slots::default();
        loop {
            // The allocation happens outside the lock; the table may grow meanwhile.
            let len = self.inner.lock().slots.len();
            copy.slots.try_reserve(len).map_err(|_| Errno::ENOMEM)?;
            let inner = self.inner.lock();
            if inner.slots.len() > copy.slots.capacity() {
                continue;
            }
            copy.slots.extend(inner.slots.iter().map(|slot| match slot {
                Slot::Reserved => Slot::Free,
                other => other.clone(),
            }));
            break;
        }
        copy.lowest_free = copy
            .slots
            .iter()
            .position(|s| matches!(s, Slot::Free))
            .unwrap_or(copy.slots.len());
        Ok(FdTable {
            inner: SpinLock::new(Rank::Object, copy),
        })
    }

    /// Closes what is marked close-on-exec (execve).
    pub fn close_marked(&self) {
        let mut fd = 0;
        loop {
            let old = {
                let mut inner = self.inner.lock();
                let marked = (fd..inner.slots.len()).find(|&i| {
                    matches!(
                        inner.slots[i],
                        Slot::Open {
                            close_on_exec: true,
                            ..
                        }
                    )
                });
                let Some(i) = marked else { return };
                fd = i + 1;
                inner.release(i)
            };
            self.closed(old);
        }
    }

    /// Closes everything (exit).
    pub fn close_all(&self) {
        self.close_range(0, u32::MAX, false);
    }

    /// Open descriptors from `from` on, at most `max` of them: number, description, flag
    /// (for /proc/pid/fd).
    pub fn list(&self, from: usize, max: usize) -> Vec<(i32, Arc<OpenFile>, bool)> {
        let mut out = Vec::with_capacity(max.min(1024));
        let inner = self.inner.lock();
        for (i, slot) in inner.slots.iter().enumerate().skip(from) {
            if out.len() == out.capacity() {
                break;
            }
            if let Slot::Open {
                file,
                close_on_exec,
            } = slot
            {
                out.push((i as i32, file.clone(), *close_on_exec));
            }
        }
        out
    }
}

impl Default for FdTable {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        self.close_all();
    }
}

/// Linux's ceiling on descriptors whatever RLIMIT_NOFILE says (fs.nr_open).
pub const NR_OPEN: usize = 1024 * 1024;

fn clamp_limit(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(NR_OPEN).min(NR_OPEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;
    use crate::file::File;

    struct Nothing;
    impl File for Nothing {
        fn as_any(&self) -> &dyn core::any::Any {
            self
        }
        fn stat(&self) -> Result<abi::stat> {
            Err(Errno::EIO)
        }
        fn describe(&self) -> Vec<u8> {
            Vec::new()
        }
    }
    fn file() -> Arc<OpenFile> {
        OpenFile::new(Arc::new(Nothing), abi::O_RDWR)
    }

    #[test]
    fn lowest_number_wins_and_limits_hold() {
        let t = FdTable::new();
        for want in 0..4 {
            assert_eq!(t.insert(file(), false, 4), Ok(want));
        }
        assert_eq!(t.insert(file(), false, 4), Err(Errno::EMFILE));
        t.close(1).unwrap();
        t.close(0).unwrap();
        assert_eq!(t.close(0), Err(Errno::EBADF));
        assert_eq!(t.insert(file(), false, 4), Ok(0));
        assert_eq!(t.insert(file(), false, 4), Ok(1));
        assert_eq!(t.get(-1).err(), Some(Errno::EBADF));
        assert_eq!(t.get(99).err(), Some(Errno::EBADF));
    }

    #[test]
    fn select_looks_at_the_whole_table_and_no_further() {
        let t = FdTable::new();
        assert_eq!(t.select_limit(), 64);
        t.reserve_from(99, 1024).unwrap().install(file(), false);
        assert_eq!(t.select_limit(), 128);
    }

    #[test]
    fn dupfd_minimum_does_not_hide_lower_ones() {
        let t = FdTable::new();
        assert_eq!(t.reserve_from(10, 100).unwrap().install(file(), true), 10);
        assert_eq!(t.reserve_from(10, 100).unwrap().install(file(), true), 11);
        assert_eq!(t.insert(file(), false, 100), Ok(0));
        assert_eq!(t.reserve_from(100, 100).err(), Some(Errno::EMFILE));
    }

    #[test]
    fn reservations_look_closed_and_go_back() {
        let t = FdTable::new();
        let r = t.reserve(8).unwrap();
        assert_eq!(t.get(0).err(), Some(Errno::EBADF));
        assert_eq!(t.close(0), Err(Errno::EBADF));
        assert_eq!(t.replace(0, file(), false, 8), Err(Errno::EBUSY));
        drop(r);
        assert_eq!(t.insert(file(), false, 8), Ok(0));
    }

    #[test]
    fn exec_and_fork_keep_the_right_ones() {
        let t = FdTable::new();
        t.insert(file(), true, 8).unwrap();
        t.insert(file(), false, 8).unwrap();
        t.replace(6, file(), true, 8).unwrap();
        let child = t.duplicate().unwrap();
        child.close_marked();
        assert_eq!(
            child.list(0, 100).iter().map(|e| e.0).collect::<Vec<_>>(),
            [1]
        );
        assert_eq!(t.list(0, 100).len(), 3);
        assert_eq!(child.insert(file(), false, 8), Ok(0));
        t.close_range(1, u32::MAX, false);
        assert_eq!(t.list(0, 100).len(), 1);
    }
}
