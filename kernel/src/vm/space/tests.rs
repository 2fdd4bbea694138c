use super::*;
use crate::error::Errno;
use crate::vm::page_cache::tests::{FakeFile, reclaiming, undisturbed};

const RW: Prot = Prot::READ.union(Prot::WRITE);

struct Name;
impl MappedFile for Name {
    fn path(&self) -> Vec<u8> {
        b"/fake".to_vec()
    }
    fn id(&self) -> (u64, u64) {
        (1, 2)
    }
}

fn anonymous(space: &AddressSpace, pages: usize) -> UserAddr {
    space
        .map(
            Placement::Hint(UserAddr(0)),
            pages * PAGE_SIZE,
            RW,
            false,
            Backing::Anonymous,
        )
        .unwrap()
}

fn file(cache: &Arc<PageCache>) -> Backing {
    Backing::File {
        cache: cache.clone(),
        offset: 0,
        name: Arc::new(Name),
    }
}

fn peek(space: &AddressSpace, at: UserAddr) -> u8 {
    let mut byte = [0];
    space.read_remote(at, &mut byte).unwrap();
    byte[0]
}

fn poke(space: &AddressSpace, at: UserAddr, byte: u8) {
    space.write_remote(at, &[byte]).unwrap();
}

#[test]
fn anonymous_memory_is_zero_then_what_was_written() {
    crate::vm::fault::prepare_zero_page().unwrap();
    let space = AddressSpace::new().unwrap();
    let at = anonymous(&space, 4);
    assert_eq!(peek(&space, at), 0);
    poke(&space, at + 5000, 7);
    assert_eq!((peek(&space, at + 5000), peek(&space, at + 5001)), (7, 0));
    assert_eq!(space.resident_bytes(), PAGE, "reading costs no frame");
    space.unmap(at, 4 * PAGE_SIZE).unwrap();
    assert_eq!(space.resident_bytes(), 0);
    let mut byte = [0];
    assert_eq!(space.read_remote(at, &mut byte), Err(Errno::EFAULT));
    let before = space.table.lock().nr_tables();
    let at = anonymous(&space, 2048);
    poke(&space, at, 1);
    poke(&space, at + 1024 * PAGE, 1);
    space.unmap(at, 2048 * PAGE_SIZE).unwrap();
    assert!(
        space.table.lock().nr_tables() <= before + 2,
        "tables in the middle go"
    );
}

#[test]
fn filling_memory_in_order_takes_few_faults() {
    let space = AddressSpace::new().unwrap();
    let at = anonymous(&space, 256);
    let mut faults = 0;
    for page in 0..256 {
        let va = at + page * PAGE;
        if !space.table.lock().get(va.0).is_present() {
            faults += 1;
            space.handle_fault(va, Access::Write).unwrap();
        }
    }
    assert!(faults < 40, "{faults}");
    assert_eq!(space.resident_bytes(), 256 * PAGE, "never past the end");
    let other = anonymous(&space, 64);
    poke(&space, other + 20 * PAGE, 1);
    poke(&space, other + 10 * PAGE, 1);
    assert_eq!(space.resident_bytes(), 258 * PAGE, "no order, no extra");
}

#[test]
fn fork_shares_until_one_side_writes() {
    let parent = AddressSpace::new().unwrap();
    let at = anonymous(&parent, 3);
    poke(&parent, at, 1);
    poke(&parent, at + PAGE, 2);
    let child = parent.fork().unwrap();
    assert_eq!((peek(&child, at), peek(&child, at + PAGE)), (1, 2));
    poke(&child, at, 10);
    poke(&parent, at + PAGE, 20);
    assert_eq!((peek(&parent, at), peek(&child, at)), (1, 10));
    assert_eq!((peek(&parent, at + PAGE), peek(&child, at + PAGE)), (20, 2));
    let frame = parent.table.lock().get(at.0).frame();
    drop(child);
    poke(&parent, at, 3);
    assert_eq!(
        parent.table.lock().get(at.0).frame(),
        frame,
        "the last sharer keeps the page"
    );
}

#[test]
fn shared_anonymous_memory_stays_shared_over_fork() {
    let parent = AddressSpace::new().unwrap();
    let at = parent
        .map(
            Placement::Hint(UserAddr(0)),
            2 * PAGE_SIZE,
            RW,
            true,
            Backing::Anonymous,
        )
        .unwrap();
    let child = parent.fork().unwrap();
    poke(&parent, at + 1, 5);
    assert_eq!(peek(&child, at + 1), 5);
    poke(&child, at + 1, 6);
    assert_eq!(peek(&parent, at + 1), 6);
    let id = parent.shared_identity(at + 1).unwrap();
    assert_eq!(id, child.shared_identity(at + 1).unwrap());
    assert_eq!(id.unwrap().1, 1);
}

#[test]
fn private_file_mappings_leave_the_file_alone() {
    let _guard = undisturbed();
    let fake = FakeFile::new(&[3; 3 * PAGE_SIZE]);
    let cache = fake.cache();
    let space = AddressSpace::new().unwrap();
    let at = space
        .map(
            Placement::Hint(UserAddr(0)),
            4 * PAGE_SIZE,
            RW,
            false,
            file(&cache),
        )
        .unwrap();
    assert_eq!(peek(&space, at + PAGE), 3);
    assert_eq!(
        space.resident_bytes(),
        3 * PAGE,
        "cached neighbours come along"
    );
    poke(&space, at + PAGE, 9);
    poke(&space, at + 2 * PAGE, 9);
    assert_eq!(peek(&space, at + PAGE), 9);
    assert_eq!(peek(&space, at + PAGE + 1), 3);
    assert_eq!(stats_of(&cache), 0, "nothing dirty");
    assert_eq!(
        space.handle_fault(at + 3 * PAGE, Access::Read),
        Err(FaultError::Bus),
        "past the end"
    );
}

fn stats_of(cache: &PageCache) -> usize {
    cache.nr_dirty()
}

#[test]
fn shared_file_mappings_are_tracked_and_written_back() {
    let _guard = undisturbed();
    let fake = FakeFile::new(&[0; 4 * PAGE_SIZE]);
    let cache = fake.cache();
    let space = AddressSpace::new().unwrap();
    let at = space
        .map(
            Placement::Hint(UserAddr(0)),
            4 * PAGE_SIZE,
            RW,
            true,
            file(&cache),
        )
        .unwrap();
    assert_eq!(peek(&space, at), 0);
    assert_eq!(stats_of(&cache), 0);
    poke(&space, at + PAGE, 1);
    assert_eq!(stats_of(&cache), 1);
    assert!(
        !space
            .table
            .lock()
            .get(at.0)
            .has(crate::mm::page_table::PteFlags::WRITE)
    );
    // Coherent with read and write.
    let mut byte = [0];
    let mut dst = crate::vm::IoDest::kernel(&mut byte);
    let ahead = crate::vm::Readahead::new();
    cache.read_at(&ahead, PAGE, u64::MAX, &mut dst).unwrap();
    assert_eq!(byte, [1]);
    cache
        .write_at(PAGE + 1, &mut crate::vm::IoSource::kernel(&[2]))
        .unwrap();
    assert_eq!(peek(&space, at + PAGE + 1), 2);

    space.sync(at, 4 * PAGE_SIZE, true, false).unwrap();
    assert_eq!(fake.content.lock().unwrap()[PAGE_SIZE..][..2], [1, 2]);
    assert_eq!(stats_of(&cache), 0);
    let pte = space.table.lock().get((at + PAGE).0);
    assert!(
        !pte.has(crate::mm::page_table::PteFlags::WRITE),
        "protected again"
    );
    poke(&space, at + PAGE, 4);
    assert_eq!(stats_of(&cache), 1);
}

#[test]
fn truncation_takes_pages_out_of_mappings() {
    let _guard = undisturbed();
    let fake = FakeFile::new(&[7; 4 * PAGE_SIZE]);
    let cache = fake.cache();
    let space = AddressSpace::new().unwrap();
    let at = space
        .map(
            Placement::Hint(UserAddr(0)),
            4 * PAGE_SIZE,
            RW,
            true,
            file(&cache),
        )
        .unwrap();
    for page in 0..4 {
        poke(&space, at + page * PAGE, 8);
    }
    fake.size.store(PAGE + 10, Ordering::Release);
    cache.truncate(PAGE + 10);
    assert_eq!(space.resident_bytes(), 2 * PAGE);
    assert_eq!(peek(&space, at + PAGE), 8);
    assert_eq!(peek(&space, at + PAGE + 10), 0);
    assert_eq!(
        space.handle_fault(at + 2 * PAGE, Access::Write),
        Err(FaultError::Bus)
    );
}

#[test]
fn reclaim_unmaps_clean_pages() {
    let _guard = reclaiming();
    let fake = FakeFile::new(&[7; 8 * PAGE_SIZE]);
    let cache = fake.cache();
    let space = AddressSpace::new().unwrap();
    let at = space
        .map(
            Placement::Hint(UserAddr(0)),
            8 * PAGE_SIZE,
            Prot::READ,
            false,
            file(&cache),
        )
        .unwrap();
    peek(&space, at);
    // Other tests' caches are under the same clock hand.
    for _ in 0..100 {
        crate::vm::reclaim(1000);
    }
    assert_eq!((cache.nr_pages(), space.resident_bytes()), (0, 0));
    assert_eq!(peek(&space, at + 3 * PAGE), 7);
    space.lock(at, 8 * PAGE_SIZE, LockMode::Now, false).unwrap();
    for _ in 0..100 {
        crate::vm::reclaim(1000);
    }
    assert_eq!(space.resident_bytes(), 8 * PAGE, "locked pages stay");
}

#[test]
fn protection_is_enforced_and_comes_back() {
    let space = AddressSpace::new().unwrap();
    let at = anonymous(&space, 3);
    poke(&space, at + PAGE, 1);
    let middle = at + PAGE;
    space.protect(middle, PAGE_SIZE, Prot::READ).unwrap();
    assert_eq!(
        space.handle_fault(middle, Access::Write),
        Err(FaultError::Forbidden)
    );
    assert_eq!(peek(&space, middle), 1);
    space.protect(middle, PAGE_SIZE, Prot::empty()).unwrap();
    assert_eq!(
        space.handle_fault(middle, Access::Read),
        Err(FaultError::Forbidden)
    );
    assert!(!space.table.lock().get(middle.0).is_present());
    space.protect(middle, PAGE_SIZE, RW).unwrap();
    assert_eq!(peek(&space, middle), 1);
    poke(&space, middle, 2);
    assert_eq!(space.layout.read().areas.count(), 1);
    assert_eq!(
        space.protect(at, 5 * PAGE_SIZE, RW),
        Err(Errno::ENOMEM),
        "a hole"
    );
}

#[test]
fn remapping_takes_the_pages_along() {
    let space = AddressSpace::new().unwrap();
    let at = anonymous(&space, 4);
    for page in 0..4 {
        poke(&space, at + page * PAGE, page as u8 + 1);
    }
    // Something in the way above.
    space
        .map(
            Placement::FixedNoReplace(at + 4 * PAGE),
            PAGE_SIZE,
            Prot::READ,
            false,
            Backing::Anonymous,
        )
        .or_else(|e| if e == Errno::EEXIST { Ok(at) } else { Err(e) })
        .unwrap();
    assert_eq!(
        space.remap(at, 4 * PAGE_SIZE, 8 * PAGE_SIZE, RemapTarget::InPlace),
        Err(Errno::ENOMEM)
    );
    let new = space
        .remap(at, 4 * PAGE_SIZE, 8 * PAGE_SIZE, RemapTarget::MayMove)
        .unwrap();
    assert_ne!(new, at);
    for page in 0..4 {
        assert_eq!(peek(&space, new + page * PAGE), page as u8 + 1);
    }
    assert_eq!(peek(&space, new + 7 * PAGE), 0);
    assert!(space.layout.read().areas.is_free(at.0, at.0 + 4 * PAGE));
    space
        .remap(new, 8 * PAGE_SIZE, PAGE_SIZE, RemapTarget::InPlace)
        .unwrap();
    assert_eq!(space.resident_bytes(), PAGE);
}

#[test]
fn fixed_mappings_replace_and_noreplace_refuses() {
    let space = AddressSpace::new().unwrap();
    let at = anonymous(&space, 4);
    poke(&space, at + PAGE, 9);
    let place = |p| space.map(p, PAGE_SIZE, RW, false, Backing::Anonymous);
    assert_eq!(
        place(Placement::FixedNoReplace(at + PAGE)),
        Err(Errno::EEXIST)
    );
    assert_eq!(place(Placement::Fixed(at + PAGE)), Ok(at + PAGE));
    assert_eq!(peek(&space, at + PAGE), 0);
    assert_eq!(place(Placement::Fixed(at + 1)), Err(Errno::EINVAL));
    assert_eq!(place(Placement::Fixed(UserAddr(0))), Err(Errno::EPERM));
    assert_eq!(
        place(Placement::Fixed(UserAddr(USER_END))),
        Err(Errno::ENOMEM)
    );
    let huge = 1usize << 46;
    assert_eq!(
        space.map(
            Placement::Hint(UserAddr(0)),
            huge,
            RW,
            false,
            Backing::Anonymous
        ),
        Err(Errno::ENOMEM),
        "more than memory"
    );
    let reserved = space.map(
        Placement::Hint(UserAddr(0)),
        huge,
        Prot::empty(),
        false,
        Backing::Anonymous,
    );
    assert!(reserved.is_ok(), "addresses alone cost nothing");
}

#[test]
fn a_stack_limit_of_nearly_everything_is_no_small_one() {
    for (limit, len) in [(0, PAGE), (u64::MAX - 1, 32 * PAGE), (u64::MAX, 32 * PAGE)] {
        let space = AddressSpace::new().unwrap();
        space.set_limits(SpaceLimits {
            stack: limit,
            ..space.limits()
        });
        let top = space.map_stack().unwrap();
        let mut mapped = 0;
        space.for_each_vma(|area| {
            assert_eq!(area.end, top.0);
            mapped = area.end - area.start;
        });
        assert_eq!(mapped, len, "limit {limit:#x}");
    }
}

#[test]
fn the_stack_grows_to_its_limit() {
    let space = AddressSpace::new().unwrap();
    let top = space.map_stack().unwrap();
    let at = |below: u64| UserAddr(top.0 - below);
    poke(&space, at(8), 1);
    poke(&space, at(4 << 20), 2);
    assert_eq!(peek(&space, at(4 << 20)), 2);
    assert_eq!(
        space.handle_fault(at((8 << 20) + 1), Access::Write),
        Err(FaultError::NotMapped)
    );
    assert!(space.handle_fault(at(8 << 20), Access::Write).is_ok());
    // A mapping close below stops it.
    let other = AddressSpace::new().unwrap();
    let top = other.map_stack().unwrap();
    let near = UserAddr(top.0 - (2 << 20));
    other
        .map(
            Placement::Fixed(near),
            PAGE_SIZE,
            RW,
            false,
            Backing::Anonymous,
        )
        .unwrap();
    assert_eq!(
        other.handle_fault(near + PAGE, Access::Write),
        Err(FaultError::NotMapped)
    );
}

#[test]
fn the_heap_grows_and_shrinks() {
    let space = AddressSpace::new().unwrap();
    space.set_brk_base(UserAddr(0x40_0123));
    let start = space.brk(UserAddr(0));
    assert!(start.0 >= 0x40_1000);
    let end = start + 10_000;
    assert_eq!(space.brk(end), end);
    poke(&space, end + 100, 1);
    assert_eq!(space.brk(start + 1), start + 1);
    assert_eq!(space.usage().virtual_bytes, PAGE);
    assert_eq!(space.brk(UserAddr(start.0 - 1)), start + 1);
    assert_eq!(space.brk(end), end);
    assert_eq!(peek(&space, end), 0, "fresh pages");
}

#[test]
fn advice_that_does_something_does_it() {
    let space = AddressSpace::new().unwrap();
    let at = anonymous(&space, 4);
    space
        .advise(at, 4 * PAGE_SIZE, Advice::Populate { write: true })
        .unwrap();
    assert_eq!(space.resident_bytes(), 4 * PAGE);
    poke(&space, at, 1);
    assert_eq!(space.in_core(at, 4 * PAGE_SIZE).unwrap(), [true; 4]);
    space.advise(at, PAGE_SIZE, Advice::DontNeed).unwrap();
    assert_eq!(peek(&space, at), 0);
    let wipe = Advice::Flag(VmaFlags::WIPE_ON_FORK, true);
    poke(&space, at, 5);
    space.advise(at, PAGE_SIZE, wipe).unwrap();
    poke(&space, at + PAGE, 6);
    let no_fork = Advice::Flag(VmaFlags::NO_FORK, true);
    space.advise(at + 2 * PAGE, PAGE_SIZE, no_fork).unwrap();
    let child = space.fork().unwrap();
    assert_eq!((peek(&child, at), peek(&child, at + PAGE)), (0, 6));
    assert!(child.handle_fault(at + 2 * PAGE, Access::Read).is_err());
    assert_eq!(
        space.advise(at, 9 * PAGE_SIZE, Advice::Hint),
        Err(Errno::ENOMEM)
    );
}

#[test]
fn locked_memory_is_counted_and_limited() {
    let space = AddressSpace::new().unwrap();
    let at = anonymous(&space, 4);
    space.lock(at + 1, 1, LockMode::Now, false).unwrap();
    assert_eq!(space.usage().locked_bytes, PAGE);
    assert_eq!(space.resident_bytes(), PAGE);
    let limits = SpaceLimits {
        locked: 2 * PAGE,
        ..space.limits()
    };
    space.set_limits(limits);
    assert_eq!(
        space.lock(at, 3 * PAGE_SIZE, LockMode::Now, false),
        Err(Errno::ENOMEM)
    );
    space
        .lock(at, 3 * PAGE_SIZE, LockMode::OnFault, true)
        .unwrap();
    assert_eq!(space.resident_bytes(), PAGE);
    assert_eq!(
        space.advise(at, PAGE_SIZE, Advice::DontNeed),
        Err(Errno::EINVAL)
    );
    space.unlock(at, 4 * PAGE_SIZE).unwrap();
    assert_eq!(space.usage().locked_bytes, 0);
}

/// Threads fault, fork, unmap and write back the same memory at once.
#[test]
fn concurrent_use_loses_nothing() {
    let _guard = reclaiming();
    let fake = FakeFile::new(&[0; 16 * PAGE_SIZE]);
    let cache = fake.cache();
    let space = AddressSpace::new().unwrap();
    let private = anonymous(&space, 16);
    let shared = space
        .map(
            Placement::Hint(UserAddr(0)),
            16 * PAGE_SIZE,
            RW,
            true,
            file(&cache),
        )
        .unwrap();
    std::thread::scope(|s| {
        for t in 0..3u64 {
            let space = &space;
            s.spawn(move || {
                for round in 0..400u64 {
                    let at = ((round * 5 + t) % 16) * PAGE + t;
                    let value = (round % 250) as u8;
                    // Another thread may unprotect or copy the page between: the fault
                    // is taken again, as a processor would.
                    poke(space, private + at, value);
                    assert_eq!(peek(space, private + at), value);
                    poke(space, shared + at, value);
                    assert_eq!(peek(space, shared + at), value);
                }
            });
        }
        s.spawn(|| {
            for _ in 0..60 {
                let child = space.fork().unwrap();
                let before = peek(&child, private);
                std::thread::yield_now();
                assert_eq!(peek(&child, private), before, "a child's memory is its own");
                poke(&child, private, 255);
            }
        });
        s.spawn(|| {
            for _ in 0..100 {
                cache.write_back(0, u64::MAX).unwrap();
                crate::vm::reclaim(8);
                let at = anonymous(&space, 3);
                poke(&space, at, 1);
                space.unmap(at, 3 * PAGE_SIZE).unwrap();
            }
        });
    });
    cache.write_back(0, u64::MAX).unwrap();
    let mut bytes = vec![0; 16 * PAGE_SIZE];
    space.read_remote(shared, &mut bytes).unwrap();
    assert_eq!(bytes, fake.content.lock().unwrap()[..bytes.len()]);
    space.clear();
    assert_eq!(space.resident_bytes(), 0);
}
