//! The block of physical memory that the kernel's world is built in: image, page tables,
//! stack, boot information. Handed out from the bottom up; nothing is given back.

/// A physically contiguous block, reachable as a slice.
pub struct Arena<'a> {
    phys: u64,
    memory: &'a mut [u8],
    used: usize,
}

/// A piece of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Physical address.
    pub phys: u64,
    /// Offset in the arena.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Piece {
    /// Physical address just past the piece.
    pub fn end(&self) -> u64 {
        self.phys + self.len as u64
    }
}

impl<'a> Arena<'a> {
    /// An arena over `memory`, which lies at physical address `phys`, page-aligned.
    pub fn new(phys: u64, memory: &'a mut [u8]) -> Self {
        debug_assert!(phys.is_multiple_of(crate::PAGE_SIZE));
        Arena {
            phys,
            memory,
            used: 0,
        }
    }

    /// The next `len` bytes, rounded up to whole pages; `None` when the arena is used up.
    /// The content is whatever was there.
    pub fn alloc(&mut self, len: usize) -> Option<Piece> {
        let rounded = len.checked_next_multiple_of(crate::PAGE_SIZE as usize)?;
        let end = self.used.checked_add(rounded)?;
        if end > self.memory.len() {
            return None;
        }
        let offset = self.used;
        self.used = end;
        Some(Piece {
            phys: self.phys + offset as u64,
            offset,
            len: rounded,
        })
    }

    /// As [`Arena::alloc`], filled with zeros.
    pub fn alloc_zeroed(&mut self, len: usize) -> Option<Piece> {
        let piece = self.alloc(len)?;
        self.bytes(piece).fill(0);
        Some(piece)
    }

    /// The bytes of a piece of this arena.
    pub fn bytes(&mut self, piece: Piece) -> &mut [u8] {
        &mut self.memory[piece.offset..piece.offset + piece.len]
    }

    /// The 64-bit word at physical address `phys`, which a piece of this arena holds.
    pub fn word(&mut self, phys: u64) -> Option<&mut [u8; 8]> {
        let offset = usize::try_from(phys.checked_sub(self.phys)?).ok()?;
        self.memory.get_mut(offset..)?.first_chunk_mut()
    }

    /// Physical range of what has been handed out.
    pub fn used(&self) -> core::ops::Range<u64> {
        self.phys..self.phys + self.used as u64
    }
}
