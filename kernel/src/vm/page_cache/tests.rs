use super::*;
use core::sync::atomic::AtomicBool;
use std::sync::{Mutex as HostMutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A file in ordinary memory that counts its calls.
pub struct FakeFile {
    pub content: HostMutex<Vec<u8>>,
    pub size: AtomicU64,
    pub nr_reads: AtomicUsize,
    pub nr_writes: AtomicUsize,
    /// Bytes that may be reserved.
    pub room: AtomicU64,
    /// Page whose reading fails.
    pub bad_page: AtomicU64,
    /// Reads that were started, while they are held.
    held: HostMutex<Option<Vec<HeldRead>>>,
}

type HeldRead = (u64, Vec<FrameRef>, ReadDone);

impl FakeFile {
    pub fn new(content: &[u8]) -> Arc<FakeFile> {
        Arc::new(FakeFile {
            content: HostMutex::new(content.to_vec()),
            size: AtomicU64::new(content.len() as u64),
            nr_reads: AtomicUsize::new(0),
            nr_writes: AtomicUsize::new(0),
            room: AtomicU64::new(u64::MAX),
            bad_page: AtomicU64::new(u64::MAX),
            held: HostMutex::new(None),
        })
    }
    pub fn cache(self: &Arc<Self>) -> Arc<PageCache> {
        let source: Arc<dyn PageSource> = self.clone();
        PageCache::new(Some(Arc::downgrade(&source))).unwrap()
    }
    fn truncate(&self, cache: &PageCache, size: u64) {
        self.size.store(size, Ordering::Release);
        cache.truncate(size);
        let mut content = self.content.lock().unwrap();
        let len = content.len().min(size as usize);
        content.truncate(len);
    }
}

impl FakeFile {
    fn fill(&self, index: u64, pages: &[FrameRef]) -> Result<()> {
        let bad = self.bad_page.load(Ordering::Relaxed);
        if (index..index + pages.len() as u64).contains(&bad) {
            return Err(Errno::EIO);
        }
        let content = self.content.lock().unwrap();
        let size = self.size.load(Ordering::Acquire) as usize;
        for (n, page) in pages.iter().enumerate() {
            let at = (index as usize + n) * PAGE_SIZE;
            page.zero();
            let end = (at + PAGE_SIZE).min(content.len()).min(size);
            if at < end {
                // SAFETY: within the frame.
                unsafe {
                    core::ptr::copy_nonoverlapping(content[at..].as_ptr(), page.as_ptr(), end - at)
                };
            }
        }
        Ok(())
    }
    /// From here on reads end only when [`FakeFile::land`] is called.
    fn hold(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }
    /// Ends the reads that were held, as (first page, count).
    fn land(&self) -> Vec<(u64, usize)> {
        let held = self.held.lock().unwrap().take().unwrap_or_default();
        let ends = held.into_iter().map(|(index, pages, done)| {
            done(self.fill(index, &pages));
            (index, pages.len())
        });
        ends.collect()
    }
    fn nr_reads(&self) -> usize {
        self.nr_reads.load(Ordering::Relaxed)
    }
}

impl PageSource for FakeFile {
    fn start_read(&self, index: u64, pages: &[FrameRef], done: ReadDone) {
        self.nr_reads.fetch_add(1, Ordering::Relaxed);
        match &mut *self.held.lock().unwrap() {
            Some(held) => held.push((index, pages.to_vec(), done)),
            None => done(self.fill(index, pages)),
        }
    }
    fn write_pages(&self, index: u64, pages: &[FrameRef]) -> Result<()> {
        self.nr_writes.fetch_add(1, Ordering::Relaxed);
        let mut content = self.content.lock().unwrap();
        let end = (index as usize + pages.len()) * PAGE_SIZE;
        if content.len() < end {
            content.resize(end, 0);
        }
        for (n, page) in pages.iter().enumerate() {
            let at = (index as usize + n) * PAGE_SIZE;
            // SAFETY: within the frame.
            unsafe {
                core::ptr::copy_nonoverlapping(page.as_ptr(), content[at..].as_mut_ptr(), PAGE_SIZE)
            };
        }
        Ok(())
    }
    fn reserve(&self, pos: u64, len: u64) -> Result<()> {
        if pos + len > self.room.load(Ordering::Relaxed) {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }
    fn grow(&self, size: u64) {
        self.size.fetch_max(size, Ordering::AcqRel);
    }
}

/// Reclaim takes clean pages from every cache of the process, those of other tests included.
static RECLAIMING: RwLock<()> = RwLock::new(());

/// Held by tests that reclaim.
pub fn reclaiming() -> RwLockReadGuard<'static, ()> {
    RECLAIMING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held by tests that count pages or reads: no other test reclaims meanwhile.
pub fn undisturbed() -> RwLockWriteGuard<'static, ()> {
    RECLAIMING.write().unwrap_or_else(PoisonError::into_inner)
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i / 7) as u8 ^ (i % 251) as u8 ^ seed)
        .collect()
}

fn write(cache: &PageCache, pos: u64, bytes: &[u8]) -> Result<usize> {
    cache.write_at(pos, &mut IoSource::kernel(bytes))
}

fn read(cache: &PageCache, pos: u64, len: usize) -> Vec<u8> {
    read_as(&Readahead::new(), cache, pos, len)
}

fn read_as(ahead: &Readahead, cache: &PageCache, pos: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0xaa; len];
    let n = cache
        .read_at(ahead, pos, cache.size(), &mut IoDest::kernel(&mut out))
        .unwrap();
    out.truncate(n);
    out
}

#[test]
fn reads_stop_at_the_end_and_go_to_the_source_once() {
    let _guard = undisturbed();
    let data = pattern(10_000, 1);
    let file = FakeFile::new(&data);
    let cache = file.cache();
    assert_eq!(read(&cache, 0, 20_000), data);
    assert_eq!(file.nr_reads.load(Ordering::Relaxed), 1, "one read ahead");
    assert_eq!(read(&cache, 4000, 200), &data[4000..4200]);
    assert_eq!(read(&cache, 10_000, 5), []);
    assert_eq!(read(&cache, u64::MAX - 5, 5), []);
    assert_eq!(file.nr_reads.load(Ordering::Relaxed), 1);
    assert_eq!(cache.nr_pages(), 3);
}

#[test]
fn one_bad_page_spoils_no_other() {
    let _guard = undisturbed();
    let file = FakeFile::new(&pattern(40_000, 2));
    file.bad_page.store(2, Ordering::Relaxed);
    let cache = file.cache();
    assert_eq!(
        read(&cache, 0, 40_000).len(),
        2 * PAGE_SIZE,
        "a short count"
    );
    assert_eq!(cache.get(2).unwrap_err(), Errno::EIO);
    assert!(cache.get(3).is_ok());
    file.bad_page.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(read(&cache, 0, 40_000).len(), 40_000);
}

#[test]
fn writes_reach_the_source_on_write_back_only() {
    let file = FakeFile::new(&pattern(9000, 3));
    let cache = file.cache();
    let data = pattern(20_000, 4);
    assert_eq!(write(&cache, 100, &data), Ok(20_000));
    assert_eq!(file.size(), 20_100);
    assert_eq!(file.nr_writes.load(Ordering::Relaxed), 0);
    assert_eq!(read(&cache, 100, 20_000), data);
    cache.write_back(0, u64::MAX).unwrap();
    assert_eq!(file.nr_writes.load(Ordering::Relaxed), 1, "one run");
    assert_eq!(&file.content.lock().unwrap()[100..20_100], data);
    cache.write_back(0, u64::MAX).unwrap();
    assert_eq!(file.nr_writes.load(Ordering::Relaxed), 1, "nothing dirty");
}

#[test]
fn a_full_device_makes_the_count_short() {
    let file = FakeFile::new(&[]);
    file.room.store(2 * PAGE_SIZE as u64, Ordering::Relaxed);
    let cache = file.cache();
    assert_eq!(write(&cache, 0, &pattern(20_000, 5)), Ok(2 * PAGE_SIZE));
    assert_eq!(file.size(), 2 * PAGE_SIZE as u64);
    assert_eq!(write(&cache, file.size(), b"x"), Err(Errno::ENOSPC));
    assert_eq!(file.size(), 2 * PAGE_SIZE as u64);
}

#[test]
fn a_dirty_cache_keeps_its_source() {
    let file = FakeFile::new(&[]);
    let weak = Arc::downgrade(&file);
    let cache = file.cache();
    write(&cache, 0, b"precious").unwrap();
    drop(file);
    let file = weak.upgrade().expect("pinned while dirty");
    cache.write_back(0, u64::MAX).unwrap();
    assert_eq!(&file.content.lock().unwrap()[..8], b"precious");
    drop(file);
    assert!(weak.upgrade().is_none());
}

#[test]
fn truncation_zeroes_what_comes_back() {
    let _guard = undisturbed();
    let file = FakeFile::new(&pattern(12_000, 6));
    let cache = file.cache();
    write(&cache, 0, &pattern(12_000, 7)).unwrap();
    file.truncate(&cache, 5000);
    assert_eq!(cache.nr_pages(), 2);
    write(&cache, 11_000, b"end").unwrap();
    let back = read(&cache, 0, 20_000);
    assert_eq!(back.len(), 11_003);
    assert_eq!(&back[..5000], &pattern(12_000, 7)[..5000]);
    assert!(back[5000..11_000].iter().all(|&b| b == 0));
    assert_eq!(&back[11_000..], b"end");
}

#[test]
fn memory_files_keep_their_size_and_holes() {
    let _guard = undisturbed();
    let cache = PageCache::new(None).unwrap();
    assert_eq!(write(&cache, 10_000, b"abc"), Ok(3));
    assert_eq!((cache.size(), cache.nr_pages()), (10_003, 1));
    let back = read(&cache, 0, 20_000);
    assert!(back[..10_000].iter().all(|&b| b == 0));
    assert_eq!(cache.nr_pages(), 1, "a hole stays a hole");
    cache.truncate(10_001);
    cache.truncate(10_003);
    assert_eq!(read(&cache, 10_000, 10), b"a\0\0");
}

#[test]
fn clean_pages_can_be_reclaimed_and_dirty_ones_not() {
    let _guard = reclaiming();
    let data = pattern(64 * PAGE_SIZE, 8);
    let file = FakeFile::new(&data);
    let cache = file.cache();
    read(&cache, 0, data.len());
    write(&cache, 0, b"dirty").unwrap();
    let held = cache.get(5).unwrap();
    // Other tests' caches are under the same clock hand.
    for _ in 0..100 {
        reclaim::reclaim(1000);
    }
    assert!(cache.is_cached(0) && cache.is_cached(5));
    assert_eq!(cache.nr_pages(), 2);
    drop(held);
    assert_eq!(&read(&cache, 0, data.len())[5..], &data[5..]);
}

/// Random reads, writes, truncations, write-backs and reclaim against a plain vector.
#[test]
fn random_operations_match_a_model() {
    let _guard = reclaiming();
    let mut model = pattern(30_000, 9);
    let file = FakeFile::new(&model);
    let cache = file.cache();
    let mut seed = 0xdead_beef_cafe_f00du64;
    let mut random = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % n as u64) as usize
    };
    for round in 0..3000 {
        let pos = random(60_000);
        match random(10) {
            0..4 => {
                let data = pattern(random(13_000), round as u8);
                assert_eq!(write(&cache, pos as u64, &data), Ok(data.len()));
                if !data.is_empty() {
                    let end = pos + data.len();
                    if model.len() < end {
                        model.resize(end, 0);
                    }
                    model[pos..end].copy_from_slice(&data);
                }
            }
            4..7 => {
                let len = random(20_000);
                let from = pos.min(model.len());
                let to = (pos + len).min(model.len()).max(from);
                assert_eq!(read(&cache, pos as u64, len), &model[from..to]);
            }
            7 => {
                file.truncate(&cache, pos as u64);
                model.resize(pos, 0);
            }
            8 => cache
                .write_back(random(8) as u64, 4 + random(20) as u64)
                .unwrap(),
            _ => drop(reclaim::reclaim(random(8))),
        }
        assert_eq!(cache.size(), model.len() as u64);
    }
    cache.write_back(0, u64::MAX).unwrap();
    assert_eq!(&file.content.lock().unwrap()[..model.len()], model);
}

#[test]
fn concurrent_readers_and_writers_see_whole_pages_of_someone() {
    let _guard = reclaiming();
    let file = FakeFile::new(&vec![0; 32 * PAGE_SIZE]);
    let cache = file.cache();
    std::thread::scope(|s| {
        for t in 1..=3u8 {
            let cache = &cache;
            s.spawn(move || {
                for round in 0..300u64 {
                    let page = (round * 7 + u64::from(t)) % 32;
                    write(cache, page * PAGE_SIZE as u64, &[t; PAGE_SIZE]).unwrap();
                    let back = read(cache, page * PAGE_SIZE as u64, PAGE_SIZE);
                    assert!(back.iter().all(|b| (1..=3).contains(b)));
                }
            });
        }
        s.spawn(|| {
            for _ in 0..200 {
                cache.write_back(0, u64::MAX).unwrap();
                reclaim::reclaim(16);
            }
        });
    });
    cache.write_back(0, u64::MAX).unwrap();
    let content = file.content.lock().unwrap();
    for page in content.chunks(PAGE_SIZE) {
        assert!(page.iter().all(|b| (1..=3).contains(b)));
    }
}

const PAGE: u64 = PAGE_SIZE as u64;

/// The pages of `[0, n)` that are there or on their way.
fn present(cache: &PageCache, n: u64) -> Vec<u64> {
    let state = cache.state.lock();
    (0..n).filter(|&i| state.index.get(i).is_some()).collect()
}

#[test]
fn a_sequential_reader_never_waits_for_the_window_it_starts() {
    let _guard = undisturbed();
    let data = pattern(400 * PAGE_SIZE, 10);
    let file = FakeFile::new(&data);
    let cache = file.cache();
    let ahead = Readahead::new();
    assert_eq!(read_as(&ahead, &cache, 0, PAGE_SIZE), &data[..PAGE_SIZE]);
    assert_eq!((file.nr_reads(), cache.nr_pages()), (1, 4));
    for page in 1..300 {
        // What is read ahead from here on does not arrive while the reader is at this page.
        file.hold();
        let at = page * PAGE_SIZE;
        assert_eq!(
            read_as(&ahead, &cache, at as u64, PAGE_SIZE),
            &data[at..at + PAGE_SIZE]
        );
        file.land();
    }
    // 4, 8, 16, 32 pages, then 64 at a time.
    assert_eq!(file.nr_reads(), 9);
}

#[test]
fn a_random_reader_reads_what_it_asks_for() {
    let _guard = undisturbed();
    let data = pattern(1000 * PAGE_SIZE, 11);
    let file = FakeFile::new(&data);
    let cache = file.cache();
    let ahead = Readahead::new();
    for page in [500, 100, 900, 300, 700] {
        read_as(&ahead, &cache, page * PAGE, PAGE_SIZE);
    }
    assert_eq!((file.nr_reads(), cache.nr_pages()), (5, 5));
    read_as(&ahead, &cache, 200 * PAGE, 16 * PAGE_SIZE);
    assert_eq!((file.nr_reads(), cache.nr_pages()), (6, 21), "one read");
    ahead.set_pattern(Pattern::Random);
    read_as(&ahead, &cache, 216 * PAGE, 2 * PAGE_SIZE);
    read_as(&ahead, &cache, 0, 2 * PAGE_SIZE);
    assert_eq!((file.nr_reads(), cache.nr_pages()), (8, 25));
}

#[test]
fn an_error_ahead_is_no_error_of_the_reader() {
    let _guard = undisturbed();
    let data = pattern(64 * PAGE_SIZE, 12);
    let file = FakeFile::new(&data);
    let cache = file.cache();
    let ahead = Readahead::new();
    file.bad_page.store(30, Ordering::Relaxed);
    for page in 0..64 {
        let at = page * PAGE_SIZE;
        let mut out = vec![0; PAGE_SIZE];
        let result = cache.read_at(
            &ahead,
            at as u64,
            file.size(),
            &mut IoDest::kernel(&mut out),
        );
        if page == 30 {
            assert_eq!(result, Err(Errno::EIO));
        } else {
            assert_eq!(result, Ok(PAGE_SIZE), "page {page}");
            assert_eq!(out, &data[at..at + PAGE_SIZE]);
        }
    }
}

#[test]
fn truncation_meets_a_read_under_way() {
    let _guard = undisturbed();
    let data = pattern(64 * PAGE_SIZE, 13);
    let file = FakeFile::new(&data);
    let cache = file.cache();
    file.hold();
    cache.will_need(0..64);
    assert_eq!(cache.nr_pages(), 64);
    file.size.store(10 * PAGE, Ordering::Release);
    cache.truncate(10 * PAGE);
    assert_eq!(cache.nr_pages(), 10);
    // Grows over where the read is still under way to: zeros, and what is written.
    assert_eq!(write(&cache, 20 * PAGE + 7, b"new"), Ok(3));
    file.content.lock().unwrap().truncate(10 * PAGE_SIZE);
    assert_eq!(file.land(), [(0, 64)]);
    let back = read(&cache, 0, 64 * PAGE_SIZE);
    assert_eq!(back.len(), 20 * PAGE_SIZE + 10);
    assert_eq!(&back[..10 * PAGE_SIZE], &data[..10 * PAGE_SIZE]);
    assert!(
        back[10 * PAGE_SIZE..20 * PAGE_SIZE + 7]
            .iter()
            .all(|&b| b == 0)
    );
    assert_eq!(&back[20 * PAGE_SIZE + 7..], b"new");
}

#[test]
fn a_reader_that_saw_a_longer_file_leaves_no_page_behind() {
    let _guard = undisturbed();
    let file = FakeFile::new(&pattern(64 * PAGE_SIZE, 14));
    let cache = file.cache();
    // The size is looked at again once the pages are in the cache.
    let flight = cache.board(8, 8, Some(8), None).unwrap().unwrap();
    file.size.store(10 * PAGE, Ordering::Release);
    cache.disembark(&flight, 10);
    assert_eq!(present(&cache, 64), [8, 9]);
    flight.land(Ok(()));
    assert!(cache.is_cached(8) && !cache.is_cached(10));
    assert_eq!(
        cache
            .get_for_read(&Readahead::new(), 12, 1)
            .unwrap()
            .map(drop),
        None
    );
    let zeros = cache.get(12).unwrap();
    // SAFETY: the frame is a page long.
    assert!((0..PAGE_SIZE).all(|at| unsafe { zeros.as_ptr().add(at).read() } == 0));
    assert_eq!(present(&cache, 64), [8, 9]);
}

#[test]
fn advice_brings_pages_and_sends_clean_ones_away() {
    let _guard = undisturbed();
    let data = pattern(300 * PAGE_SIZE, 15);
    let file = FakeFile::new(&data);
    let cache = file.cache();
    cache.will_need(10..290);
    assert_eq!((file.nr_reads(), cache.nr_pages()), (3, 280));
    assert_eq!(
        read(&cache, 10 * PAGE, 280 * PAGE_SIZE),
        &data[10 * PAGE_SIZE..290 * PAGE_SIZE]
    );
    assert_eq!(file.nr_reads(), 3);
    write(&cache, 20 * PAGE, b"dirty").unwrap();
    let held = cache.get(30).unwrap();
    cache.wont_need(15..100);
    assert_eq!(
        &file.content.lock().unwrap()[20 * PAGE_SIZE..][..5],
        b"dirty"
    );
    assert_eq!(cache.nr_pages(), 280 - 85 + 1, "all but the one in use");
    drop(held);
    cache.wont_need(0..u64::MAX);
    assert_eq!(cache.nr_pages(), 0);
}

/// A second thread stands for the device: reads land in any order, while readers in order and
/// at random, a writer and truncation go on.
#[test]
fn readers_and_truncation_while_reads_are_under_way() {
    let _guard = reclaiming();
    let data = pattern(256 * PAGE_SIZE, 16);
    let file = FakeFile::new(&data);
    let cache = file.cache();
    let stop = AtomicBool::new(false);
    file.hold();
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut turn = 0;
            loop {
                let over = stop.load(Ordering::Acquire);
                let mut held = match &mut *file.held.lock().unwrap() {
                    Some(held) => std::mem::take(held),
                    None => Vec::new(),
                };
                turn += 1;
                if turn % 2 == 0 {
                    held.reverse();
                }
                for (index, pages, done) in held {
                    done(file.fill(index, &pages));
                }
                if over {
                    break;
                }
                std::thread::yield_now();
            }
            file.land();
        });
        let readers: Vec<_> = (0..3u64)
            .map(|t| {
                let (cache, data) = (&cache, &data);
                s.spawn(move || {
                    let ahead = Readahead::new();
                    let mut state = t + 1;
                    for round in 0..600u64 {
                        state = state.wrapping_mul(6364136223846793005).wrapping_add(t);
                        let page = if t == 0 { round % 256 } else { state >> 33 } % 256;
                        let back = read_as(&ahead, cache, page * PAGE, 3 * PAGE_SIZE);
                        let at = page as usize * PAGE_SIZE;
                        for (n, (&got, &was)) in back.iter().zip(&data[at..]).enumerate() {
                            // What was cut off and grown over again is zeros.
                            let is_old = got == was;
                            let is_zero = got == 0 && at + n >= 100 * PAGE_SIZE;
                            assert!(is_old || is_zero, "byte {n} of page {page}");
                        }
                    }
                })
            })
            .collect();
        for round in 0..100 {
            if round % 2 == 0 {
                file.truncate(&cache, 100 * PAGE + round);
            } else {
                write(&cache, 256 * PAGE - 1, &[data[256 * PAGE_SIZE - 1]]).unwrap();
            }
            std::thread::yield_now();
        }
        for reader in readers {
            reader.join().unwrap();
        }
        stop.store(true, Ordering::Release);
    });
    let back = read(&cache, 0, 256 * PAGE_SIZE);
    assert_eq!(&back[..100 * PAGE_SIZE], &data[..100 * PAGE_SIZE]);
    let cut = 100 * PAGE_SIZE + 98;
    assert!(back[cut..256 * PAGE_SIZE - 1].iter().all(|&b| b == 0));
}

#[test]
fn what_is_cut_off_before_it_was_written_does_not_stay() {
    let _guard = undisturbed();
    let file = FakeFile::new(b"");
    let cache = file.cache();
    let weak = Arc::downgrade(&cache);
    for _ in 0..2 {
        write(&cache, 0, b"short-lived").unwrap();
        assert!(cache.nr_dirty() > 0);
        file.truncate(&cache, 0);
    }
    drop(cache);
    assert!(weak.upgrade().is_none());
    assert_eq!(file.nr_writes.load(Ordering::Relaxed), 0);
}
