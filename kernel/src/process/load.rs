//! From an executable file to an address space ready to run: finds the program behind scripts,
//! maps image, interpreter and stack. Touches nothing of the running program.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::auxv::{self, AuxInfo, Strings};
use super::elf::{HEADER_BYTES, Header, Image, PHDR_BYTES};
use super::{script, sigframe, vdso};
use crate::abi;
use crate::arch::TrapFrame;
use crate::error::{Errno, Result};
use crate::file::{MapTarget, OpenFile};
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::security::Credentials;
use crate::vfs::{self, FsContext};
use crate::vm::io::IoDest;
use crate::vm::space::{Backing, Placement, Prot};
use crate::vm::{AddressSpace, space};

const PAGE: u64 = PAGE_SIZE as u64;
/// Scripts that scripts run on: Linux follows five.
const MAX_SCRIPTS: usize = 5;

/// What execve was given.
pub struct Request {
    /// The executable, opened.
    pub file: Arc<OpenFile>,
    /// Its name as AT_EXECFN and scripts see it.
    pub name: Vec<u8>,
    /// Arguments.
    pub args: Strings,
    /// Environment.
    pub env: Strings,
}

/// Who asks, and within which bounds.
pub struct Context<'a> {
    /// For the interpreters' paths.
    pub fs: &'a FsContext,
    /// Credentials of now.
    pub cred: &'a Credentials,
    /// RLIMIT_STACK.
    pub stack_limit: u64,
    /// The script's path cannot be opened again (a close-on-exec descriptor).
    pub name_is_lost: bool,
    /// Set-user-id bits are not honoured (PR_SET_NO_NEW_PRIVS).
    pub no_new_privs: bool,
    /// Limits for the new space.
    pub limits: space::SpaceLimits,
}

/// A program ready to run.
pub struct Loaded {
    pub(super) space: Arc<AddressSpace>,
    pub(super) frame: TrapFrame,
    /// The program, not the script.
    pub(super) exe: Arc<OpenFile>,
    /// Credentials it runs with.
    pub(super) cred: Credentials,
    /// It gained rights: man 7 environ, AT_SECURE.
    pub(super) secure: bool,
    pub(super) args: (u64, u64),
    pub(super) env: (u64, u64),
    pub(super) auxv: (u64, u64),
    pub(super) stack: u64,
}

/// Loads `request`. ENOEXEC, ENOENT (no interpreter), ELOOP, EACCES, E2BIG, ENOMEM, EIO.
pub fn load(mut request: Request, ctx: &Context<'_>) -> Result<Loaded> {
    auxv::check_total(&request.args, &request.env, ctx.stack_limit)?;
    follow_scripts(&mut request, ctx)?;
    auxv::check_total(&request.args, &request.env, ctx.stack_limit)?;
    let program = Program::open(request.file)?;
    let interp = match program.interpreter()? {
        None => None,
        Some(path) => {
            let file = vfs::open_exec(ctx.fs, ctx.cred, &path)?;
            Some(Program::open(file)?)
        }
    };
    let (cred, secure) = credentials(&program.file, ctx)?;
    let space = AddressSpace::new()?;
    space.set_limits(ctx.limits);
    let bias = program.map(&space, true)?;
    let interp_bias = match &interp {
        Some(interp) => Some(interp.map(&space, false)?),
        None => None,
    };
    let entry = program.image.header.entry.wrapping_add(bias);
    let end = program.image.end.wrapping_add(bias);
    space.set_brk_base(UserAddr(end));
    let top = space.map_stack()?.0;
    let aux = AuxInfo {
        phdr: program
            .image
            .phdr_addr
            .map_or(0, |at| at.wrapping_add(bias)),
        phnum: program.image.header.nr_phdrs as u64,
        base: interp_bias.unwrap_or(0),
        entry,
        uid: cred.uid,
        euid: cred.euid,
        gid: cred.gid,
        egid: cred.egid,
        secure,
        hwcap: hwcap(),
        hwcap2: 0,
        minsigstksz: sigframe::min_stack_bytes(),
        random: crate::security::random::bytes(),
        vdso: vdso::map(&space)?.map_or(0, |at| at.0),
    };
    // Below a random distance within the page: stacks of two runs do not line up.
    let jitter = u64::from(crate::security::random::bytes::<1>()[0] & 0x3f) * 16;
    let stack = auxv::build(
        top - jitter,
        &request.name,
        &request.args,
        &request.env,
        &aux,
    )?;
    space
        .write_remote(UserAddr(stack.sp), &stack.bytes)
        .map_err(|_| Errno::E2BIG)?;
    let start = match (&interp, interp_bias) {
        (Some(interp), Some(bias)) => interp.image.header.entry.wrapping_add(bias),
        _ => entry,
    };
    Ok(Loaded {
        space,
        frame: TrapFrame::new_user(start, stack.sp),
        exe: program.file,
        cred,
        secure,
        args: stack.args,
        env: stack.env,
        auxv: stack.auxv,
        stack: stack.sp,
    })
}

/// Replaces a script by its interpreter, as often as need be.
fn follow_scripts(request: &mut Request, ctx: &Context<'_>) -> Result<()> {
    let mut depth = 0;
    loop {
        let mut head = [0; script::LINE_BYTES];
        let n = read_at(&request.file, 0, &mut head)?;
        let Some((interp, argument)) = script::parse(&head[..n])? else {
            return Ok(());
        };
        depth += 1;
        if depth > MAX_SCRIPTS {
            return Err(Errno::ELOOP);
        }
        if ctx.name_is_lost {
            return Err(Errno::ENOENT);
        }
        let name = core::mem::take(&mut request.name);
        match argument {
            Some(argument) => request.args.replace_front(1, &[interp, argument, &name])?,
            None => request.args.replace_front(1, &[interp, &name])?,
        }
        request.file = vfs::open_exec(ctx.fs, ctx.cred, interp)?;
        request.name = interp.to_vec();
    }
}

/// Reads until `out` is full or the file ends.
fn read_at(file: &OpenFile, pos: u64, out: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < out.len() {
        let mut dst = IoDest::kernel(&mut out[done..]);
        match file.pread(pos + done as u64, &mut dst)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// As [`read_at`]; ENOEXEC when the file is shorter.
fn read_exact(file: &OpenFile, pos: u64, len: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    out.resize(len, 0);
    if read_at(file, pos, &mut out)? < len {
        return Err(Errno::ENOEXEC);
    }
    Ok(out)
}

/// An executable with its checked headers.
struct Program {
    file: Arc<OpenFile>,
    image: Image,
}

impl Program {
    fn open(file: Arc<OpenFile>) -> Result<Program> {
        let size = file.file.stat()?.st_size as u64;
        let mut head = [0; PAGE_SIZE];
        let n = read_at(&file, 0, &mut head)?;
        let header = Header::parse(head.get(..n.min(HEADER_BYTES)).unwrap_or(&[]))?;
        let len = header.nr_phdrs * PHDR_BYTES;
        let start = usize::try_from(header.phdr_offset).map_err(|_| Errno::ENOEXEC)?;
        // Nearly always in the first page.
        let end = start.checked_add(len).ok_or(Errno::ENOEXEC)?;
        let image = match head[..n].get(start..end) {
            Some(phdrs) => Image::parse(header, phdrs, size)?,
            None => {
                let phdrs = read_exact(&file, header.phdr_offset, len)?;
                Image::parse(header, &phdrs, size)?
            }
        };
        Ok(Program { file, image })
    }

    /// The dynamic linker's path. ENOEXEC when it is not one string.
    fn interpreter(&self) -> Result<Option<Vec<u8>>> {
        let Some((at, len)) = self.image.interp else {
            return Ok(None);
        };
        let mut path = read_exact(&self.file, at, len)?;
        if path.pop() != Some(0) || path.is_empty() || path.contains(&0) {
            return Err(Errno::ENOEXEC);
        }
        Ok(Some(path))
    }

    /// Maps the image; returns what is added to its addresses.
    fn map(&self, space: &AddressSpace, main: bool) -> Result<u64> {
        let MapTarget::Cache(cache, name) = self.file.file.map(&self.file)? else {
            return Err(Errno::ENOEXEC);
        };
        let bias = self.place(space, main)?;
        for m in &self.image.mappings {
            let start = UserAddr(m.start.wrapping_add(bias));
            let len = (m.end - m.start) as usize;
            let backing = match m.file_offset {
                Some(offset) => Backing::File {
                    cache: cache.clone(),
                    offset,
                    name: name.clone(),
                },
                None => Backing::Anonymous,
            };
            space.map(Placement::Fixed(start), len, m.prot, false, backing)?;
        }
        for &(from, to) in &self.image.zero {
            let zeros = [0; PAGE_SIZE];
            let len = (to - from) as usize;
            space.write_remote(UserAddr(from.wrapping_add(bias)), &zeros[..len])?;
        }
        Ok(bias)
    }

    /// Chooses where a relocatable image goes: the program low, its interpreter among the
    /// mappings.
    fn place(&self, space: &AddressSpace, main: bool) -> Result<u64> {
        let image = &self.image;
        if !image.header.relocatable {
            return Ok(0);
        }
        let len = (image.end - image.start).next_multiple_of(PAGE);
        let hint = if main { space::pie_base() } else { UserAddr(0) };
        // A reservation large enough to align within; the image is mapped over its part.
        let slack = image.align - PAGE;
        let room = len.checked_add(slack).ok_or(Errno::ENOMEM)?;
        let at = space.map(
            Placement::Hint(hint),
            room as usize,
            Prot::empty(),
            false,
            Backing::Anonymous,
        )?;
        let start = at.0.next_multiple_of(image.align);
        let base = image.start & !(image.align - 1);
        let bias = start.wrapping_sub(base);
        space.unmap(at, room as usize)?;
        Ok(bias)
    }
}

/// CPUID leaf 1, EDX.
fn hwcap() -> u64 {
    u64::from(core::arch::x86_64::__cpuid(1).edx)
}

/// Credentials after set-user-id and set-group-id bits (man 2 execve), and whether rights
/// were gained.
fn credentials(file: &OpenFile, ctx: &Context<'_>) -> Result<(Credentials, bool)> {
    let stat = vfs::fstat(file)?;
    let trusted = !ctx.no_new_privs && vfs::honours_set_id(file);
    let owner = (trusted && stat.st_mode & abi::S_ISUID != 0).then_some(stat.st_uid);
    // Without group execute permission the bit means mandatory locking.
    let sgid = abi::S_ISGID | abi::S_IXGRP;
    let group = (trusted && stat.st_mode & sgid == sgid).then_some(stat.st_gid);
    Ok(ctx.cred.exec(owner, group))
}
