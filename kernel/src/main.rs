//! Entry of the kernel image: where the loader jumps to, and the panic handler.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod image {
    use bootloader_api::BootInfo;

    /// Where the loader jumps to: interrupts off, on the loader's stack and page tables
    /// (docs/boot.md).
    #[unsafe(no_mangle)]
    extern "C" fn _start(boot_info: &'static mut BootInfo) -> ! {
        // SAFETY: the loader calls this once, on the boot CPU, with its BootInfo.
        unsafe { oxbow_kernel::init::start(boot_info) }
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        oxbow_kernel::trap::panic::panic(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("oxbow-kernel runs on x86_64-unknown-none only");
}
