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

use super::siginfo::SIGINFO_SIZE;
use super::sigstate::{Action, AltStack, MINSIGSTKSZ, SS_AUTODISARM, SS_DISABLE, SigSet};
use super::{SigInfo, Task, signal};
use crate::abi;
use crate::arch::{TrapFrame, fpu};
use crate::error::{Errno, Result};
use crate::mm::UserAddr;
use crate::mm::addr::USER_END;
use crate::vm::UserPtr;
use crate::vm::user::{copy_to_user, load_fpu, load_u32, save_fpu};

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
/// Bytes of the second mark.
const END_BYTES: usize = size_of_val(&FP_XSTATE_MAGIC2);
/// Offsets of MXCSR and of the software bytes in the FXSAVE area.
const MXCSR: u64 = 24;
const SW_BYTES: u64 = 464;
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

/// Words of the frame, from the return address on (asm/ucontext.h, asm/sigcontext.h).
const UC: usize = 1;
const UC_STACK: usize = UC + 2;
const UC_MCONTEXT: usize = UC + 5;
#[cfg(test)]
const UC_SEGMENTS: usize = UC_MCONTEXT + 18;
const UC_FPSTATE: usize = UC_MCONTEXT + 23;
const UC_SIGMASK: usize = UC_MCONTEXT + 32;
/// All but the siginfo.
const FRAME_WORDS: usize = 1 + UCONTEXT_BYTES / 8;
type Words = [u64; FRAME_WORDS];

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

fn encode(f: &TrapFrame, info: &SigInfo, ctx: &Context) -> Words {
    let xstate = if ctx.xsave { UC_FP_XSTATE } else { 0 };
    let flags = xstate | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    // The selectors of CS, GS, FS and SS.
    let segments = f.cs & 0xffff | f.ss << 48;
    [
        ctx.restorer,
        flags,
        0,
        ctx.altstack.base.0,
        u64::from(ctx.altstack.flags),
        ctx.altstack.size,
        f.r8,
        f.r9,
        f.r10,
        f.r11,
        f.r12,
        f.r13,
        f.r14,
        f.r15,
        f.rdi,
        f.rsi,
        f.rbp,
        f.rbx,
        f.rdx,
        f.rax,
        f.rcx,
        f.rsp,
        f.rip,
        f.rflags,
        segments,
        f.error_code,
        trap_number(info),
        ctx.mask.0,
        ctx.fault_addr,
        ctx.fpu,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        ctx.mask.0,
    ]
}

/// What rt_sigreturn takes from a frame.
struct Restored {
    mask: SigSet,
    altstack: AltStack,
    fpu: u64,
}

/// Puts a frame's registers into `frame`; segment selectors stay user mode's, flags are
/// filtered. EFAULT for an instruction pointer outside the user half.
fn decode(words: &Words, frame: &mut TrapFrame) -> Result<Restored> {
    let word = |i: usize| words[UC_MCONTEXT + i];
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
        mask: SigSet(words[UC_SIGMASK]).blockable(),
        altstack: AltStack {
            base: UserAddr(words[UC_STACK]),
            flags: words[UC_STACK + 1] as u32,
            size: words[UC_STACK + 2],
        },
        fpu: words[UC_FPSTATE],
    })
}

/// What the software bytes of an FPU image say (`struct _fpx_sw_bytes`): that it is an XSAVE
/// image of `len` bytes with these components, and that a second mark follows it. All 0 for an
/// FXSAVE image.
fn marks(len: usize, xfeatures: u64) -> [u64; 6] {
    if xfeatures == 0 {
        return [0; 6];
    }
    let extended = len as u64 + size_of_val(&FP_XSTATE_MAGIC2) as u64;
    let magic1 = u64::from(FP_XSTATE_MAGIC1);
    [extended << 32 | magic1, xfeatures, len as u64, 0, 0, 0]
}

/// Bytes of XSAVE image that the software bytes announce, and its components; `None` for an
/// FXSAVE image, which is also what marks that make no sense mean (as on Linux).
fn announced(marks: &[u64; 3], own_bytes: usize) -> Option<(u64, u64)> {
    let [magic_and_extended, xfeatures, len] = *marks;
    let (magic1, extended) = (magic_and_extended as u32, magic_and_extended >> 32);
    let len = len & u64::from(u32::MAX);
    let fits = len >= (FXSAVE_BYTES + 64) as u64 && len <= own_bytes as u64 && len % 4 == 0;
    (magic1 == FP_XSTATE_MAGIC1 && fits && extended >= len).then_some((len, xfeatures))
}

/// Bytes that a signal frame takes at most on this machine (AT_MINSIGSTKSZ).
pub fn min_stack_bytes() -> u64 {
    (FRAME_BYTES + fpu::area_bytes() + END_BYTES + 64 + 16) as u64 + RED_ZONE
}

/// Sets `frame` up to run `action`'s handler for `info`; when it returns, `frame` goes on.
/// The caller is `task`'s thread. An error (EFAULT) leaves `frame` as it was.
pub(super) fn push(
    task: &Task,
    frame: &mut TrapFrame,
    info: &SigInfo,
    action: &Action,
) -> Result<()> {
    if action.flags & u64::from(abi::SA_RESTORER) == 0 {
        return Err(Errno::EFAULT);
    }
    let (altstack, current, mask) = {
        let mut ts = task.sig.lock();
        let current = ts.mask;
        let mask = ts.saved_mask.take().unwrap_or(current);
        (ts.altstack, current, mask)
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
    let fpu_bytes = fpu::area_bytes();
    let xfeatures = fpu::xfeatures();
    let place = place(start, (fpu_bytes + END_BYTES) as u64).ok_or(Errno::EFAULT)?;
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
    // The registers are the thread's own: the kernel uses none of them.
    let marks = marks(fpu_bytes, xfeatures);
    save_fpu(UserAddr(place.fpu), &marks, FP_XSTATE_MAGIC2)?;
    UserPtr::<Words>::new(UserAddr(place.sp)).write(encode(frame, info, &ctx))?;
    let info_at = place.sp + size_of::<Words>() as u64;
    if action.flags & u64::from(abi::SA_SIGINFO) != 0 {
        copy_to_user(UserAddr(info_at), &info.to_bytes())?;
    }
    if altstack.flags & SS_AUTODISARM != 0 {
        task.sig.lock().altstack = AltStack::DISABLED;
    }
    let mut blocked = current.with(action.mask);
    if action.flags & u64::from(abi::SA_NODEFER) == 0 {
        blocked = blocked.with(SigSet::of(info.signo));
    }
    signal::set_mask_of(task, blocked);
    crate::sched::current().reset_fpu();
    frame.rdi = u64::from(info.signo);
    frame.rsi = info_at;
    frame.rdx = place.sp + 8 * UC as u64;
    frame.rax = 0;
    frame.rsp = place.sp;
    frame.rip = action.handler;
    frame.rflags &= !(FLAG_DF | FLAG_RF | FLAG_TF);
    Ok(())
}

/// Takes a handler's frame down again (man 2 sigreturn): registers, FPU, mask, alternate
/// stack. The caller is `task`'s thread. EFAULT: the frame is not readable or makes no sense;
/// the caller sends SIGSEGV.
pub fn pop(task: &Task, frame: &mut TrapFrame) -> Result<()> {
    let at = frame.rsp.checked_sub(8).ok_or(Errno::EFAULT)?;
    let words = UserPtr::<Words>::new(UserAddr(at)).read()?;
    let restored = decode(&words, frame)?;
    restore_fpu(UserAddr(restored.fpu)).inspect_err(|_| crate::sched::current().reset_fpu())?;
    signal::set_mask_of(task, restored.mask);
    // As Linux: a stack that makes no sense is left out rather than refused.
    let _ = set_altstack(task, restored.altstack, frame.rsp);
    Ok(())
}

/// Loads the FPU registers from the image at `at`; NULL: the initial ones. EFAULT: not
/// readable, or not what the CPU takes; the registers are then anything.
fn restore_fpu(at: UserAddr) -> Result<()> {
    if at.0 == 0 {
        crate::sched::current().reset_fpu();
        return Ok(());
    }
    let field = |offset: u64| at.checked_add(offset).ok_or(Errno::EFAULT);
    // CPUs refuse reserved bits; emulators may take them.
    if load_u32(field(MXCSR)?)? & !fpu::mxcsr_mask() != 0 {
        return Err(Errno::EFAULT);
    }
    if fpu::xfeatures() == 0 {
        return load_fpu(at, None);
    }
    let marks = UserPtr::<[u64; 3]>::new(field(SW_BYTES)?).read()?;
    let components = match announced(&marks, fpu::area_bytes()) {
        Some((len, components)) if load_u32(field(len)?)? == FP_XSTATE_MAGIC2 => Some(components),
        _ => None,
    };
    load_fpu(at, components)
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
        assert_eq!(bytes[0], 0x1234);
        assert_eq!(bytes[UC_SEGMENTS], 0x002b_0000_0000_0033);
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
        bytes[UC_MCONTEXT + 17] = 0x3246;
        bytes[UC_SEGMENTS] = 0x8;
        decode(&bytes, &mut back).unwrap();
        assert_eq!((back.rflags, back.cs), (0x246, 0x33));
        bytes[UC_MCONTEXT + 16] = 0xffff_8000_0000_0000;
        assert!(decode(&bytes, &mut back).is_err());
    }

    #[test]
    fn offsets_are_the_headers() {
        // asm/ucontext.h: uc_stack 16, uc_mcontext 40, uc_sigmask 296; sigcontext fpstate 184.
        let offset = |word: usize| 8 * (word - UC);
        assert_eq!(offset(UC_STACK), 16);
        assert_eq!(offset(UC_MCONTEXT), 40);
        assert_eq!(offset(UC_SIGMASK), 296);
        assert_eq!(8 * (UC_FPSTATE - UC_MCONTEXT), 184);
        assert_eq!(size_of::<Words>() + SIGINFO_SIZE, FRAME_BYTES);
        assert_eq!(FRAME_BYTES, 440);
    }

    #[test]
    fn fpu_marks_are_believed_only_when_they_fit() {
        let six = marks(832, 7);
        // struct _fpx_sw_bytes: magic1, extended_size, xfeatures, xstate_size.
        assert_eq!(six, [836 << 32 | 0x4650_5853, 7, 832, 0, 0, 0]);
        assert_eq!(marks(512, 0), [0; 6]);
        let three = [six[0], six[1], six[2]];
        assert_eq!(announced(&three, 832), Some((832, 7)));
        assert_eq!(announced(&three, 800), None);
        // Padding behind the size is nobody's business.
        assert_eq!(announced(&[six[0], 7, 1 << 32 | 832], 832), Some((832, 7)));
        assert_eq!(announced(&[six[0] ^ 1, 7, 832], 832), None);
        assert_eq!(announced(&[six[0], 7, 512], 832), None);
        assert_eq!(announced(&[831 << 32 | 0x4650_5853, 7, 832], 832), None);
    }
}
