//! The initramfs that Linux starts from: our benchmark program as `/init`, and modules.

/// Appends one entry of a cpio archive in the "newc" format (man 5 cpio).
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let number = archive.len() as u32;
    let fields = [
        number,
        mode,
        0,
        0,
        1,
        0,
        content.len() as u32,
        0,
        0,
        0,
        0,
        name.len() as u32 + 1,
        0,
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// An archive with `init` and `modules`, which are loaded in this order.
pub fn build(init: &[u8], modules: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for folder in ["dev", "modules"] {
        entry(&mut archive, folder, 0o040_755, &[]);
    }
    entry(&mut archive, "init", 0o100_755, init);
    for (i, module) in modules.iter().enumerate() {
        entry(&mut archive, &format!("modules/{i}.ko"), 0o100_644, module);
    }
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_start_at_multiples_of_four() {
        let archive = build(b"12345", &[vec![1, 2, 3]]);
        assert_eq!(archive.len() % 4, 0);
        let starts = archive
            .windows(6)
            .enumerate()
            .filter(|(_, w)| w == b"070701");
        let starts: Vec<usize> = starts.map(|(i, _)| i).collect();
        assert_eq!(starts.len(), 5);
        assert!(starts.iter().all(|s| s % 4 == 0));
    }
}
