//! Exceptions from user and kernel mode: page faults to `vm`, the rest to signals or a
//! panic; and what is due before every return to user mode.
//!
//! Entered from `arch::entry` with a complete frame on the kernel stack.

#[cfg(target_os = "none")]
pub mod panic;
#[cfg(target_os = "none")]
mod report;

#[cfg(target_os = "none")]
mod entries {
    use super::report;
    use crate::arch::{self, TrapFrame, interrupts, ipi, percpu, regs, tlb};
    use crate::mm::UserAddr;
    use crate::mm::addr::USER_END;
    use crate::process;
    use crate::vm::space::{Access, FaultError};
    use core::sync::atomic::Ordering;

    unsafe extern "Rust" {
        /// `sched`'s preemption point.
        safe fn oxbow_preempt_point();
    }

    /// Vectors of exceptions (Intel SDM 3A, 6.15).
    const DIVIDE: u64 = 0;
    const DEBUG: u64 = 1;
    const NMI: u64 = 2;
    const BREAKPOINT: u64 = 3;
    const OVERFLOW: u64 = 4;
    const BOUND: u64 = 5;
    const INVALID_OPCODE: u64 = 6;
    const DEVICE_NOT_AVAILABLE: u64 = 7;
    const DOUBLE_FAULT: u64 = 8;
    const STACK_SEGMENT: u64 = 12;
    const PROTECTION: u64 = 13;
    const PAGE_FAULT: u64 = 14;
    const X87: u64 = 16;
    const ALIGNMENT: u64 = 17;
    const MACHINE_CHECK: u64 = 18;
    const SIMD: u64 = 19;

    /// Page-fault error code (SDM 3A, 4.7).
    const PF_WRITE: u64 = 1 << 1;
    const PF_USER: u64 = 1 << 2;
    const PF_RESERVED: u64 = 1 << 3;
    const PF_FETCH: u64 = 1 << 4;

    // Signal numbers and codes of man 2 sigaction (asm-generic/siginfo.h).
    const SIGILL: u32 = 4;
    const SIGTRAP: u32 = 5;
    const SIGBUS: u32 = 7;
    const SIGFPE: u32 = 8;
    const SIGKILL: u32 = 9;
    const SIGSEGV: u32 = 11;
    const SI_KERNEL: i32 = 0x80;
    const ILL_ILLOPN: i32 = 2;
    const FPE_INTDIV: i32 = 1;
    const FPE_FLTDIV: i32 = 3;
    const FPE_FLTOVF: i32 = 4;
    const FPE_FLTUND: i32 = 5;
    const FPE_FLTRES: i32 = 6;
    const FPE_FLTINV: i32 = 7;
    const SEGV_MAPERR: i32 = 1;
    const SEGV_ACCERR: i32 = 2;
    const BUS_ADRALN: i32 = 1;
    const BUS_ADRERR: i32 = 2;
    const TRAP_BRKPT: i32 = 1;
    const TRAP_TRACE: i32 = 2;

    /// Exceptions. Interrupts are off on entry; from user mode `oxbow_exit_to_user` follows.
    #[unsafe(no_mangle)]
    extern "C" fn oxbow_exception(frame: &mut TrapFrame) {
        let vector = frame.orig_rax;
        // Nothing to restart: signal delivery looks.
        frame.orig_rax = u64::MAX;
        match vector {
            NMI => nmi(),
            DOUBLE_FAULT => report::double_fault(frame),
            MACHINE_CHECK => report::fatal(frame, vector),
            PAGE_FAULT => page_fault(frame),
            _ if frame.from_user() => {
                arch::irq::irq_enable();
                user_exception(frame, vector);
            }
            // A program's FPU image that the CPU refuses.
            PROTECTION => match crate::vm::user::refused(frame.rip) {
                Some(fixup) => frame.rip = fixup,
                None => report::fatal(frame, vector),
            },
            _ => report::fatal(frame, vector),
        }
    }

    fn nmi() {
        if super::panic::is_panicking() {
            arch::cpu::halt_forever();
        }
        // Without a panic nobody sends one; a watchdog or a button may. Nothing to do.
    }

    fn page_fault(frame: &mut TrapFrame) {
        let address = regs::cr2();
        let error = frame.error_code;
        let access = if error & PF_FETCH != 0 {
            Access::Execute
        } else if error & PF_WRITE != 0 {
            Access::Write
        } else {
            Access::Read
        };
        if frame.from_user() {
            arch::irq::irq_enable();
            user_fault(frame, address, access);
            return;
        }
        // Kernel mode: a copy from or to a program's memory, or the kernel's own mistake.
        let fixup = crate::vm::user::fixup(frame.rip);
        if address >= USER_END || error & (PF_RESERVED | PF_USER | PF_FETCH) != 0 {
            report::fatal(frame, PAGE_FAULT);
        }
        let Some(fixup) = fixup else {
            report::fatal(frame, PAGE_FAULT);
        };
        // Whoever must not sleep gets the fault at once.
        if crate::sync::preempt::may_sleep() && frame.rflags & arch::trap_frame::RFLAGS_IF != 0 {
            arch::irq::irq_enable();
            let done = process::try_current()
                .is_some_and(|t| t.space().handle_fault(UserAddr(address), access).is_ok());
            let _ = arch::irq_save();
            if done {
                return;
            }
        }
        frame.rip = fixup;
    }

    fn user_fault(frame: &mut TrapFrame, address: u64, access: Access) {
        let Some(task) = process::try_current() else {
            report::fatal(frame, PAGE_FAULT);
        };
        let result = if address < USER_END && frame.error_code & PF_RESERVED == 0 {
            task.space().handle_fault(UserAddr(address), access)
        } else {
            Err(FaultError::NotMapped)
        };
        let (sig, code) = match result {
            Ok(()) => {
                task.note_fault(false);
                return;
            }
            Err(FaultError::NotMapped) => (SIGSEGV, SEGV_MAPERR),
            Err(FaultError::Forbidden) => (SIGSEGV, SEGV_ACCERR),
            Err(FaultError::Bus) => (SIGBUS, BUS_ADRERR),
            // No victim was found: the program itself has to go.
            Err(FaultError::OutOfMemory) => (SIGKILL, SI_KERNEL),
        };
        process::signal::force_fault(sig, code, UserAddr(address));
    }

    fn user_exception(frame: &mut TrapFrame, vector: u64) {
        let at = UserAddr(frame.rip);
        let (sig, code, at) = match vector {
            DIVIDE => (SIGFPE, FPE_INTDIV, at),
            DEBUG => (SIGTRAP, debug_code(), at),
            // As Linux: not TRAP_BRKPT.
            BREAKPOINT => (SIGTRAP, SI_KERNEL, UserAddr(0)),
            OVERFLOW | BOUND => (SIGSEGV, SI_KERNEL, UserAddr(0)),
            INVALID_OPCODE => (SIGILL, ILL_ILLOPN, at),
            DEVICE_NOT_AVAILABLE => (SIGFPE, SI_KERNEL, at),
            STACK_SEGMENT => (SIGBUS, SI_KERNEL, UserAddr(0)),
            X87 | SIMD => (SIGFPE, float_code(vector), at),
            ALIGNMENT => (SIGBUS, BUS_ADRALN, UserAddr(0)),
            // General protection, invalid TSS, segment not present, and what is to come.
            _ => (SIGSEGV, SI_KERNEL, UserAddr(0)),
        };
        process::signal::force_fault(sig, code, at);
    }

    /// The code for a debug exception: DR6 says what raised it, and keeps it until told
    /// otherwise (SDM 3, 18.2.3).
    fn debug_code() -> i32 {
        const SINGLE_STEP: u64 = 1 << 14;
        if regs::take_debug_status() & SINGLE_STEP != 0 {
            TRAP_TRACE
        } else {
            TRAP_BRKPT
        }
    }

    /// The code for a floating-point exception, from the registers that raised it: unmasked
    /// and set, in the order of severity (SDM 1, 8.5 and 11.5).
    fn float_code(vector: u64) -> i32 {
        let status = if vector == SIMD {
            let mut mxcsr = 0u32;
            // SAFETY: stores MXCSR to the local variable.
            unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack)) };
            mxcsr & !(mxcsr >> 7)
        } else {
            let (mut control, mut status) = (0u16, 0u16);
            // SAFETY: stores the x87 words to the local variables, without waiting.
            unsafe {
                core::arch::asm!("fnstcw [{}]", "fnstsw [{}]", in(reg) &mut control,
                    in(reg) &mut status, options(nostack))
            };
            u32::from(status & !control)
        };
        match status & 0x3f {
            s if s & 0x01 != 0 => FPE_FLTINV,
            s if s & 0x04 != 0 => FPE_FLTDIV,
            s if s & 0x08 != 0 => FPE_FLTOVF,
            s if s & 0x12 != 0 => FPE_FLTUND,
            s if s & 0x20 != 0 => FPE_FLTRES,
            _ => 0,
        }
    }

    /// Device, timer and inter-processor interrupts. Interrupts are off.
    #[unsafe(no_mangle)]
    extern "C" fn oxbow_interrupt(frame: &mut TrapFrame) {
        let vector = frame.orig_rax as u8;
        frame.orig_rax = u64::MAX;
        crate::sync::preempt::raw::raise();
        percpu::interrupted_at(frame, || {
            crate::sync::spin::in_interrupt(|| interrupt(vector));
        });
        crate::sync::preempt::raw::lower_no_resched();
        // User mode is left to `oxbow_exit_to_user`. Kernel mode with interrupts on and
        // nothing held is preempted here.
        if !frame.from_user() && frame.rflags & arch::trap_frame::RFLAGS_IF != 0 {
            let this = percpu::this();
            if this.need_resched.load(Ordering::Relaxed)
                && this.preempt_count.load(Ordering::Relaxed) == 0
            {
                oxbow_preempt_point();
            }
        }
    }

    fn interrupt(vector: u8) {
        const RESCHEDULE: u8 = ipi::Ipi::Reschedule as u8;
        const SHOOTDOWN: u8 = ipi::Ipi::Shootdown as u8;
        const CALL: u8 = ipi::Ipi::Call as u8;
        const STOP: u8 = ipi::Ipi::Stop as u8;
        if vector == interrupts::SPURIOUS {
            return;
        }
        interrupts::count_one(vector);
        match vector {
            interrupts::TIMER => {
                arch::apic::end_of_interrupt();
                arch::clock::timer_interrupt();
            }
            RESCHEDULE => {
                percpu::this().need_resched.store(true, Ordering::Relaxed);
                arch::apic::end_of_interrupt();
            }
            SHOOTDOWN => {
                tlb::answer();
                arch::apic::end_of_interrupt();
            }
            CALL => {
                ipi::answer_call();
                arch::apic::end_of_interrupt();
            }
            STOP => arch::cpu::halt_forever(),
            _ => {
                if !interrupts::run_handlers(vector) {
                    warn!("interrupt vector {vector:#x} has no handler");
                }
                arch::apic::end_of_interrupt();
            }
        }
    }

    /// Last before every return to user mode. Returns with interrupts off and nothing due.
    #[unsafe(no_mangle)]
    extern "C" fn oxbow_exit_to_user(frame: &mut TrapFrame) {
        loop {
            arch::irq::irq_disable();
            let resched = percpu::this().need_resched.load(Ordering::Relaxed);
            let attention = crate::sched::current().wants_attention();
            // A restart code in rax of a system call wants a decision even if the reason to
            // interrupt has gone.
            let restart = frame.orig_rax != u64::MAX && (-516..=-512).contains(&(frame.rax as i64));
            if !resched && !attention && !restart {
                break;
            }
            exit_work(frame, resched, attention || restart);
        }
        // `iretq` to an address that is not canonical faults in kernel mode. The page just
        // above the user half is never mapped: the program faults there instead.
        if frame.rip > USER_END {
            frame.rip = USER_END;
        }
    }

    /// Apart, so that the way out saves no registers when nothing is due.
    #[cold]
    #[inline(never)]
    fn exit_work(frame: &mut TrapFrame, resched: bool, attention: bool) {
        arch::irq::irq_enable();
        if resched {
            oxbow_preempt_point();
        }
        if attention {
            process::signal::deliver(frame);
        }
    }

    /// System calls. Interrupts are on.
    #[unsafe(no_mangle)]
    extern "C" fn oxbow_syscall(frame: &mut TrapFrame) {
        crate::syscall::dispatch(frame);
    }
}
