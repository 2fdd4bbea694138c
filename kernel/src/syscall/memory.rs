//! Calls on a program's memory (man 2 mmap and its kin).

use alloc::sync::Arc;

use super::SyscallResult;
use crate::abi;
use crate::error::Errno;
use crate::file::MapTarget;
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::process;
use crate::vfs::{self, MountFlags};
use crate::vm::AddressSpace;
use crate::vm::page_cache::Pattern;
use crate::vm::space::{
    Advice, Backing, Barrier, LockMode, MapRequest, Placement, Prot, RemapTarget,
};
use crate::vm::user::copy_to_user;
use crate::vm::vma::VmaFlags;

fn space() -> Arc<AddressSpace> {
    process::current().space()
}

fn is_privileged() -> bool {
    process::current().cred().is_privileged()
}

/// PROT_*; bits that name no permission are ignored, as on Linux.
fn prot(bits: u32) -> Prot {
    Prot::from_bits_truncate(bits)
}

fn address(at: UserAddr) -> SyscallResult {
    Ok(at.0 as isize)
}

/// Flags that MAP_SHARED_VALIDATE lets pass.
const KNOWN_MAP_FLAGS: u32 = abi::MAP_TYPE
    | abi::MAP_FIXED
    | abi::MAP_FIXED_NOREPLACE
    | abi::MAP_ANONYMOUS
    | abi::MAP_GROWSDOWN
    | abi::MAP_DENYWRITE
    | abi::MAP_EXECUTABLE
    | abi::MAP_LOCKED
    | abi::MAP_NORESERVE
    | abi::MAP_POPULATE
    | abi::MAP_NONBLOCK
    | abi::MAP_STACK
    | abi::MAP_32BIT;

/// man 2 mmap.
pub fn mmap(
    addr: UserAddr,
    len: usize,
    prot_bits: u32,
    flags: u32,
    fd: i32,
    offset: u64,
) -> SyscallResult {
    if !offset.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::EINVAL);
    }
    let prot = prot(prot_bits);
    let mut area = VmaFlags::empty();
    match flags & abi::MAP_TYPE {
        abi::MAP_PRIVATE => {}
        abi::MAP_SHARED => area |= VmaFlags::SHARED,
        abi::MAP_SHARED_VALIDATE => {
            if flags & !KNOWN_MAP_FLAGS != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            area |= VmaFlags::SHARED;
        }
        _ => return Err(Errno::EINVAL),
    }
    let is_shared = area.contains(VmaFlags::SHARED);
    let has = |flag| flags & flag != 0;
    let backing = if has(abi::MAP_ANONYMOUS) {
        if has(abi::MAP_HUGETLB) {
            // None are set aside.
            return Err(Errno::ENOMEM);
        }
        Backing::Anonymous
    } else {
        let file = process::current().file(fd)?;
        if file.flags() & abi::O_PATH != 0 {
            return Err(Errno::EBADF);
        }
        if has(abi::MAP_HUGETLB) {
            return Err(Errno::EINVAL);
        }
        if !file.readable() || (is_shared && prot.contains(Prot::WRITE) && !file.writable()) {
            return Err(Errno::EACCES);
        }
        if is_shared && !file.writable() {
            area |= VmaFlags::NEVER_WRITE;
        }
        if vfs::location(&file).is_some_and(|at| at.mount.flags().contains(MountFlags::NOEXEC)) {
            if prot.contains(Prot::EXEC) {
                return Err(Errno::EPERM);
            }
            area |= VmaFlags::NEVER_EXEC;
        }
        match file.file.map(&file)? {
            MapTarget::Cache(cache, name) => Backing::File {
                cache,
                offset,
                name,
            },
            MapTarget::Zero => Backing::Anonymous,
        }
    };
    if has(abi::MAP_GROWSDOWN) {
        if is_shared || !matches!(backing, Backing::Anonymous) {
            return Err(Errno::EINVAL);
        }
        area |= VmaFlags::GROWS_DOWN;
    }
    area.set(VmaFlags::NO_RESERVE, has(abi::MAP_NORESERVE));
    area.set(VmaFlags::LOCKED, has(abi::MAP_LOCKED));
    let at = if has(abi::MAP_FIXED_NOREPLACE) {
        Placement::FixedNoReplace(addr)
    } else if has(abi::MAP_FIXED) {
        Placement::Fixed(addr)
    } else {
        Placement::Hint(addr)
    };
    address(space().map_request(MapRequest {
        at,
        len,
        prot,
        flags: area,
        backing,
        // man 2 mmap: MAP_NONBLOCK makes MAP_POPULATE do nothing.
        populate: has(abi::MAP_POPULATE) && !has(abi::MAP_NONBLOCK),
        low: has(abi::MAP_32BIT),
        privileged: is_privileged(),
    })?)
}

/// man 2 munmap.
pub fn munmap(addr: UserAddr, len: usize) -> SyscallResult {
    space().unmap(addr, len).map(|()| 0)
}

/// man 2 mprotect.
pub fn mprotect(addr: UserAddr, len: usize, prot_bits: u32) -> SyscallResult {
    // PROT_GROWSDOWN and PROT_GROWSUP are not honoured, so they are not accepted.
    if prot_bits & !(abi::PROT_READ | abi::PROT_WRITE | abi::PROT_EXEC | abi::PROT_SEM) != 0 {
        return Err(Errno::EINVAL);
    }
    space().protect(addr, len, prot(prot_bits)).map(|()| 0)
}

/// man 2 mremap.
pub fn mremap(
    old: UserAddr,
    old_len: usize,
    new_len: usize,
    flags: u32,
    new: UserAddr,
) -> SyscallResult {
    let target = match flags {
        0 => RemapTarget::InPlace,
        abi::MREMAP_MAYMOVE => RemapTarget::MayMove,
        f if f == abi::MREMAP_MAYMOVE | abi::MREMAP_FIXED => RemapTarget::Fixed(new),
        _ => return Err(Errno::EINVAL),
    };
    address(space().remap(old, old_len, new_len, target)?)
}

/// man 2 brk; the kernel answers with the end of the heap, moved or not.
pub fn brk(want: UserAddr) -> SyscallResult {
    address(space().brk(want))
}

/// man 2 madvise.
pub fn madvise(addr: UserAddr, len: usize, advice: u32) -> SyscallResult {
    let advice = match advice {
        abi::MADV_NORMAL => Advice::Order(Pattern::Normal),
        abi::MADV_RANDOM => Advice::Order(Pattern::Random),
        abi::MADV_SEQUENTIAL => Advice::Order(Pattern::Sequential),
        abi::MADV_COLD => Advice::Hint,
        abi::MADV_WILLNEED => Advice::WillNeed,
        abi::MADV_DONTNEED => Advice::DontNeed,
        abi::MADV_FREE => Advice::Free,
        abi::MADV_POPULATE_READ => Advice::Populate { write: false },
        abi::MADV_POPULATE_WRITE => Advice::Populate { write: true },
        abi::MADV_DONTFORK => Advice::Flag(VmaFlags::NO_FORK, true),
        abi::MADV_DOFORK => Advice::Flag(VmaFlags::NO_FORK, false),
        abi::MADV_WIPEONFORK => Advice::Flag(VmaFlags::WIPE_ON_FORK, true),
        abi::MADV_KEEPONFORK => Advice::Flag(VmaFlags::WIPE_ON_FORK, false),
        abi::MADV_DONTDUMP => Advice::Flag(VmaFlags::NO_DUMP, true),
        abi::MADV_DODUMP => Advice::Flag(VmaFlags::NO_DUMP, false),
        _ => return Err(Errno::EINVAL),
    };
    space().advise(addr, len, advice).map(|()| 0)
}

/// man 2 msync.
pub fn msync(addr: UserAddr, len: usize, flags: u32) -> SyscallResult {
    let known = abi::MS_ASYNC | abi::MS_INVALIDATE | abi::MS_SYNC;
    let both = abi::MS_ASYNC | abi::MS_SYNC;
    if flags & !known != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    space()
        .sync(
            addr,
            len,
            flags & abi::MS_SYNC != 0,
            flags & abi::MS_INVALIDATE != 0,
        )
        .map(|()| 0)
}

/// man 2 mincore.
pub fn mincore(addr: UserAddr, len: usize, vec: UserAddr) -> SyscallResult {
    /// Pages per round.
    const ROUND: usize = 4096;
    if !addr.is_page_aligned() {
        return Err(Errno::EINVAL);
    }
    let space = space();
    let pages = len.div_ceil(PAGE_SIZE);
    crate::vm::user::check_range(addr, len).map_err(|_| Errno::ENOMEM)?;
    let mut done = 0;
    while done < pages {
        let n = (pages - done).min(ROUND);
        let mut bytes: alloc::vec::Vec<u8> = space
            .in_core(addr + (done * PAGE_SIZE) as u64, n * PAGE_SIZE)?
            .into_iter()
            .map(u8::from)
            .collect();
        bytes.truncate(n);
        copy_to_user(vec + done as u64, &bytes)?;
        done += n;
    }
    Ok(0)
}

/// man 2 mlock.
pub fn mlock(addr: UserAddr, len: usize) -> SyscallResult {
    mlock2(addr, len, 0)
}

/// man 2 mlock2.
pub fn mlock2(addr: UserAddr, len: usize, flags: u32) -> SyscallResult {
    let mode = match flags {
        0 => LockMode::Now,
        abi::MLOCK_ONFAULT => LockMode::OnFault,
        _ => return Err(Errno::EINVAL),
    };
    space().lock(addr, len, mode, is_privileged()).map(|()| 0)
}

/// man 2 munlock.
pub fn munlock(addr: UserAddr, len: usize) -> SyscallResult {
    space().unlock(addr, len).map(|()| 0)
}

/// man 2 mlockall.
pub fn mlockall(flags: u32) -> SyscallResult {
    let known = abi::MCL_CURRENT | abi::MCL_FUTURE | abi::MCL_ONFAULT;
    if flags & !known != 0 || flags & (abi::MCL_CURRENT | abi::MCL_FUTURE) == 0 {
        return Err(Errno::EINVAL);
    }
    let mode = if flags & abi::MCL_ONFAULT != 0 {
        LockMode::OnFault
    } else {
        LockMode::Now
    };
    space()
        .lock_all(
            flags & abi::MCL_CURRENT != 0,
            flags & abi::MCL_FUTURE != 0,
            mode,
            is_privileged(),
        )
        .map(|()| 0)
}

/// man 2 munlockall.
pub fn munlockall() -> SyscallResult {
    space().unlock_all();
    Ok(0)
}

/// man 2 membarrier.
pub fn membarrier(command: u32, flags: u32, _cpu: i32) -> SyscallResult {
    use abi::membarrier_cmd as cmd;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let known = [
        (cmd::MEMBARRIER_CMD_GLOBAL, Barrier::Global),
        (cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED, Barrier::Private),
        (
            cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
            Barrier::RegisterPrivate,
        ),
    ];
    if command == cmd::MEMBARRIER_CMD_QUERY as u32 {
        return Ok(known.iter().map(|(c, _)| *c as isize).sum());
    }
    let (_, barrier) = known
        .into_iter()
        .find(|(c, _)| *c as u32 == command)
        .ok_or(Errno::EINVAL)?;
    space().barrier(barrier).map(|()| 0)
}
