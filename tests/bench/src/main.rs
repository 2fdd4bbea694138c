//! Measures Oxbow against Linux: both are booted in the same kind of virtual machine and asked
//! for row after row in turn, so that whatever else the host does meets both of them alike.
//!
//! Called by `build/bench/bench.sh`, which builds what it needs. Environment: `ROW` (names,
//! or parts of names, separated by commas; default all), `QUICK=1`, `ROUNDS` (how often in turn),
//! `ONLY=times|instructions|boot` (default all three; with `ROW` all but boot).
//! `FLAME=1` draws where the time of the row `ROW` goes instead of comparing it.

mod boot;
mod flame;
mod guest;
mod initramfs;
mod peer;
mod report;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use guest::{Guest, Setting, System};
use stats::Row;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Which rows, and how.
struct Plan {
    rows: Vec<(String, bool)>,
    rounds: usize,
    quick: bool,
    only: Option<String>,
    filtered: bool,
}

/// The rows of the program: name, and whether its instructions can be counted.
fn rows_of(program: &Path) -> Result<Vec<(String, bool)>> {
    let listed = std::process::Command::new(program)
        .args(["-d", "/tmp", "list"])
        .output()?;
    let text = String::from_utf8(listed.stdout)?;
    let rows = text.lines().filter_map(|line| {
        let mut words = line.split('\t');
        Some((words.next()?.to_owned(), words.next()? == "countable"))
    });
    Ok(rows.collect())
}

fn plan(program: &Path) -> Result<Plan> {
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let mut rows = rows_of(program)?;
    let wanted = set("ROW");
    if let Some(wanted) = &wanted {
        let names: Vec<&str> = wanted.split(',').collect();
        let exact = rows.iter().any(|(row, _)| names.contains(&row.as_str()));
        rows.retain(|(row, _)| {
            names
                .iter()
                .any(|n| if exact { row == n } else { row.contains(n) })
        });
        if rows.is_empty() && wanted != "boot" {
            return Err(format!("no row is called {wanted}").into());
        }
    }
    let quick = set("QUICK").is_some_and(|v| v != "0");
    let rounds = set("ROUNDS").and_then(|r| r.parse().ok());
    let boot_alone = wanted.as_deref() == Some("boot");
    Ok(Plan {
        rows,
        rounds: rounds.unwrap_or(if quick { 2 } else { 5 }),
        quick,
        only: set("ONLY").or(boot_alone.then(|| "boot".into())),
        filtered: wanted.is_some(),
    })
}

/// Runs `names` on both systems, `rounds` times in turn, and tells each row as it is done.
fn compare(setting: &Setting, names: &[String], rounds: usize) -> Result<Vec<Row>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut oxbow = Guest::boot(System::Oxbow, setting)?;
    let mut linux = Guest::boot(System::Linux, setting)?;
    let mut rows = Vec::new();
    for name in names {
        let mut row = Row {
            name: name.clone(),
            ..Row::default()
        };
        for _ in 0..rounds {
            for system in [System::Oxbow, System::Linux] {
                let (guest, figures) = match system {
                    System::Oxbow => (&mut oxbow, &mut row.oxbow),
                    System::Linux => (&mut linux, &mut row.linux),
                };
                match guest.run(name)? {
                    Ok((value, unit)) => {
                        figures.push(value);
                        row.unit = unit;
                    }
                    Err(why) => row.failures.push(format!("{system:?}: {why}")),
                }
            }
            // What fails does so every time, and a hang costs a minute.
            if !row.failures.is_empty() {
                break;
            }
        }
        println!("{}", report::line(&row));
        rows.push(row);
    }
    drop(oxbow.machine());
    drop(linux.machine());
    Ok(rows)
}

fn run() -> Result<()> {
    let path = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .ok_or_else(|| format!("{name} is not set: run `make bench`"))
    };
    let (program, image, linux, dist) = (
        path("BENCH_PROGRAM")?,
        path("BENCH_IMAGE")?,
        path("BENCH_LINUX")?,
        path("BENCH_OUT")?,
    );
    let folder = std::env::temp_dir().join(format!("oxbow-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;

    let mut modules = Vec::new();
    while let Ok(module) = std::fs::read(linux.join(format!("modules/{}.ko", modules.len()))) {
        modules.push(module);
    }
    let initramfs = folder.join("initramfs");
    std::fs::write(
        &initramfs,
        initramfs::build(&std::fs::read(&program)?, &modules),
    )?;

    let plan = plan(&program)?;
    let mut setting = Setting {
        image,
        linux: (linux.join("vmlinuz"), initramfs),
        folder: folder.clone(),
        port: peer::start()?,
        quick: plan.quick,
        instructions: false,
    };
    if std::env::var("FLAME").is_ok_and(|v| v == "1") {
        let [(row, _)] = &plan.rows[..] else {
            return Err("a flame graph is of one row: ROW=name".into());
        };
        flame::draw(&setting, row, &dist)?;
        std::fs::remove_dir_all(&folder)?;
        return Ok(());
    }
    let wants = |what: &str| plan.only.as_deref().is_none_or(|only| only == what);

    println!("{}", report::head());
    let mut rows = Vec::new();
    if wants("times") {
        let names: Vec<String> = plan.rows.iter().map(|(name, _)| name.clone()).collect();
        rows.extend(compare(&setting, &names, plan.rounds)?);
    }
    if wants("instructions") && (!plan.quick || plan.only.is_some()) {
        setting.instructions = true;
        let names = plan.rows.iter().filter(|(_, countable)| *countable);
        let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
        // The same every time but for what a timer adds.
        rows.extend(compare(&setting, &names, 1)?);
        setting.instructions = false;
    }
    if wants("boot") && (!plan.filtered || plan.only.is_some()) {
        for row in boot::measure(&setting, if plan.quick { 1 } else { 5 })? {
            println!("{}", report::line(&row));
            rows.push(row);
        }
    }
    // Part of the rows replaces no whole table.
    let base = if plan.filtered { "bench-row" } else { "bench" };
    std::fs::write(dist.join(format!("{base}.json")), report::json(&rows))?;
    std::fs::write(dist.join(format!("{base}.svg")), report::svg(&rows))?;
    std::fs::remove_dir_all(&folder)?;
    let failed = rows.iter().filter(|row| row.ratio().is_none()).count();
    println!(
        "{} rows, {} with a ratio up to 1.0; {}",
        rows.len(),
        rows.iter()
            .filter(|row| row.ratio().is_some_and(|r| r <= 1.0))
            .count(),
        dist.join(format!("{base}.json")).display()
    );
    if failed > 0 {
        return Err(format!("{failed} rows have no result").into());
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
