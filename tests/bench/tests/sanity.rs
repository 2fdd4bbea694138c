//! Every row that needs no peer on the host gives a figure on Oxbow. How large it is nobody judges.

use std::path::{Path, PathBuf};

use oxbow_harness::{Config, DataDisk, Machine, host};

/// Rows that are left out: those with a peer on the host, and one that sorts for seconds.
fn is_left_out(row: &str) -> bool {
    row.contains("-host-") || row == "sort-20m"
}

fn build(folder: &Path) -> PathBuf {
    let out = folder.join("bench");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("program");
    let mut args = vec!["-O2".to_owned(), "-w".into(), "-static".into(), "-o".into()];
    args.push(out.display().to_string());
    for entry in std::fs::read_dir(sources).expect("the program's sources") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "c") {
            args.push(path.display().to_string());
        }
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    host("musl-gcc", &args);
    out
}

#[test]
fn every_row_gives_a_figure() {
    let folder = std::env::temp_dir().join(format!("oxbow-sanity-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let program = build(&folder);
    let listed = host(&program.to_string_lossy(), &["-d", "/tmp", "list"]);
    let rows: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split('\t').next())
        .filter(|row| !is_left_out(row))
        .collect();
    assert!(rows.len() > 40, "too few rows: {rows:?}");

    let disk = DataDisk::new(256, &[(&program, "bench")]);
    let mut m = Machine::boot(&Config::default().with_disk(&disk));
    m.ok("mount -t ext2 /dev/vdb /mnt");
    let mut missing = Vec::new();
    for row in rows {
        let text = m
            .run_for(
                &format!("/mnt/bench -q -d /mnt/work -D /dev/vda run {row}"),
                60,
            )
            .text;
        let figure = text
            .lines()
            .find_map(|line| line.strip_prefix("ROW ")?.strip_prefix(row));
        let value = figure.and_then(|f| f.split_whitespace().next()?.parse::<f64>().ok());
        if value.is_none_or(|v| v <= 0.0) {
            missing.push(format!("{row}: {}", text.trim()));
        }
    }
    m.power_off();
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
    assert!(missing.is_empty(), "{missing:#?}");
}
