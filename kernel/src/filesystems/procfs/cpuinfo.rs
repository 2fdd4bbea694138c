//! /proc/cpuinfo, from CPUID.

use alloc::string::String;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid_count;
use core::fmt::Write;

#[derive(Clone, Copy)]
struct Leaf {
    eax: u32,
    ebx: u32,
    ecx: u32,
    edx: u32,
}

fn cpuid(leaf: u32, sub: u32) -> Leaf {
    let r = __cpuid_count(leaf, sub);
    Leaf {
        eax: r.eax,
        ebx: r.ebx,
        ecx: r.ecx,
        edx: r.edx,
    }
}

/// Names of the bits, lowest first; empty ones are not shown.
const LEAF1_EDX: [&str; 32] = [
    "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr", "pge",
    "mca", "cmov", "pat", "pse36", "pn", "clflush", "", "dts", "acpi", "mmx", "fxsr", "sse",
    "sse2", "ss", "ht", "tm", "ia64", "pbe",
];
const LEAF1_ECX: [&str; 32] = [
    "pni",
    "pclmulqdq",
    "dtes64",
    "monitor",
    "ds_cpl",
    "vmx",
    "smx",
    "est",
    "tm2",
    "ssse3",
    "cid",
    "sdbg",
    "fma",
    "cx16",
    "xtpr",
    "pdcm",
    "",
    "pcid",
    "dca",
    "sse4_1",
    "sse4_2",
    "x2apic",
    "movbe",
    "popcnt",
    "tsc_deadline_timer",
    "aes",
    "xsave",
    "",
    "avx",
    "f16c",
    "rdrand",
    "hypervisor",
];
const LEAF7_EBX: [&str; 32] = [
    "fsgsbase",
    "tsc_adjust",
    "sgx",
    "bmi1",
    "hle",
    "avx2",
    "",
    "smep",
    "bmi2",
    "erms",
    "invpcid",
    "rtm",
    "cqm",
    "",
    "mpx",
    "rdt_a",
    "avx512f",
    "avx512dq",
    "rdseed",
    "adx",
    "smap",
    "avx512ifma",
    "",
    "clflushopt",
    "clwb",
    "intel_pt",
    "avx512pf",
    "avx512er",
    "avx512cd",
    "sha_ni",
    "avx512bw",
    "avx512vl",
];
const EXT_EDX: [(u32, &str); 6] = [
    (11, "syscall"),
    (20, "nx"),
    (25, "fxsr_opt"),
    (26, "pdpe1gb"),
    (27, "rdtscp"),
    (29, "lm"),
];
const EXT_ECX: [(u32, &str); 8] = [
    (0, "lahf_lm"),
    (1, "cmp_legacy"),
    (2, "svm"),
    (4, "cr8_legacy"),
    (5, "abm"),
    (6, "sse4a"),
    (7, "misalignsse"),
    (8, "3dnowprefetch"),
];

fn flags(max: u32, max_ext: u32) -> String {
    let mut out = String::new();
    let mut add = |name: &str| {
        if !name.is_empty() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(name);
        }
    };
    let one = cpuid(1, 0);
    let mut bits = |names: &[&str; 32], value: u32| {
        for (i, name) in names.iter().enumerate() {
            if value & (1 << i) != 0 {
                add(name);
            }
        }
    };
    bits(&LEAF1_EDX, one.edx);
    bits(&LEAF1_ECX, one.ecx);
    if max >= 7 {
        bits(&LEAF7_EBX, cpuid(7, 0).ebx);
    }
    if max_ext >= 0x8000_0001 {
        let ext = cpuid(0x8000_0001, 0);
        for (value, names) in [(ext.edx, &EXT_EDX[..]), (ext.ecx, &EXT_ECX[..])] {
            for (bit, name) in names {
                if value & (1 << bit) != 0 {
                    add(name);
                }
            }
        }
    }
    out
}

/// The text of a register string, without padding.
fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let text = String::from_utf8_lossy(&bytes);
    String::from(text.trim_matches(|c: char| c == '\0' || c == ' '))
}

/// The file's content: the CPUs are alike.
pub fn cpuinfo(nr_cpus: usize, tsc_hz: u64) -> Vec<u8> {
    let zero = cpuid(0, 0);
    let one = cpuid(1, 0);
    let max_ext = cpuid(0x8000_0000, 0).eax;
    let mut family = one.eax >> 8 & 15;
    let mut model = one.eax >> 4 & 15;
    if family == 15 {
        family += one.eax >> 20 & 0xff;
    }
    if family >= 6 {
        model |= (one.eax >> 16 & 15) << 4;
    }
    let name = if max_ext >= 0x8000_0004 {
        let mut words = Vec::new();
        for leaf in 0x8000_0002..=0x8000_0004 {
            let l = cpuid(leaf, 0);
            words.extend([l.eax, l.ebx, l.ecx, l.edx]);
        }
        text(&words)
    } else {
        String::from("unknown")
    };
    let (physical, linear) = if max_ext >= 0x8000_0008 {
        let l = cpuid(0x8000_0008, 0).eax;
        (l & 0xff, l >> 8 & 0xff)
    } else {
        (36, 48)
    };
    let cache_kib = if max_ext >= 0x8000_0006 {
        cpuid(0x8000_0006, 0).ecx >> 16
    } else {
        0
    };
    let vendor = text(&[zero.ebx, zero.edx, zero.ecx]);
    let flags = flags(zero.eax, max_ext);
    let khz = tsc_hz / 1000;
    let mut out = String::new();
    for cpu in 0..nr_cpus {
        let _ = write!(
            out,
            "processor\t: {cpu}\n\
             vendor_id\t: {vendor}\n\
             cpu family\t: {family}\n\
             model\t\t: {model}\n\
             model name\t: {name}\n\
             stepping\t: {}\n\
             cpu MHz\t\t: {}.{:03}\n\
             cache size\t: {cache_kib} KB\n\
             physical id\t: {cpu}\n\
             siblings\t: 1\n\
             core id\t\t: 0\n\
             cpu cores\t: 1\n\
             apicid\t\t: {cpu}\n\
             initial apicid\t: {cpu}\n\
             fpu\t\t: yes\n\
             fpu_exception\t: yes\n\
             cpuid level\t: {}\n\
             wp\t\t: yes\n\
             flags\t\t: {flags}\n\
             bugs\t\t:\n\
             bogomips\t: {}.{:02}\n\
             clflush size\t: {}\n\
             cache_alignment\t: {}\n\
             address sizes\t: {physical} bits physical, {linear} bits virtual\n\
             power management:\n\n",
            one.eax & 15,
            khz / 1000,
            khz % 1000,
            zero.eax,
            khz * 2 / 1000,
            khz * 2 % 1000 / 10,
            (one.ebx >> 8 & 0xff) * 8,
            (one.ebx >> 8 & 0xff) * 8,
        );
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_block_per_cpu() {
        let text = String::from_utf8(super::cpuinfo(2, 2_500_000_000)).unwrap();
        assert_eq!(text.matches("processor\t:").count(), 2);
        assert!(text.contains("cpu MHz\t\t: 2500.000\n"));
        assert!(text.contains(" sse2 "));
        assert!(text.ends_with("\n\n"));
    }
}
