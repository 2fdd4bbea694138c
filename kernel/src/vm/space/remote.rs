//! Reading and writing a space that is not loaded: /proc/pid/mem, execve's new stack.

use super::pages::share_reference;
use super::{Access, AddressSpace, FaultError, Prot};
use crate::error::{Errno, Result};
use crate::mm::page_table::PteFlags;
use crate::mm::{FrameRef, PAGE_SIZE, UserAddr};
use crate::vm::user::check_range;

impl AddressSpace {
    /// The frame behind `addr`, made present for `access`, with a reference to keep it.
    /// `None`: the zero page.
    fn frame_for(&self, addr: UserAddr, access: Access) -> Result<Option<FrameRef>> {
        // The page may be taken out again between the fault and the look: then once more.
        for _ in 0..1000 {
            {
                let table = self.table.lock();
                let pte = table.get(addr.page_down().0);
                if pte.is_present() && (access != Access::Write || pte.has(PteFlags::WRITE)) {
                    return Ok(share_reference(pte));
                }
            }
            self.handle_fault(addr, access).map_err(|e| match e {
                FaultError::OutOfMemory => Errno::ENOMEM,
                _ => Errno::EFAULT,
            })?;
        }
        Err(Errno::ENOMEM)
    }

    /// Reads another process's memory (/proc, ptrace). Returns bytes read, up to the first
    /// page that is not readable; EFAULT when that is the first.
    pub fn read_remote(&self, addr: UserAddr, out: &mut [u8]) -> Result<usize> {
        check_range(addr, out.len())?;
        let mut done = 0;
        while done < out.len() {
            let at = addr + done as u64;
            let n = (PAGE_SIZE - at.page_offset()).min(out.len() - done);
            match self.frame_for(at, Access::Read) {
                Ok(Some(frame)) => {
                    // SAFETY: within the frame, which the reference keeps; `out` is ours.
                    unsafe {
                        core::ptr::copy_nonoverlapping(
                            frame.as_ptr().add(at.page_offset()),
                            out[done..].as_mut_ptr(),
                            n,
                        );
                    }
                }
                Ok(None) => out[done..done + n].fill(0),
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
            done += n;
        }
        Ok(done)
    }

    /// Writes into a space that is not the running one (execve builds the new stack so).
    /// EFAULT where the program itself could not write; ENOMEM.
    pub fn write_remote(&self, addr: UserAddr, bytes: &[u8]) -> Result<()> {
        check_range(addr, bytes.len())?;
        let mut done = 0;
        while done < bytes.len() {
            let at = addr + done as u64;
            let n = (PAGE_SIZE - at.page_offset()).min(bytes.len() - done);
            let frame = self.frame_for(at, Access::Write)?.ok_or(Errno::EFAULT)?;
            // SAFETY: within the frame, which the reference keeps; the entry was writable, so
            // the page is the space's to change.
            unsafe {
                core::ptr::copy_nonoverlapping(
                    bytes[done..].as_ptr(),
                    frame.as_ptr().add(at.page_offset()),
                    n,
                );
            }
            done += n;
        }
        Ok(())
    }

    /// Makes every page of `[from, to)` present, as the areas allow: writable where stores are
    /// allowed and private, else readable. ENOMEM when part is not mapped or memory is out;
    /// EAGAIN when a file's page cannot be had; EINTR when the caller is to die.
    pub(super) fn populate(&self, from: u64, to: u64) -> Result<()> {
        let mut at = from;
        while at < to {
            if crate::vm::oom::is_dying() {
                return Err(Errno::EINTR);
            }
            // One page per round, so that a change of the layout can get in between.
            let layout = self.layout.read();
            let area = layout.areas.find(at).ok_or(Errno::ENOMEM)?;
            if area.prot.is_empty() {
                at = area.end;
                continue;
            }
            let access = if area.prot.contains(Prot::WRITE) && area.is_private() {
                Access::Write
            } else {
                Access::Read
            };
            let pte = self.table.lock().get(at);
            let is_there = pte.is_present() && (access == Access::Read || pte.has(PteFlags::WRITE));
            if !is_there {
                self.fault_in_area(area, at, access).map_err(|e| match e {
                    FaultError::Bus => Errno::EAGAIN,
                    _ => Errno::ENOMEM,
                })?;
            }
            at += super::PAGE;
        }
        Ok(())
    }
}
