use super::*;
use std::cell::{Cell, RefCell};

/// Tables in ordinary memory; a table's address is its pointer.
#[derive(Default)]
struct HostMemory {
    live: RefCell<Vec<u64>>,
    limit: Cell<Option<usize>>,
}

#[repr(align(4096))]
struct HostTable(#[expect(dead_code, reason = "read through its address")] Table);

impl TableMemory for HostMemory {
    fn alloc_table(&self) -> Result<PhysAddr, OutOfMemory> {
        if self.limit.get() == Some(self.live.borrow().len()) {
            return Err(OutOfMemory);
        }
        let table = Box::leak(Box::new(HostTable([const { AtomicU64::new(0) }; ENTRIES])));
        let addr = (&raw const *table).addr() as u64;
        self.live.borrow_mut().push(addr);
        Ok(PhysAddr(addr))
    }
    unsafe fn free_table(&self, table: PhysAddr) {
        let mut live = self.live.borrow_mut();
        let at = live
            .iter()
            .position(|&t| t == table.0)
            .expect("a live table");
        live.swap_remove(at);
        // SAFETY: leaked in `alloc_table`, freed once.
        drop(unsafe { Box::from_raw(table.0 as *mut HostTable) });
    }
    unsafe fn table(&self, table: PhysAddr) -> &Table {
        assert!(self.live.borrow().contains(&table.0), "a dead table");
        // SAFETY: live, see above.
        unsafe { &*(table.0 as *const Table) }
    }
}

fn tree() -> PageTable<HostMemory> {
    PageTable::new(HostMemory::default()).unwrap()
}

const RW: PteFlags = PteFlags::PRESENT
    .union(PteFlags::WRITE)
    .union(PteFlags::USER)
    .union(PteFlags::NO_EXECUTE);

fn clear(mut t: PageTable<HostMemory>) -> usize {
    let mut released = 0;
    // SAFETY: no CPU walks a host tree.
    unsafe { t.clear_user_half(|_| released += 1) };
    assert_eq!(t.memory().live.borrow().len(), 1, "only the root is left");
    released
}

#[test]
fn map_get_unmap() {
    let mut t = tree();
    let va = 0x7fff_dead_b000;
    assert_eq!(t.get(va), Pte::EMPTY);
    t.map(va, Pte::new(PhysAddr(0x1234_5000), RW)).unwrap();
    assert_eq!(t.get(va).frame(), PhysAddr(0x1234_5000));
    assert!(t.get(va).has(PteFlags::WRITE));
    assert_eq!(t.translate(va + 0x123), Some(PhysAddr(0x1234_5123)));
    assert_eq!(
        t.map(va, Pte::new(PhysAddr(0x1000), RW)),
        Err(MapError::Occupied)
    );
    assert_eq!(t.unmap(va).frame(), PhysAddr(0x1234_5000));
    assert_eq!(t.unmap(va), Pte::EMPTY);
    assert_eq!(clear(t), 0);
}

#[test]
fn every_level_has_its_own_index() {
    let mut t = tree();
    let vas = [0x1000, 0x20_0000, 0x4000_0000, 0x80_0000_0000u64];
    for (i, &va) in vas.iter().enumerate() {
        t.map(va, Pte::new(PhysAddr((i as u64 + 1) << 12), RW))
            .unwrap();
    }
    for (i, &va) in vas.iter().enumerate() {
        assert_eq!(t.get(va).frame().0, (i as u64 + 1) << 12);
    }
    let mut seen = Vec::new();
    let end = t.for_each(0, 1 << 47, |va, _| {
        seen.push(va);
        true
    });
    assert_eq!(seen, vas);
    assert_eq!(end, 1 << 47);
    assert_eq!(clear(t), 4);
}

#[test]
fn for_each_stops_and_continues() {
    let mut t = tree();
    for page in 0..1024u64 {
        t.map(page << 12, Pte::new(PhysAddr(0x1000), RW)).unwrap();
    }
    let (mut n, mut at) = (0, 0);
    while at < 1024 << 12 {
        let mut batch = 0;
        at = t.for_each(at, 1024 << 12, |_, e| {
            e.store(0, Ordering::Relaxed);
            batch += 1;
            batch < 100
        });
        n += batch;
    }
    assert_eq!(n, 1024);
    assert!(t.detach_empty_leaf(0).is_some_and(|leaf| {
        // SAFETY: just detached.
        unsafe { t.memory().free_table(leaf) };
        true
    }));
    assert_eq!(t.detach_empty_leaf(0), None);
    assert_eq!(clear(t), 0);
}

#[test]
fn huge_pages_translate_and_block() {
    let mut t = tree();
    t.map_huge(0x4000_0000, Pte::new(PhysAddr(0x60_0000), RW))
        .unwrap();
    assert_eq!(t.translate(0x4012_3456), Some(PhysAddr(0x72_3456)));
    assert_eq!(
        t.map(0x4000_1000, Pte::new(PhysAddr(0x1000), RW)),
        Err(MapError::Occupied)
    );
    assert_eq!(clear(t), 0);
}

#[test]
fn kernel_half_is_shared() {
    let mut kernel = tree();
    let va = 0xffff_c000_0000_0000u64;
    let pte = Pte::kernel(
        PhysAddr(0x5000),
        KernelAccess::ReadWrite,
        Caching::WriteBack,
    );
    assert!(pte.has(PteFlags::NO_EXECUTE));
    assert_eq!(kernel.map(va, pte), Err(MapError::NotShared));
    kernel.share_kernel_slots(384..385).unwrap();
    let kernel_root = kernel.root();
    // SAFETY: a second view of the same host tree, used one at a time.
    let mut space =
        unsafe { PageTable::from_root(kernel.memory().alloc_table().unwrap(), &kernel) };
    // SAFETY: the kernel's root in the same memory.
    unsafe { space.adopt_kernel_half(kernel_root) };
    let root = space.root();
    let _ = space;
    kernel.map(va, pte).unwrap();
    // SAFETY: as above.
    let space = unsafe { PageTable::from_root(root, &kernel) };
    assert_eq!(space.get(va), pte);
}

/// A tree's memory, borrowed by a second tree.
impl TableMemory for &PageTable<HostMemory> {
    fn alloc_table(&self) -> Result<PhysAddr, OutOfMemory> {
        self.memory().alloc_table()
    }
    unsafe fn free_table(&self, table: PhysAddr) {
        // SAFETY: the caller's.
        unsafe { self.memory().free_table(table) }
    }
    unsafe fn table(&self, table: PhysAddr) -> &Table {
        // SAFETY: the caller's.
        unsafe { self.memory().table(table) }
    }
}

#[test]
fn out_of_memory_leaves_a_usable_tree() {
    let mut t = tree();
    t.memory().limit.set(Some(3));
    assert_eq!(
        t.map(0x1000, Pte::new(PhysAddr(0x1000), RW)),
        Err(MapError::OutOfMemory)
    );
    t.memory().limit.set(None);
    t.map(0x1000, Pte::new(PhysAddr(0x1000), RW)).unwrap();
    assert_eq!(clear(t), 1);
}
