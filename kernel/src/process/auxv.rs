//! The first stack of a program: arguments, environment, auxiliary vector (System V ABI,
//! AMD64, 3.4.1; man 3 getauxval). Pure; host-tested.

use alloc::vec::Vec;

use crate::abi::auxvec as a;
use crate::error::{Errno, Result};

/// Longest single string, its NUL counted (MAX_ARG_STRLEN).
pub const MAX_STRING: usize = 128 * 1024;
/// Room that argument strings have however small the stack limit is (ARG_MAX).
const MIN_TOTAL: u64 = 128 * 1024;
/// Room that they have at most: three quarters of 8 MiB, as Linux.
const MAX_TOTAL: u64 = 6 << 20;

/// NUL-terminated strings, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    bytes: Vec<u8>,
    count: usize,
}

impl Strings {
    /// None.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            count: 0,
        }
    }
    /// Adds a string. E2BIG when it is too long, ENOMEM.
    pub fn push(&mut self, s: &[u8]) -> Result<()> {
        if s.len() >= MAX_STRING {
            return Err(Errno::E2BIG);
        }
        self.bytes
            .try_reserve(s.len() + 1)
            .map_err(|_| Errno::ENOMEM)?;
        self.bytes.extend_from_slice(s);
        self.bytes.push(0);
        self.count += 1;
        Ok(())
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// Bytes, NULs counted.
    pub fn nr_bytes(&self) -> usize {
        self.bytes.len()
    }
    /// Each string without its NUL.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|&b| b == 0).take(self.count)
    }
    /// Puts `front` before the strings, in place of the first `drop` ones (`#!` scripts).
    /// E2BIG, ENOMEM.
    pub fn replace_front(&mut self, drop: usize, front: &[&[u8]]) -> Result<()> {
        let mut out = Strings::new();
        for s in front {
            out.push(s)?;
        }
        for s in self.iter().skip(drop) {
            out.push(s)?;
        }
        *self = out;
        Ok(())
    }
}

/// E2BIG unless arguments and environment fit (man 2 execve, "Limits on size of arguments and
/// environment"): a quarter of the stack limit, within bounds.
pub fn check_total(args: &Strings, env: &Strings, stack_limit: u64) -> Result<()> {
    let room = (stack_limit / 4).clamp(MIN_TOTAL, MAX_TOTAL);
    let pointers = (args.len().max(1) + env.len()) * 8;
    if (args.nr_bytes() + env.nr_bytes() + pointers) as u64 > room {
        return Err(Errno::E2BIG);
    }
    Ok(())
}

/// What the auxiliary vector tells.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "named as AT_*, man 3 getauxval")]
pub struct AuxInfo {
    pub phdr: u64,
    pub phnum: u64,
    pub base: u64,
    pub entry: u64,
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    pub egid: u32,
    pub secure: bool,
    pub hwcap: u64,
    pub hwcap2: u64,
    pub minsigstksz: u64,
    pub random: [u8; 16],
    /// 0: none.
    pub vdso: u64,
}

/// A stack ready to be written.
#[derive(Debug)]
pub struct StackImage {
    /// Stack pointer at entry, 16-byte aligned; `bytes` begin here.
    pub sp: u64,
    /// Everything from `sp` to the top.
    pub bytes: Vec<u8>,
    /// Addresses of the argument strings (/proc/pid/cmdline).
    pub args: (u64, u64),
    /// Addresses of the environment strings (/proc/pid/environ).
    pub env: (u64, u64),
    /// Addresses of the auxiliary vector (/proc/pid/auxv).
    pub auxv: (u64, u64),
}

const PLATFORM: &[u8] = b"x86_64\0";

/// Lays out the stack below `top` (page-aligned). ENOMEM.
pub fn build(
    top: u64,
    exec_name: &[u8],
    args: &Strings,
    env: &Strings,
    aux: &AuxInfo,
) -> Result<StackImage> {
    // From the top down: a null word, then strings.
    let name_at = top - 8 - (exec_name.len() as u64 + 1);
    let env_at = name_at - env.nr_bytes() as u64;
    let args_at = env_at - args.nr_bytes() as u64;
    let platform_at = args_at - PLATFORM.len() as u64;
    let random_at = (platform_at - 16) & !15;
    let vector = [
        // A kernel without it says AT_IGNORE.
        match aux.vdso {
            0 => (a::AT_IGNORE, 0),
            at => (a::AT_SYSINFO_EHDR, at),
        },
        (a::AT_HWCAP, aux.hwcap),
        (a::AT_PAGESZ, 4096),
        (a::AT_CLKTCK, 100),
        (a::AT_PHDR, aux.phdr),
        (a::AT_PHENT, 56),
        (a::AT_PHNUM, aux.phnum),
        (a::AT_BASE, aux.base),
        (a::AT_FLAGS, 0),
        (a::AT_ENTRY, aux.entry),
        (a::AT_UID, u64::from(aux.uid)),
        (a::AT_EUID, u64::from(aux.euid)),
        (a::AT_GID, u64::from(aux.gid)),
        (a::AT_EGID, u64::from(aux.egid)),
        (a::AT_SECURE, u64::from(aux.secure)),
        (a::AT_RANDOM, random_at),
        (a::AT_HWCAP2, aux.hwcap2),
        (a::AT_MINSIGSTKSZ, aux.minsigstksz),
        (a::AT_EXECFN, name_at),
        (a::AT_PLATFORM, platform_at),
        (a::AT_NULL, 0),
    ];
    let auxv_bytes = 16 * vector.len() as u64;
    let words = 1 + args.len() + 1 + env.len() + 1 + 2 * vector.len();
    let sp = (random_at - 8 * words as u64) & !15;
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact((top - sp) as usize)
        .map_err(|_| Errno::ENOMEM)?;
    let mut word = |v: u64| bytes.extend_from_slice(&v.to_le_bytes());
    word(args.len() as u64);
    for (strings, start) in [(args, args_at), (env, env_at)] {
        let mut at = start;
        for s in strings.iter() {
            word(at);
            at += s.len() as u64 + 1;
        }
        word(0);
    }
    let auxv_at = sp + 8 * (3 + args.len() + env.len()) as u64;
    for (key, value) in vector {
        word(u64::from(key));
        word(value);
    }
    let pad_to = |bytes: &mut Vec<u8>, at: u64| bytes.resize((at - sp) as usize, 0);
    pad_to(&mut bytes, random_at);
    bytes.extend_from_slice(&aux.random);
    pad_to(&mut bytes, platform_at);
    bytes.extend_from_slice(PLATFORM);
    bytes.extend_from_slice(&args.bytes);
    bytes.extend_from_slice(&env.bytes);
    bytes.extend_from_slice(exec_name);
    pad_to(&mut bytes, top);
    Ok(StackImage {
        sp,
        bytes,
        args: (args_at, env_at),
        env: (env_at, name_at),
        auxv: (auxv_at, auxv_at + auxv_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Strings {
        let mut s = Strings::new();
        for item in list {
            s.push(item.as_bytes()).unwrap();
        }
        s
    }

    const AUX: AuxInfo = AuxInfo {
        phdr: 0x40_0040,
        phnum: 5,
        base: 0,
        entry: 0x40_1000,
        uid: 1,
        euid: 2,
        gid: 3,
        egid: 4,
        secure: true,
        hwcap: 7,
        hwcap2: 2,
        minsigstksz: 2048,
        random: [9; 16],
        vdso: 0x7000,
    };
    const TOP: u64 = 0x7fff_0000_0000;

    fn word(img: &StackImage, index: usize) -> u64 {
        let at = index * 8;
        u64::from_le_bytes(img.bytes[at..at + 8].try_into().unwrap())
    }
    fn cstr(img: &StackImage, addr: u64) -> &str {
        let b = &img.bytes[(addr - img.sp) as usize..];
        core::str::from_utf8(&b[..b.iter().position(|&c| c == 0).unwrap()]).unwrap()
    }

    #[test]
    fn program_finds_everything() {
        for n in 0..4 {
            let args = strings(&["prog", "", "two"][..n.min(3)]);
            let env = strings(&["A=1", "B=2"][..n.min(2)]);
            let img = build(TOP, b"/bin/prog", &args, &env, &AUX).unwrap();
            assert_eq!(img.sp % 16, 0);
            assert_eq!(img.sp + img.bytes.len() as u64, TOP);
            assert_eq!(word(&img, 0) as usize, args.len());
            for (i, s) in args.iter().enumerate() {
                assert_eq!(cstr(&img, word(&img, 1 + i)).as_bytes(), s);
            }
            let mut at = 1 + args.len();
            assert_eq!(word(&img, at), 0);
            for s in env.iter() {
                at += 1;
                assert_eq!(cstr(&img, word(&img, at)).as_bytes(), s);
            }
            at += 1;
            assert_eq!(word(&img, at), 0);
            at += 1;
            assert_eq!(img.auxv.0, img.sp + 8 * at as u64);
            let mut seen = std::collections::HashMap::new();
            loop {
                let (k, v) = (word(&img, at), word(&img, at + 1));
                seen.insert(k as u32, v);
                at += 2;
                if k == 0 {
                    break;
                }
            }
            assert_eq!(img.auxv.1, img.sp + 8 * at as u64);
            assert_eq!(seen[&a::AT_PHDR], AUX.phdr);
            assert_eq!(seen[&a::AT_EGID], 4);
            assert_eq!(seen[&a::AT_SYSINFO_EHDR], 0x7000);
            assert_eq!(cstr(&img, seen[&a::AT_EXECFN]), "/bin/prog");
            assert_eq!(cstr(&img, seen[&a::AT_PLATFORM]), "x86_64");
            let random = (seen[&a::AT_RANDOM] - img.sp) as usize;
            assert_eq!(img.bytes[random..random + 16], [9; 16]);
        }
    }

    #[test]
    fn limits_are_linux() {
        let mut s = Strings::new();
        assert_eq!(s.push(&vec![b'x'; MAX_STRING]), Err(Errno::E2BIG));
        assert_eq!(s.push(&vec![b'x'; MAX_STRING - 1]), Ok(()));
        assert_eq!(check_total(&s, &Strings::new(), 8 << 20), Ok(()));
        assert_eq!(check_total(&s, &Strings::new(), 0), Err(Errno::E2BIG));
        for _ in 0..47 {
            s.push(&vec![b'x'; MAX_STRING - 1]).unwrap();
        }
        assert_eq!(
            check_total(&s, &Strings::new(), u64::MAX),
            Err(Errno::E2BIG)
        );
    }

    #[test]
    fn script_arguments() {
        let mut s = strings(&["old", "a", ""]);
        s.replace_front(1, &[b"/bin/sh", b"-e", b"/x.sh"]).unwrap();
        let got: Vec<_> = s.iter().collect();
        assert_eq!(got, [&b"/bin/sh"[..], b"-e", b"/x.sh", b"a", b""]);
    }
}
