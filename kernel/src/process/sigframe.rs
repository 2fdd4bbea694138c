//! The stack frame of a signal handler, exactly as Linux lays it out on x86_64 (uapi
//! asm/ucontext.h, asm/sigcontext.h; `struct rt_sigframe`), because C libraries, unwinders and
//! programs read it.
//!
//! ```text
//! high  ... interrupted stack, red zone of 128 bytes
//!       FPU area, 64-byte aligned: FXSAVE or XSAVE image, then the second magic number
//!       siginfo (128)
//!       ucontext (304): flags, link, stack, registers, mask
//! sp -> return address: the restorer, which calls rt_sigreturn
//! low
//! ```
//!
//! The layout is pure and host-tested; [`push`] and [`pop`] move it to and from user memory.

use alloc::vec::Vec;

use super::siginfo::SIGINFO_SIZE;
use super::sigstate::{Action, AltStack, MINSIGSTKSZ, SS_AUTODISARM, SS_DISABLE, SigSet};
use super::{SigInfo, Task, signal};
use crate::abi;
use crate::arch::TrapFrame;
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::mm::addr::USER_END;
use crate::vm::user::{copy_from_user, copy_to_user};

/// Bytes of `struct ucontext` with the kernel's 8-byte mask.
const UCONTEXT_BYTES: usize = 304;
/// Bytes of return address, ucontext and siginfo.
const FRAME_BYTES: usize = 8 + UCONTEXT_BYTES + SIGINFO_SIZE;
/// Below the stack pointer: leaf functions keep data there (System V ABI, AMD64, 3.2.2).
const RED_ZONE: u64 = 128;
/// The FPU area is XSAVE's, the SS register is in the frame and is to be restored.
const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;
/// Marks an XSAVE area (in the bytes FXSAVE leaves to software), and its end.
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Offset of the software bytes in the FXSAVE area.
const SW_BYTES: usize = 464;
const FXSAVE_BYTES: usize = 512;
/// Flags that a program may set: AC OF DF TF SF ZF AF PF CF RF.
const USER_FLAGS: u64 = 0x0005_0dd5;
const FLAG_TF: u64 = 1 << 8;
const FLAG_IF: u64 = 1 << 9;
const FLAG_DF: u64 = 1 << 10;
const FLAG_RF: u64 = 1 << 16;
const FLAG_RESERVED_1: u64 = 1 << 1;

/// Where the parts of a frame go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    sp: u64,
    fpu: u64,
}

/// Places a frame below `sp`. `None` when it would wrap below 0.
fn place(sp: u64, fpu_bytes: u64) -> Option<Place> {
    let fpu = sp.checked_sub(fpu_bytes)? & !63;
    let below = fpu.checked_sub(FRAME_BYTES as u64)? & !15;
    // At a function's first instruction the stack is 8 off a multiple of 16.
    Some(Place {
        sp: below.checked_sub(8)?,
        fpu,
    })
}

struct Bytes<'a>(&'a mut [u8]);
impl Bytes<'_> {
    fn u64(&mut self, at: usize, v: u64) {
        self.0[at..at + 8].copy_from_slice(&v.to_le_bytes());
    }
    fn u32(&mut self, at: usize, v: u32) {
        self.0[at..at + 4].copy_from_slice(&v.to_le_bytes());
    }
    fn u16(&mut self, at: usize, v: u16) {
        self.0[at..at + 2].copy_from_slice(&v.to_le_bytes());
    }
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    let mut v = [0; 8];
    v.copy_from_slice(&b[at..at + 8]);
    u64::from_le_bytes(v)
}
fn u32_at(b: &[u8], at: usize) -> u32 {
    let mut v = [0; 4];
    v.copy_from_slice(&b[at..at + 4]);
    u32::from_le_bytes(v)
}

/// Offsets in the frame.
const UC: usize = 8;
const UC_STACK: usize = UC + 16;
const UC_MCONTEXT: usize = UC + 40;
const UC_FPSTATE: usize = UC_MCONTEXT + 184;
const UC_SIGMASK: usize = UC_MCONTEXT + 256;
const INFO: usize = UC + UCONTEXT_BYTES;

/// What a frame records besides the registers.
struct Context {
    restorer: u64,
    mask: SigSet,
    altstack: AltStack,
    fpu: u64,
    xsave: bool,
    fault_addr: u64,
}

/// `trapno`: the CPU exception behind a fault's signal (SDM 3, 6.15), 0 for others.
fn trap_number(info: &SigInfo) -> u64 {
    if !matches!(info.fields, super::SigFields::Fault { .. }) || info.code <= 0 {
        return 0;
    }
    match (info.signo, info.code) {
        (abi::SIGSEGV | abi::SIGBUS, 1..=3) => 14,
        (abi::SIGSEGV, _) => 13,
        (abi::SIGBUS, _) => 12,
        (abi::SIGILL, _) => 6,
        (abi::SIGTRAP, 1) => 3,
        (abi::SIGTRAP, _) => 1,
        (abi::SIGFPE, 1) => 0,
        (abi::SIGFPE, _) => 16,
        _ => 0,
    }
}

fn encode(frame: &TrapFrame, info: &SigInfo, ctx: &Context) -> [u8; FRAME_BYTES] {
    let mut out = [0; FRAME_BYTES];
    let mut b = Bytes(&mut out);
    b.u64(0, ctx.restorer);
    let xstate = if ctx.xsave { UC_FP_XSTATE } else { 0 };
    b.u64(UC, xstate | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS);
    b.u64(UC_STACK, ctx.altstack.base.0);
    b.u32(UC_STACK + 8, ctx.altstack.flags);
    b.u64(UC_STACK + 16, ctx.altstack.size);
    let f = frame;
    let words = [
        f.r8, f.r9, f.r10, f.r11, f.r12, f.r13, f.r14, f.r15, f.rdi, f.rsi, f.rbp, f.rbx, f.rdx,
        f.rax, f.rcx, f.rsp, f.rip, f.rflags,
    ];
    for (i, word) in words.into_iter().enumerate() {
        b.u64(UC_MCONTEXT + 8 * i, word);
    }
    b.u16(UC_MCONTEXT + 144, f.cs as u16);
    b.u16(UC_MCONTEXT + 150, f.ss as u16);
    b.u64(UC_MCONTEXT + 152, f.error_code);
    b.u64(UC_MCONTEXT + 160, trap_number(info));
    b.u64(UC_MCONTEXT + 168, ctx.mask.0);
    b.u64(UC_MCONTEXT + 176, ctx.fault_addr);
    b.u64(UC_FPSTATE, ctx.fpu);
    b.u64(UC_SIGMASK, ctx.mask.0);
    out[INFO..].copy_from_slice(&info.to_bytes());
    out
}

/// What rt_sigreturn takes from a frame.
struct Restored {
    mask: SigSet,
    altstack: AltStack,
    fpu: u64,
}

/// Puts a frame's registers into `frame`; segment selectors stay user mode's, flags are
/// filtered. EFAULT for an instruction pointer outside the user half.
fn decode(bytes: &[u8; FRAME_BYTES], frame: &mut TrapFrame) -> Result<Restored> {
    let word = |i: usize| u64_at(bytes, UC_MCONTEXT + 8 * i);
    if word(16) >= USER_END {
        return Err(Errno::EFAULT);
    }
    frame.r8 = word(0);
    frame.r9 = word(1);
    frame.r10 = word(2);
    frame.r11 = word(3);
    frame.r12 = word(4);
    frame.r13 = word(5);
    frame.r14 = word(6);
    frame.r15 = word(7);
    frame.rdi = word(8);
    frame.rsi = word(9);
    frame.rbp = word(10);
    frame.rbx = word(11);
    frame.rdx = word(12);
    frame.rax = word(13);
    frame.rcx = word(14);
    frame.rsp = word(15);
    frame.rip = word(16);
    frame.rflags = word(17) & USER_FLAGS | FLAG_IF | FLAG_RESERVED_1;
    Ok(Restored {
        mask: SigSet(u64_at(bytes, UC_SIGMASK)).blockable(),
        altstack: AltStack {
            base: UserAddr(u64_at(bytes, UC_STACK)),
            flags: u32_at(bytes, UC_STACK + 8),
            size: u64_at(bytes, UC_STACK + 16),
        },
        fpu: u64_at(bytes, UC_FPSTATE),
    })
}

/// Marks an FPU image for user memory, as Linux does: what it holds and where it ends.
fn mark_fpu(image: &mut Vec<u8>, xfeatures: u64) -> Result<()> {
    let len = image.len();
    if xfeatures == 0 || len < FXSAVE_BYTES {
        return Ok(());
    }
    image.try_reserve(4).map_err(|_| Errno::ENOMEM)?;
    image.extend_from_slice(&FP_XSTATE_MAGIC2.to_le_bytes());
    let mut b = Bytes(&mut image[SW_BYTES..FXSAVE_BYTES]);
    b.0.fill(0);
    b.u32(0, FP_XSTATE_MAGIC1);
    b.u32(4, len as u32 + 4);
    b.u64(8, xfeatures);
    b.u32(16, len as u32);
    Ok(())
}

/// How many bytes of XSAVE image the software bytes announce; 0 for FXSAVE only.
fn announced(fx: &[u8; FXSAVE_BYTES], own_bytes: usize) -> usize {
    let len = u32_at(fx, SW_BYTES + 16) as usize;
    let extended = u32_at(fx, SW_BYTES + 4) as usize;
    let ok = u32_at(fx, SW_BYTES) == FP_XSTATE_MAGIC1
        && len >= FXSAVE_BYTES + 64
        && len <= own_bytes
        && extended >= len + 4;
    if ok { len } else { 0 }
}

/// Bytes that a signal frame takes at most on this machine (AT_MINSIGSTKSZ).
pub fn min_stack_bytes() -> u64 {
    (FRAME_BYTES + crate::arch::fpu::area_bytes() + 4 + 64 + 16) as u64 + RED_ZONE
}

/// Sets `frame` up to run `action`'s handler for `info`; when it returns, `frame` goes on.
/// An error (EFAULT, ENOMEM) leaves `frame` as it was.
pub(super) fn push(
    task: &Task,
    frame: &mut TrapFrame,
    info: &SigInfo,
    action: &Action,
) -> Result<()> {
    if action.flags & u64::from(abi::SA_RESTORER) == 0 {
        return Err(Errno::EFAULT);
    }
    let thread = task.thread().ok_or(Errno::EFAULT)?;
    let mut fpu = Vec::new();
    thread.fpu_image(&mut fpu)?;
    let xfeatures = crate::arch::fpu::xfeatures();
    mark_fpu(&mut fpu, xfeatures)?;
    let (altstack, mask) = {
        let mut ts = task.sig.lock();
        let current = ts.mask;
        (ts.altstack, ts.saved_mask.take().unwrap_or(current))
    };
    let on_alt = altstack.contains(frame.rsp);
    let switch = action.flags & u64::from(abi::SA_ONSTACK) != 0
        && altstack.size != 0
        && altstack.flags & SS_DISABLE == 0
        && !on_alt;
    let start = if switch {
        altstack.base.0.wrapping_add(altstack.size)
    } else {
        frame.rsp.wrapping_sub(RED_ZONE)
    };
    let place = place(start, fpu.len() as u64).ok_or(Errno::EFAULT)?;
    if (switch || on_alt) && place.sp < altstack.base.0 {
        return Err(Errno::EFAULT);
    }
    let ctx = Context {
        restorer: action.restorer,
        mask,
        altstack,
        fpu: place.fpu,
        xsave: xfeatures != 0,
        fault_addr: match info.fields {
            super::SigFields::Fault { addr } => addr.0,
            _ => 0,
        },
    };
    copy_to_user(UserAddr(place.fpu), &fpu)?;
    copy_to_user(UserAddr(place.sp), &encode(frame, info, &ctx))?;
    if altstack.flags & SS_AUTODISARM != 0 {
        task.sig.lock().altstack = AltStack::DISABLED;
    }
    let mut blocked = signal::mask_of(task).with(action.mask);
    if action.flags & u64::from(abi::SA_NODEFER) == 0 {
        blocked = blocked.with(SigSet::of(info.signo));
    }
    signal::set_mask_of(task, blocked);
    thread.reset_fpu();
    frame.rdi = u64::from(info.signo);
    frame.rsi = place.sp + INFO as u64;
    frame.rdx = place.sp + UC as u64;
    frame.rax = 0;
    frame.rsp = place.sp;
    frame.rip = action.handler;
    frame.rflags &= !(FLAG_DF | FLAG_RF | FLAG_TF);
    Ok(())
}

/// Takes a handler's frame down again (man 2 sigreturn): registers, FPU, mask, alternate
/// stack. EFAULT: the frame is not readable or makes no sense; the caller sends SIGSEGV.
pub fn pop(task: &Task, frame: &mut TrapFrame) -> Result<()> {
    let at = frame.rsp.checked_sub(8).ok_or(Errno::EFAULT)?;
    let mut bytes = [0; FRAME_BYTES];
    copy_from_user(&mut bytes, UserAddr(at))?;
    let restored = decode(&bytes, frame)?;
    restore_fpu(task, restored.fpu)?;
    signal::set_mask_of(task, restored.mask);
    // As Linux: a stack that makes no sense is left out rather than refused.
    let _ = set_altstack(task, restored.altstack, frame.rsp);
    Ok(())
}

fn restore_fpu(task: &Task, at: u64) -> Result<()> {
    let thread = task.thread().ok_or(Errno::EFAULT)?;
    if at == 0 {
        thread.reset_fpu();
        return Ok(());
    }
    let mut fx = [0; FXSAVE_BYTES];
    copy_from_user(&mut fx, UserAddr(at))?;
    let len = announced(&fx, crate::arch::fpu::area_bytes());
    if len == 0 {
        thread.set_fpu_untrusted(&fx);
        return Ok(());
    }
    let mut image = Vec::new();
    image
        .try_reserve_exact(len + 4)
        .map_err(|_| Errno::ENOMEM)?;
    image.resize(len + 4, 0);
    copy_from_user(&mut image, UserAddr(at))?;
    if u32_at(&image, len) == FP_XSTATE_MAGIC2 {
        thread.set_fpu_untrusted(&image[..len]);
    } else {
        thread.set_fpu_untrusted(&fx);
    }
    Ok(())
}

/// Sets the alternate stack (man 2 sigaltstack). EPERM while running on it, EINVAL for
/// unknown flags, ENOMEM when too small.
pub fn set_altstack(task: &Task, new: AltStack, sp: u64) -> Result<()> {
    let mut ts = task.sig.lock();
    if ts.altstack.contains(sp) {
        return Err(Errno::EPERM);
    }
    let mode = new.flags & !SS_AUTODISARM;
    ts.altstack = match mode {
        SS_DISABLE => AltStack {
            base: UserAddr(0),
            size: 0,
            flags: new.flags,
        },
        // SS_ONSTACK is accepted for old programs and means nothing.
        0 | super::sigstate::SS_ONSTACK => {
            if new.size < MINSIGSTKSZ {
                return Err(Errno::ENOMEM);
            }
            new
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok(())
}

/// The alternate stack as sigaltstack reports it when the stack pointer is `sp`.
pub fn altstack(task: &Task, sp: u64) -> AltStack {
    let stack = task.sig.lock().altstack;
    AltStack {
        flags: stack.flags_at(sp),
        ..stack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_is_aligned_as_after_a_call() {
        for sp in [0x7fff_0000_1000u64, 0x7fff_0000_1001, 0x7fff_0000_0ff8] {
            for fpu in [512, 2700, 0] {
                let p = place(sp, fpu).unwrap();
                assert_eq!(p.sp % 16, 8);
                assert_eq!(p.fpu % 64, 0);
                assert!(p.fpu + fpu <= sp && p.sp + FRAME_BYTES as u64 <= p.fpu);
            }
        }
        assert_eq!(place(100, 512), None);
        assert_eq!(place(600, 512), None);
    }

    fn sample() -> TrapFrame {
        TrapFrame {
            r8: 8,
            r15: 15,
            rdi: 1,
            rax: 5,
            rcx: 6,
            rsp: 0x7000,
            rip: 0x40_1000,
            rflags: 0x246,
            cs: 0x33,
            ss: 0x2b,
            ..TrapFrame::default()
        }
    }

    #[test]
    fn registers_survive_and_privilege_does_not_rise() {
        let ctx = Context {
            restorer: 0x1234,
            mask: SigSet(0x5),
            altstack: AltStack {
                base: UserAddr(0x9000),
                size: 0x4000,
                flags: 0,
            },
            fpu: 0x8000,
            xsave: true,
            fault_addr: 0,
        };
        let info = SigInfo::user(10, 1, 2);
        let mut bytes = encode(&sample(), &info, &ctx);
        assert_eq!(u64_at(&bytes, 0), 0x1234);
        let mut back = TrapFrame {
            cs: 0x33,
            ss: 0x2b,
            ..TrapFrame::default()
        };
        let restored = decode(&bytes, &mut back).unwrap();
        assert_eq!((back.r8, back.r15, back.rdi, back.rcx), (8, 15, 1, 6));
        assert_eq!(
            (back.rip, back.rsp, back.rflags),
            (0x40_1000, 0x7000, 0x246)
        );
        assert_eq!((restored.fpu, restored.mask), (0x8000, SigSet(5)));
        assert_eq!(restored.altstack, ctx.altstack);
        // IOPL and a kernel selector in the frame have no effect.
        Bytes(&mut bytes).u64(UC_MCONTEXT + 136, 0x3246);
        Bytes(&mut bytes).u16(UC_MCONTEXT + 144, 0x8);
        decode(&bytes, &mut back).unwrap();
        assert_eq!((back.rflags, back.cs), (0x246, 0x33));
        Bytes(&mut bytes).u64(UC_MCONTEXT + 128, 0xffff_8000_0000_0000);
        assert!(decode(&bytes, &mut back).is_err());
    }

    #[test]
    fn offsets_are_the_headers() {
        // asm/ucontext.h: uc_stack 16, uc_mcontext 40, uc_sigmask 296; sigcontext fpstate 184.
        assert_eq!(UC_STACK - UC, 16);
        assert_eq!(UC_MCONTEXT - UC, 40);
        assert_eq!(UC_SIGMASK - UC, 296);
        assert_eq!(FRAME_BYTES, 440);
    }

    #[test]
    fn fpu_marks_are_believed_only_when_they_fit() {
        let mut image = vec![0u8; 832];
        mark_fpu(&mut image, 7).unwrap();
        assert_eq!(image.len(), 836);
        let mut fx: [u8; 512] = image[..512].try_into().unwrap();
        assert_eq!(announced(&fx, 832), 832);
        assert_eq!(announced(&fx, 800), 0);
        fx[SW_BYTES] ^= 1;
        assert_eq!(announced(&fx, 832), 0);
    }
}
