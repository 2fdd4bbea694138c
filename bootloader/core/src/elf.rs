//! Validates the kernel's ELF file, places it and relocates it (ELF-64 object file format
//! 1.5; System V ABI, AMD64 supplement, 4.4).
//!
//! A kernel is a position-independent executable for x86_64 without an interpreter, whose
//! loadable segments ascend, share no page, and are never both writable and executable; the
//! only relocations are `R_X86_64_RELATIVE`.

use crate::{PAGE_SIZE, align_down, align_up};
use core::fmt;
use core::ops::Range;
use object::LittleEndian as LE;
use object::elf::{self, Dyn64, FileHeader64, ProgramHeader64, Rela64};
use object::pod::{slice_from_all_bytes, slice_from_bytes};

/// Most loadable segments a kernel may have.
const MAX_SEGMENTS: usize = 16;
/// Table of packed relative relocations (gABI 4.3), which `object` does not name.
const DT_RELR: u32 = 36;
/// Longest kernel image in memory: what fits beside the stack in the image's half of the
/// top 2 GiB with plenty to spare.
pub const MAX_IMAGE: u64 = 256 << 20;

/// Why a file is not a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// Shorter than an ELF header.
    TooShort,
    /// Does not start with the ELF magic.
    BadMagic,
    /// Not 64-bit, little-endian, version 1.
    NotElf64,
    /// Made for another machine; holds `e_machine`.
    WrongMachine(u16),
    /// Not a position-independent executable; holds `e_type`.
    NotPie(u16),
    /// The program header table does not lie in the file.
    BadProgramHeaders,
    /// Wants a dynamic linker.
    Interpreter,
    /// No loadable segment.
    NoSegments,
    /// More loadable segments than the loader takes.
    TooManySegments,
    /// A segment's bytes do not lie in the file.
    SegmentOutsideFile,
    /// A segment has more bytes in the file than in memory.
    SegmentSize,
    /// A segment's address or alignment is out of range.
    SegmentAddress,
    /// Segments overlap, share a page, or do not ascend.
    SegmentsOverlap,
    /// A segment is both writable and executable.
    WritableCode,
    /// The entry point does not lie in an executable segment.
    BadEntry,
    /// The dynamic section is malformed.
    BadDynamic,
    /// A relocation of a type that a kernel must not need; holds the type.
    UnsupportedRelocation(u32),
    /// A relocation outside every segment.
    RelocationOutside,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            ElfError::TooShort => "shorter than an ELF header",
            ElfError::BadMagic => "not an ELF file",
            ElfError::NotElf64 => "not a 64-bit little-endian ELF file",
            ElfError::WrongMachine(m) => return write!(f, "made for another machine ({m:#x})"),
            ElfError::NotPie(t) => {
                return write!(f, "not a position-independent executable (type {t})");
            }
            ElfError::BadProgramHeaders => "malformed program headers",
            ElfError::Interpreter => "wants a dynamic linker",
            ElfError::NoSegments => "nothing to load",
            ElfError::TooManySegments => "too many segments",
            ElfError::SegmentOutsideFile => "a segment reaches past the end of the file",
            ElfError::SegmentSize => "a segment is larger in the file than in memory",
            ElfError::SegmentAddress => "a segment's address is out of range",
            ElfError::SegmentsOverlap => "segments overlap or share a page",
            ElfError::WritableCode => "a segment is both writable and executable",
            ElfError::BadEntry => "the entry point is not in executable code",
            ElfError::BadDynamic => "malformed dynamic section",
            ElfError::UnsupportedRelocation(t) => {
                return write!(f, "unsupported relocation type {t}");
            }
            ElfError::RelocationOutside => "a relocation lies outside every segment",
        };
        f.write_str(text)
    }
}

/// What may be done with a range of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Read and execute.
    Execute,
    /// Read and write.
    Write,
}

#[derive(Clone, Copy, Debug)]
struct Segment<'a> {
    content: &'a [u8],
    vaddr: u64,
    mem_len: u64,
    access: Access,
}

impl Segment<'_> {
    fn end(&self) -> u64 {
        self.vaddr + self.mem_len
    }
}

/// A validated kernel file. Addresses are the file's own; the image's first byte is the
/// page that holds the lowest one.
#[derive(Debug)]
pub struct Kernel<'a> {
    segments: [Option<Segment<'a>>; MAX_SEGMENTS],
    relocations: &'a [Rela64<LE>],
    relro: Range<u64>,
    entry: u64,
}

impl<'a> Kernel<'a> {
    /// Validates `file`.
    pub fn parse(file: &'a [u8]) -> Result<Self, ElfError> {
        if file.len() < 4 || file[..4] != elf::ELFMAG {
            return Err(
                if file.len() < size_of::<FileHeader64<LE>>()
                    && !file.starts_with(&elf::ELFMAG[..1])
                {
                    ElfError::TooShort
                } else {
                    ElfError::BadMagic
                },
            );
        }
        let (header, _) =
            object::pod::from_bytes::<FileHeader64<LE>>(file).map_err(|()| ElfError::TooShort)?;
        let ident = &header.e_ident;
        if ident.class != elf::ELFCLASS64
            || ident.data != elf::ELFDATA2LSB
            || ident.version != elf::EV_CURRENT
        {
            return Err(ElfError::NotElf64);
        }
        if header.e_machine.get(LE) != elf::EM_X86_64 {
            return Err(ElfError::WrongMachine(header.e_machine.get(LE)));
        }
        if header.e_type.get(LE) != elf::ET_DYN {
            return Err(ElfError::NotPie(header.e_type.get(LE)));
        }
        if usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader64<LE>>() {
            return Err(ElfError::BadProgramHeaders);
        }
        let headers = usize::try_from(header.e_phoff.get(LE))
            .ok()
            .and_then(|at| file.get(at..))
            .and_then(|bytes| {
                slice_from_bytes::<ProgramHeader64<LE>>(bytes, header.e_phnum.get(LE).into()).ok()
            })
            .ok_or(ElfError::BadProgramHeaders)?
            .0;

        let mut kernel = Kernel {
            segments: [None; MAX_SEGMENTS],
            relocations: &[],
            relro: 0..0,
            entry: header.e_entry.get(LE),
        };
        let mut nr_segments = 0;
        for ph in headers {
            match ph.p_type.get(LE) {
                elf::PT_INTERP => return Err(ElfError::Interpreter),
                elf::PT_LOAD if ph.p_memsz.get(LE) > 0 => {
                    let slot = kernel
                        .segments
                        .get_mut(nr_segments)
                        .ok_or(ElfError::TooManySegments)?;
                    *slot = Some(segment(file, ph)?);
                    nr_segments += 1;
                }
                _ => {}
            }
        }
        if nr_segments == 0 {
            return Err(ElfError::NoSegments);
        }
        kernel.check_layout()?;
        for ph in headers {
            match ph.p_type.get(LE) {
                elf::PT_DYNAMIC => kernel.relocations = kernel.find_relocations(ph)?,
                elf::PT_GNU_RELRO => kernel.relro = kernel.check_relro(ph)?,
                _ => {}
            }
        }
        Ok(kernel)
    }

    fn segments(&self) -> impl Iterator<Item = &Segment<'a>> {
        self.segments.iter().flatten()
    }

    fn check_layout(&self) -> Result<(), ElfError> {
        let mut floor = 0;
        for s in self.segments() {
            if align_down(s.vaddr, PAGE_SIZE) < floor {
                return Err(ElfError::SegmentsOverlap);
            }
            floor = align_up(s.end(), PAGE_SIZE);
        }
        let in_code =
            |s: &Segment| s.access == Access::Execute && (s.vaddr..s.end()).contains(&self.entry);
        if !self.segments().any(in_code) {
            return Err(ElfError::BadEntry);
        }
        Ok(())
    }

    /// The range that is read-only once relocated, shrunk to whole pages: the linker pads
    /// it to a page boundary.
    fn check_relro(&self, ph: &ProgramHeader64<LE>) -> Result<Range<u64>, ElfError> {
        let start = ph.p_vaddr.get(LE);
        let end = start
            .checked_add(ph.p_memsz.get(LE))
            .ok_or(ElfError::SegmentAddress)?;
        // Nothing else is on the first page when a segment starts there.
        let first = if self.segments().any(|s| s.vaddr == start) {
            align_down(start, PAGE_SIZE)
        } else {
            align_up(start, PAGE_SIZE)
        };
        Ok(first..align_down(end, PAGE_SIZE))
    }

    /// The bytes at `vaddr` as the file has them.
    fn content_at(&self, vaddr: u64, len: u64) -> Option<&'a [u8]> {
        self.segments().find_map(|s| {
            let start = usize::try_from(vaddr.checked_sub(s.vaddr)?).ok()?;
            let end = start.checked_add(usize::try_from(len).ok()?)?;
            s.content.get(start..end)
        })
    }

    fn find_relocations(&self, ph: &ProgramHeader64<LE>) -> Result<&'a [Rela64<LE>], ElfError> {
        let bytes = self
            .content_at(ph.p_vaddr.get(LE), ph.p_filesz.get(LE))
            .ok_or(ElfError::BadDynamic)?;
        let entries = bytes.len() / size_of::<Dyn64<LE>>();
        let (entries, _) =
            slice_from_bytes::<Dyn64<LE>>(bytes, entries).map_err(|()| ElfError::BadDynamic)?;
        let (mut table, mut len, mut entry_len) = (0, 0, size_of::<Rela64<LE>>() as u64);
        for entry in entries {
            let value = entry.d_val.get(LE);
            match i64::try_from(entry.d_tag.get(LE)).unwrap_or(-1) as u32 {
                elf::DT_NULL => break,
                elf::DT_RELA => table = value,
                elf::DT_RELASZ => len = value,
                elf::DT_RELAENT => entry_len = value,
                // Other kinds of relocation, or libraries: nothing a kernel has.
                elf::DT_REL | elf::DT_JMPREL | DT_RELR | elf::DT_NEEDED => {
                    return Err(ElfError::BadDynamic);
                }
                _ => {}
            }
        }
        if len == 0 {
            return Ok(&[]);
        }
        if entry_len != size_of::<Rela64<LE>>() as u64 {
            return Err(ElfError::BadDynamic);
        }
        let bytes = self.content_at(table, len).ok_or(ElfError::BadDynamic)?;
        let relocations =
            slice_from_all_bytes::<Rela64<LE>>(bytes).map_err(|()| ElfError::BadDynamic)?;
        self.check_relocations(relocations)?;
        Ok(relocations)
    }

    fn check_relocations(&self, relocations: &[Rela64<LE>]) -> Result<(), ElfError> {
        // Relocations come sorted: the segment of the last one nearly always holds the next.
        let mut last = 0..0;
        for r in relocations {
            let kind = r.r_type(LE, false);
            if kind != elf::R_X86_64_RELATIVE {
                return Err(ElfError::UnsupportedRelocation(kind));
            }
            let start = r.r_offset.get(LE);
            let end = start.checked_add(8).ok_or(ElfError::RelocationOutside)?;
            if last.start <= start && end <= last.end {
                continue;
            }
            let segment = self
                .segments()
                .find(|s| s.vaddr <= start && end <= s.end())
                .ok_or(ElfError::RelocationOutside)?;
            last = segment.vaddr..segment.end();
        }
        Ok(())
    }

    /// The page-aligned range of addresses the image covers.
    pub fn span(&self) -> Range<u64> {
        let start = self
            .segments()
            .next()
            .map_or(0, |s| align_down(s.vaddr, PAGE_SIZE));
        let end = self
            .segments()
            .last()
            .map_or(0, |s| align_up(s.end(), PAGE_SIZE));
        start..end
    }

    /// The entry point.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// Writes the image into `image`, `span()` bytes long, relocated by `slide`: what is at
    /// address `a` of the file will run at `a + slide`.
    pub fn place(&self, image: &mut [u8], slide: u64) {
        let base = self.span().start;
        // Checked by `parse`: segments ascend and lie in the span.
        let mut filled = 0;
        for s in self.segments() {
            let start = (s.vaddr - base) as usize;
            let end = start + s.content.len();
            image[filled..start].fill(0);
            image[start..end].copy_from_slice(s.content);
            filled = end;
        }
        image[filled..].fill(0);
        for r in self.relocations {
            let at = (r.r_offset.get(LE) - base) as usize;
            let value = slide.wrapping_add_signed(r.r_addend.get(LE));
            image[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
    }

    /// The page-aligned ranges of the image with what may be done with each; pages between
    /// segments belong to none.
    pub fn ranges(&self) -> impl Iterator<Item = (Range<u64>, Access)> {
        let relro = self.relro.clone();
        self.segments().flat_map(move |s| {
            let (start, end) = (align_down(s.vaddr, PAGE_SIZE), align_up(s.end(), PAGE_SIZE));
            let (a, b) = if s.access == Access::Write && relro.start < relro.end {
                (relro.start.clamp(start, end), relro.end.clamp(start, end))
            } else {
                (start, start)
            };
            [
                (start..a, s.access),
                (a..b, Access::Read),
                (b..end, s.access),
            ]
            .into_iter()
            .filter(|(range, _)| !range.is_empty())
        })
    }
}

fn segment<'a>(file: &'a [u8], ph: &ProgramHeader64<LE>) -> Result<Segment<'a>, ElfError> {
    let (offset, file_len, mem_len) =
        (ph.p_offset.get(LE), ph.p_filesz.get(LE), ph.p_memsz.get(LE));
    let end = offset
        .checked_add(file_len)
        .ok_or(ElfError::SegmentOutsideFile)?;
    let content = usize::try_from(offset)
        .ok()
        .zip(usize::try_from(end).ok())
        .and_then(|(start, end)| file.get(start..end))
        .ok_or(ElfError::SegmentOutsideFile)?;
    if file_len > mem_len {
        return Err(ElfError::SegmentSize);
    }
    let vaddr = ph.p_vaddr.get(LE);
    if vaddr.checked_add(mem_len).is_none_or(|end| end > MAX_IMAGE) || ph.p_align.get(LE) > 2 << 20
    {
        return Err(ElfError::SegmentAddress);
    }
    let flags = ph.p_flags.get(LE);
    let access = match (flags & elf::PF_W != 0, flags & elf::PF_X != 0) {
        (false, false) => Access::Read,
        (false, true) => Access::Execute,
        (true, false) => Access::Write,
        (true, true) => return Err(ElfError::WritableCode),
    };
    Ok(Segment {
        content,
        vaddr,
        mem_len,
        access,
    })
}

#[cfg(test)]
#[path = "elf_tests.rs"]
pub mod tests;
