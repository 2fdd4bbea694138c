//! Typed addresses.

use core::fmt;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// First address above the user half that programs may use (one guard page below the
/// canonical boundary, as on Linux).
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
/// Lowest address a program may map (man 5 proc, vm/mmap_min_addr).
pub const USER_START: u64 = 0x1_0000;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The address as a number.
            pub const fn as_u64(self) -> u64 { self.0 }
            /// The address as a number.
            pub const fn as_usize(self) -> usize { self.0 as usize }
            /// Start of the page the address lies in.
            pub const fn page_down(self) -> Self { Self(self.0 & !(PAGE_SIZE as u64 - 1)) }
            /// Start of the first page at or after the address; `None` past the end.
            pub const fn page_up(self) -> Option<Self> {
                match self.0.checked_add(PAGE_SIZE as u64 - 1) {
                    Some(v) => Some(Self(v & !(PAGE_SIZE as u64 - 1))),
                    None => None,
                }
            }
            /// Distance into its page.
            pub const fn page_offset(self) -> usize { (self.0 & (PAGE_SIZE as u64 - 1)) as usize }
            /// Whether the address is a page's first byte.
            pub const fn is_page_aligned(self) -> bool { self.page_offset() == 0 }
            /// The address `bytes` further; `None` past the end.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) { Some(v) => Some(Self(v)), None => None }
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:#x}", self.0) }
        }
        impl core::ops::Add<u64> for $name {
            type Output = Self;
            fn add(self, bytes: u64) -> Self { Self(self.0.wrapping_add(bytes)) }
        }
    };
}

address!(
    /// A physical address.
    PhysAddr
);
address!(
    /// A kernel virtual address.
    VirtAddr
);
address!(
    /// An address a program named: an allegation. Only `vm::user` follows it.
    UserAddr
);

impl PhysAddr {
    /// Where the direct map shows this address.
    pub const fn to_virt(self) -> VirtAddr {
        VirtAddr(oxbow_handover::DIRECT_MAP_BASE.wrapping_add(self.0))
    }
    /// The direct map's pointer to this address; follow it only for memory the caller owns.
    pub const fn as_mut_ptr<T>(self) -> *mut T {
        self.to_virt().0 as *mut T
    }
}

impl VirtAddr {
    /// The physical address behind an address in the direct map.
    pub const fn direct_map_to_phys(self) -> PhysAddr {
        PhysAddr(self.0.wrapping_sub(oxbow_handover::DIRECT_MAP_BASE))
    }
}
