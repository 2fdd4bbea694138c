//! Picks and sets a graphics mode (VESA BIOS Extensions 3.0), and prints text without one.

use crate::layout::ANSWER;
use crate::real_mode::{self, Registers};
use bootloader_api::info::{FrameBufferInfo, PixelFormat};
use core::fmt;
use oxbow_loader_core::load::Screen;

/// Wanted size in pixels.
const WIDTH: u16 = 1024;
const HEIGHT: u16 = 768;
/// Numbers that common BIOSes give 1024x768 in 32 bits, tried before the list is walked:
/// the Bochs and SeaBIOS one, the one of VirtualBox and VMware.
const LIKELY: [u16; 2] = [0x144, 0x118];
/// Longest mode list that is walked.
const MAX_MODES: u32 = 256;

/// A mode that can be set.
#[derive(Clone, Copy)]
pub struct Mode {
    number: u16,
    /// What the mode looks like once set.
    pub screen: Screen,
}

fn vbe(function: u32, ebx: u32, ecx: u32) -> Option<[u8; 512]> {
    let result = real_mode::call(
        0x10,
        Registers {
            eax: 0x4f00 | function,
            ebx,
            ecx,
            edi: ANSWER as u32,
            ..Registers::default()
        },
    );
    (result.eax & 0xffff == 0x004f).then(real_mode::answer)
}

/// The 1024x768 mode with 32 bits per pixel and a linear framebuffer, if there is one.
pub fn pick() -> Option<Mode> {
    real_mode::set_answer(b"VBE2");
    let info = vbe(0, 0, 0)?;
    if !info.starts_with(b"VESA") || info[5] < 2 {
        return None;
    }
    if let Some(mode) = LIKELY.into_iter().find_map(query) {
        return Some(mode);
    }
    let list = u32::from_le_bytes([info[14], info[15], info[16], info[17]]);
    (0..MAX_MODES)
        .map(|i| real_mode::far_word(list.wrapping_add(2 * i)))
        .take_while(|number| *number != 0xffff)
        .find_map(query)
}

fn query(number: u16) -> Option<Mode> {
    let info = vbe(1, 0, number.into())?;
    let u16_at = |at: usize| u16::from_le_bytes([info[at], info[at + 1]]);
    let phys = u32::from_le_bytes([info[40], info[41], info[42], info[43]]);
    // Supported, colour, graphics, with a linear framebuffer; direct colour.
    let usable = u16_at(0) & 0x99 == 0x99 && info[27] == 6 && phys != 0;
    if !usable || u16_at(18) != WIDTH || u16_at(20) != HEIGHT || info[25] != 32 {
        return None;
    }
    let pitch = usize::from(u16_at(16));
    let (red, green, blue) = (info[32], info[34], info[36]);
    let pixel_format = match (red, green, blue) {
        (16, 8, 0) => PixelFormat::Bgr,
        (0, 8, 16) => PixelFormat::Rgb,
        _ => PixelFormat::Unknown {
            red_position: red,
            green_position: green,
            blue_position: blue,
        },
    };
    Some(Mode {
        number,
        screen: Screen {
            phys: phys.into(),
            info: FrameBufferInfo {
                byte_len: pitch * usize::from(HEIGHT),
                width: WIDTH.into(),
                height: HEIGHT.into(),
                pixel_format,
                bytes_per_pixel: 4,
                stride: pitch / 4,
            },
        },
    })
}

/// Sets `mode` with its linear framebuffer, black; `false` when the BIOS refuses.
pub fn set(mode: &Mode) -> bool {
    // 0x8000: memory is left as it is. Some BIOSes take several milliseconds to clear it.
    let set = vbe(2, u32::from(mode.number) | 0xc000, 0).is_some();
    if set {
        let Screen { phys, info } = mode.screen;
        // SAFETY: the framebuffer that the BIOS just described, in the first 4 GiB, which are
        // mapped; no reference to it exists.
        unsafe { (phys as *mut u8).write_bytes(0, info.byte_len) };
    }
    set
}

/// Writes to the screen in the text mode the BIOS left, through the BIOS.
pub struct Text;

impl fmt::Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            for byte in (byte == b'\n').then_some(b'\r').into_iter().chain([byte]) {
                real_mode::call(
                    0x10,
                    Registers {
                        eax: 0x0e00 | u32::from(byte),
                        ebx: 7,
                        ..Registers::default()
                    },
                );
            }
        }
        Ok(())
    }
}
