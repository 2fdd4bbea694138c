//! ELF64 executables: from untrusted headers to a checked list of mappings. Pure; host-tested.
//!
//! Accepts static and dynamic ET_EXEC and ET_DYN images for x86_64 (System V gABI, chapters
//! 4 and 5). Refuses with ENOEXEC what Linux would load but no honest linker makes: segments
//! that are writable and executable, overlap, leave the user half or the file, and entry
//! points outside executable segments.

use alloc::vec::Vec;

use crate::abi::elf as e;
use crate::error::{Errno, Result};
use crate::mm::PAGE_SIZE;
use crate::mm::addr::{USER_END, USER_START};
use crate::vm::space::Prot;

/// Bytes of the file header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of one program header.
pub const PHDR_BYTES: usize = 56;
/// As Linux: program headers fit one 64 KiB read.
const MAX_PHDRS: usize = 65536 / PHDR_BYTES;
/// Longest interpreter path (PATH_MAX).
const MAX_INTERP: u64 = 4096;
const PAGE: u64 = PAGE_SIZE as u64;

/// What the file header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// ET_DYN: may be loaded anywhere.
    pub relocatable: bool,
    /// Entry point, before relocation.
    pub entry: u64,
    /// File offset of the program headers.
    pub phdr_offset: u64,
    /// How many there are.
    pub nr_phdrs: usize,
}

/// One run of pages to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First page, before relocation.
    pub start: u64,
    /// Past the last page.
    pub end: u64,
    /// Allowed accesses.
    pub prot: Prot,
    /// File offset of the first byte, page-aligned; `None` for zero pages.
    pub file_offset: Option<u64>,
}

/// A checked image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// See [`Header`].
    pub header: Header,
    /// In rising order, disjoint.
    pub mappings: Vec<Mapping>,
    /// Byte ranges to clear after mapping: the rest of a page that file bytes share with bss.
    pub zero: Vec<(u64, u64)>,
    /// First page of the image, before relocation.
    pub start: u64,
    /// Past the last byte of the image: where the heap may begin.
    pub end: u64,
    /// Largest segment alignment, at least a page.
    pub align: u64,
    /// Where the program headers lie in memory (AT_PHDR), if a segment covers them.
    pub phdr_addr: Option<u64>,
    /// File range of the interpreter's path.
    pub interp: Option<(u64, usize)>,
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    let mut v = [0; 2];
    v.copy_from_slice(&b[at..at + 2]);
    u16::from_le_bytes(v)
}
fn u32_at(b: &[u8], at: usize) -> u32 {
    let mut v = [0; 4];
    v.copy_from_slice(&b[at..at + 4]);
    u32::from_le_bytes(v)
}
fn u64_at(b: &[u8], at: usize) -> u64 {
    let mut v = [0; 8];
    v.copy_from_slice(&b[at..at + 8]);
    u64::from_le_bytes(v)
}

impl Header {
    /// Reads the file header from the first bytes of a file. ENOEXEC.
    pub fn parse(bytes: &[u8]) -> Result<Header> {
        let b = bytes.get(..HEADER_BYTES).ok_or(Errno::ENOEXEC)?;
        let kind = u32::from(u16_at(b, 16));
        let ok = b[..4] == *b"\x7fELF"
            && b[4] == 2 // ELFCLASS64
            && b[5] == 1 // ELFDATA2LSB
            && b[6] == 1 // EV_CURRENT
            && (kind == e::ET_EXEC || kind == e::ET_DYN)
            && u32::from(u16_at(b, 18)) == e::EM_X86_64
            && u16_at(b, 54) as usize == PHDR_BYTES;
        let nr_phdrs = u16_at(b, 56) as usize;
        if !ok || nr_phdrs == 0 || nr_phdrs > MAX_PHDRS {
            return Err(Errno::ENOEXEC);
        }
        Ok(Header {
            relocatable: kind == e::ET_DYN,
            entry: u64_at(b, 24),
            phdr_offset: u64_at(b, 32),
            nr_phdrs,
        })
    }
}

/// One PT_LOAD.
#[derive(Clone, Copy)]
struct Segment {
    vaddr: u64,
    offset: u64,
    filesz: u64,
    memsz: u64,
    prot: Prot,
}

const fn page_down(v: u64) -> u64 {
    v & !(PAGE - 1)
}
/// `v` is at most `USER_END`, so it cannot overflow.
const fn page_up(v: u64) -> u64 {
    (v + PAGE - 1) & !(PAGE - 1)
}

impl Segment {
    fn parse(p: &[u8], file_size: u64, relocatable: bool) -> Result<Segment> {
        let flags = u32_at(p, 4);
        let s = Segment {
            offset: u64_at(p, 8),
            vaddr: u64_at(p, 16),
            filesz: u64_at(p, 32),
            memsz: u64_at(p, 40),
            prot: prot(flags),
        };
        let align = u64_at(p, 48);
        let end = s.vaddr.checked_add(s.memsz).ok_or(Errno::ENOEXEC)?;
        let file_end = s.offset.checked_add(s.filesz).ok_or(Errno::ENOEXEC)?;
        let lowest = if relocatable { 0 } else { USER_START };
        let ok = s.filesz <= s.memsz
            && file_end <= file_size
            && end <= USER_END
            && s.vaddr >= lowest
            && s.vaddr % PAGE == s.offset % PAGE
            && (align == 0 || align.is_power_of_two())
            && !s.prot.contains(Prot::WRITE | Prot::EXEC);
        if ok { Ok(s) } else { Err(Errno::ENOEXEC) }
    }
    fn end(&self) -> u64 {
        self.vaddr + self.memsz
    }
    fn file_end(&self) -> u64 {
        self.vaddr + self.filesz
    }
}

fn prot(flags: u32) -> Prot {
    let mut prot = Prot::empty();
    if flags & 4 != 0 {
        prot |= Prot::READ;
    }
    if flags & 2 != 0 {
        prot |= Prot::WRITE;
    }
    if flags & 1 != 0 {
        prot |= Prot::EXEC;
    }
    prot
}

impl Image {
    /// Checks the program headers (`phdrs`: the bytes that `header` points to). ENOEXEC.
    pub fn parse(header: Header, phdrs: &[u8], file_size: u64) -> Result<Image> {
        let mut image = Image {
            header,
            mappings: Vec::new(),
            zero: Vec::new(),
            start: u64::MAX,
            end: 0,
            align: PAGE,
            phdr_addr: None,
            interp: None,
        };
        let mut last: Option<Segment> = None;
        let mut entry_ok = false;
        let mut explicit_phdr = None;
        for p in phdrs.chunks_exact(PHDR_BYTES).take(header.nr_phdrs) {
            match u32_at(p, 0) {
                e::PT_LOAD => {
                    let s = Segment::parse(p, file_size, header.relocatable)?;
                    if s.memsz == 0 {
                        continue;
                    }
                    if last.is_some_and(|l| s.vaddr < l.end()) {
                        return Err(Errno::ENOEXEC);
                    }
                    entry_ok |= s.prot.contains(Prot::EXEC)
                        && (s.vaddr..s.file_end()).contains(&header.entry);
                    image.note_phdrs(&s);
                    image.align = image.align.max(u64_at(p, 48));
                    image.add(&s, last.as_ref())?;
                    last = Some(s);
                }
                e::PT_INTERP if image.interp.is_none() => {
                    let (at, len) = (u64_at(p, 8), u64_at(p, 32));
                    let end = at.checked_add(len).ok_or(Errno::ENOEXEC)?;
                    if !(2..=MAX_INTERP).contains(&len) || end > file_size {
                        return Err(Errno::ENOEXEC);
                    }
                    image.interp = Some((at, len as usize));
                }
                e::PT_PHDR => explicit_phdr = Some(u64_at(p, 16)),
                _ => {}
            }
        }
        // A PT_PHDR that no segment covers would send the program to unmapped memory.
        if let Some(addr) = explicit_phdr
            && image
                .mappings
                .iter()
                .any(|m| (m.start..m.end).contains(&addr))
        {
            image.phdr_addr = Some(addr);
        }
        // The largest alignment asked for is bounded: the load address is rounded to it.
        if image.mappings.is_empty() || !entry_ok || image.align > 1 << 30 {
            return Err(Errno::ENOEXEC);
        }
        Ok(image)
    }

    /// Notes where the program headers lie if `s` loads them.
    fn note_phdrs(&mut self, s: &Segment) {
        let at = self.header.phdr_offset;
        let len = (self.header.nr_phdrs * PHDR_BYTES) as u64;
        if self.phdr_addr.is_none()
            && at >= s.offset
            && at - s.offset <= s.filesz
            && s.filesz - (at - s.offset) >= len
        {
            self.phdr_addr = Some(s.vaddr + (at - s.offset));
        }
    }

    fn add(&mut self, s: &Segment, last: Option<&Segment>) -> Result<()> {
        let mut start = page_down(s.vaddr);
        let end = page_up(s.end());
        let file_pages_end = if s.filesz == 0 {
            start
        } else {
            page_up(s.file_end())
        };
        let offset_of = |va: u64| s.offset.wrapping_sub(s.vaddr).wrapping_add(va);
        if let Some(l) = last
            && page_up(l.end()) > start
        {
            if s.filesz == 0 && l.prot == s.prot {
                // Only zeros follow in the page that is mapped already.
                self.zero.push((s.vaddr, (start + PAGE).min(s.end())));
            } else {
                self.share_page(l, s, start)?;
            }
            start += PAGE;
        }
        if start < file_pages_end {
            self.mappings.push(Mapping {
                start,
                end: file_pages_end,
                prot: s.prot,
                file_offset: Some(offset_of(start)),
            });
        }
        let anon = start.max(file_pages_end);
        if anon < end {
            self.mappings.push(Mapping {
                start: anon,
                end,
                prot: s.prot,
                file_offset: None,
            });
        }
        if s.memsz > s.filesz {
            let from = s.file_end();
            let to = page_up(from).min(end);
            // As Linux: the rest of a page that the program cannot write stays the file's.
            if s.filesz > 0 && from < to && s.prot.contains(Prot::WRITE) {
                self.zero.push((from, to));
            }
        }
        self.start = self.start.min(page_down(s.vaddr));
        self.end = self.end.max(s.end());
        Ok(())
    }

    /// Segments `l` and `s` both have bytes in page `page`: one file page must serve both,
    /// with the permissions of both, and never writable and executable.
    fn share_page(&mut self, l: &Segment, s: &Segment, page: u64) -> Result<()> {
        let prot = l.prot | s.prot;
        let same_bytes = s.filesz > 0
            && l.memsz == l.filesz
            && l.vaddr.wrapping_sub(l.offset) == s.vaddr.wrapping_sub(s.offset);
        if !same_bytes || prot.contains(Prot::WRITE | Prot::EXEC) {
            return Err(Errno::ENOEXEC);
        }
        let Some(m) = self.mappings.last_mut() else {
            return Err(Errno::ENOEXEC);
        };
        // The earlier segment's last page is this one: it moves to a mapping of its own.
        m.end = page;
        if m.start >= m.end {
            self.mappings.pop();
        }
        self.mappings.push(Mapping {
            start: page,
            end: page + PAGE,
            prot,
            file_offset: Some(s.offset - (s.vaddr - page)),
        });
        Ok(())
    }
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
