//! Text on the framebuffer that the loader left: what the log shows on the console, for
//! somebody who looks at the screen and not at the serial port. A panic must be readable there.
//!
//! Not a terminal: programs do not write here, lines do not scroll. Below the last line it goes
//! on at the top of an empty screen. Called by the log only, from any context.

use core::sync::atomic::{AtomicBool, Ordering};

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Height of a line in pixels.
const LINE: usize = 16;
const HEIGHT: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;
/// Pixels left free at the left and the right edge.
const MARGIN: usize = 8;

/// The framebuffer and the place of the next character.
struct Screen {
    /// Mapped, write-back, `stride * height` bytes; empty without a screen.
    pixels: &'static mut [u8],
    /// Bytes from one row to the next.
    stride: usize,
    /// Bytes of a pixel.
    depth: usize,
    width: usize,
    height: usize,
    x: usize,
    y: usize,
}

/// Guards `SCREEN`: whoever finds it taken goes without, because a panic may have stopped the
/// holder.
static BUSY: AtomicBool = AtomicBool::new(false);
static mut SCREEN: Screen = Screen {
    pixels: &mut [],
    stride: 0,
    depth: 0,
    width: 0,
    height: 0,
    x: 0,
    y: 0,
};

/// Takes the framebuffer, of `width` times `height` pixels of `depth` bytes each, rows `stride`
/// bytes apart, and empties it. One whose numbers do not fit is left alone. Boot CPU, once.
pub fn init(pixels: &'static mut [u8], width: usize, height: usize, stride: usize, depth: usize) {
    let fits = width >= 320
        && height >= 2 * LINE
        && depth > 0
        && width.checked_mul(depth).is_some_and(|row| row <= stride)
        && stride
            .checked_mul(height)
            .is_some_and(|all| all <= pixels.len());
    if fits {
        pixels.fill(0);
        with(|screen| {
            *screen = Screen {
                pixels,
                stride,
                depth,
                width,
                height,
                x: MARGIN,
                y: 0,
            };
        });
    }
}

fn with(f: impl FnOnce(&mut Screen)) {
    let irq = crate::arch::irq_save();
    let mut turns = 0;
    while BUSY
        .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        turns += 1;
        if turns > 1_000_000 {
            crate::arch::irq_restore(irq);
            return;
        }
        crate::arch::cpu::relax();
    }
    let screen = &raw mut SCREEN;
    // SAFETY: BUSY is held and interrupts are off: the only reference.
    f(unsafe { &mut *screen });
    BUSY.store(false, Ordering::Release);
    crate::arch::irq_restore(irq);
}

/// Shows text. A log sink.
pub fn write(text: &str) {
    with(|screen| {
        if !screen.pixels.is_empty() {
            text.chars().for_each(|c| screen.put(c));
        }
    });
}

impl Screen {
    fn put(&mut self, c: char) {
        let advance = get_raster_width(WEIGHT, HEIGHT);
        if c == '\n' || self.x + advance + MARGIN > self.width {
            self.x = MARGIN;
            self.y += LINE;
            if self.y + LINE > self.height {
                self.pixels.fill(0);
                self.y = 0;
            }
        }
        if c.is_control() {
            return;
        }
        let Some(glyph) = get_raster(c, WEIGHT, HEIGHT).or_else(|| get_raster('?', WEIGHT, HEIGHT))
        else {
            return;
        };
        for (row, shades) in glyph.raster().iter().enumerate().take(LINE) {
            let start = (self.y + row) * self.stride + self.x * self.depth;
            let end = start + shades.len() * self.depth;
            // Grey is the same in every order of the colours.
            if let Some(pixels) = self.pixels.get_mut(start..end) {
                for (pixel, &shade) in pixels.chunks_exact_mut(self.depth).zip(*shades) {
                    pixel.fill(shade);
                }
            }
        }
        self.x += advance;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(width: usize, height: usize, depth: usize) -> Screen {
        let stride = width * depth + 12;
        Screen {
            pixels: std::vec![0; stride * height].leak(),
            stride,
            depth,
            width,
            height,
            x: MARGIN,
            y: 0,
        }
    }

    fn lit(s: &Screen, rows: core::ops::Range<usize>) -> usize {
        s.pixels[rows.start * s.stride..rows.end * s.stride]
            .iter()
            .filter(|b| **b != 0)
            .count()
    }

    #[test]
    fn text_is_drawn_wrapped_and_starts_again_at_the_top() {
        for depth in [2, 3, 4] {
            let mut s = screen(320, 3 * LINE + 5, depth);
            "panic".chars().for_each(|c| s.put(c));
            let first = lit(&s, 0..LINE);
            assert!(first > 100 * depth / 4 && lit(&s, LINE..s.height) == 0);
            let columns = (s.width - 2 * MARGIN) / get_raster_width(WEIGHT, HEIGHT);
            "x".repeat(columns).chars().for_each(|c| s.put(c));
            assert!(lit(&s, LINE..2 * LINE) > 0 && s.y == LINE);
            // Past the last line everything before is gone.
            "\n\n\u{1f600}\x07".chars().for_each(|c| s.put(c));
            assert_eq!(s.y, 0);
            assert!(lit(&s, 0..LINE) < first && lit(&s, LINE..s.height) == 0);
        }
    }
}
