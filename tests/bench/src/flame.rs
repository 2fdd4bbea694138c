//! A flame graph of one row: boots Oxbow, samples while the row runs, names the samples' places by
//! the kernel's debug information and draws them.

use std::collections::BTreeMap;
use std::path::Path;

use oxbow_harness::Machine;

use crate::Result;
use crate::guest::{Setting, System, config};

/// Samples a second and CPU.
const RATE: u32 = 997;

/// Stacks, outermost function first and `;` between them, and how often each was seen.
type Folded = BTreeMap<String, u64>;

/// Names kernel offsets: the functions at a place, outermost first.
fn names(loader: &addr2line::Loader, offset: u64) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(mut frames) = loader.find_frames(offset) {
        while let Ok(Some(frame)) = frames.next() {
            let name = frame
                .function
                .and_then(|f| f.demangle().ok().map(|n| short(&n)));
            names.push(name.unwrap_or_else(|| "?".into()));
        }
    }
    if names.is_empty() {
        let symbol = loader.find_symbol(offset).unwrap_or("?");
        names.push(short(&addr2line::demangle_auto(symbol.into(), None)));
    }
    names.reverse();
    names
}

/// A function's path without this crate's name and the compiler's hash.
fn short(name: &str) -> String {
    let name = name.strip_prefix("oxbow_kernel::").unwrap_or(name);
    let hash = name
        .rsplit_once("::h")
        .filter(|(_, hash)| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    hash.map_or(name, |(path, _)| path).replace(';', ":")
}

/// Reads `COUNT CPU PLACE CALLER...` lines. Returns the stacks of busy CPUs, and how many
/// samples found one idle or were lost.
fn fold(text: &str, mut names: impl FnMut(u64) -> Vec<String>) -> (Folded, u64, u64) {
    let (mut folded, mut idle, mut lost) = (Folded::new(), 0, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(count) = words.next().and_then(|w| w.parse::<u64>().ok()) else {
            continue;
        };
        let places: Vec<&str> = words.skip(1).collect();
        if let ["lost", n] = places[..] {
            lost += n.parse::<u64>().unwrap_or(0);
            continue;
        }
        let mut stack = Vec::new();
        for (i, place) in places.iter().enumerate().rev() {
            match place
                .strip_prefix('+')
                .and_then(|p| u64::from_str_radix(p, 16).ok())
            {
                // A return address is behind its call.
                Some(offset) => stack.extend(names(offset - u64::from(i > 0))),
                None => stack.push("[user]".into()),
            }
        }
        // Only an idle CPU has nobody on its stack.
        if places.len() == 1 && places[0].starts_with('+') {
            idle += count;
        } else {
            *folded.entry(stack.join(";")).or_default() += count;
        }
    }
    (folded, idle, lost)
}

/// Runs `row` and leaves `flame-ROW.svg`, and the stacks as `flame-ROW.folded`, in `dist`.
pub fn draw(setting: &Setting, row: &str, dist: &Path) -> Result<()> {
    let kernel = dist.join("parts/kernel.debug");
    let loader = addr2line::Loader::new(&kernel)?;
    let disk = setting.folder.join("flame.disk");
    std::fs::File::create(&disk)?.set_len(1 << 30)?;
    let mut config = config(System::Oxbow, setting);
    config.disks.push(disk);
    let mut machine = Machine::boot(&config);
    let bench = format!(
        "/bin/bench -D /dev/vdb -H 10.0.2.2:{} run {row}",
        setting.port
    );
    // Files that the row wants are made first, and what it warms up is warm.
    machine.run_for(&bench, 120);
    machine.ok(&format!("echo {RATE} >/proc/profile"));
    let figures = machine.run_for(&bench, 120).text;
    machine.ok("echo 0 >/proc/profile");
    let text = machine.run_for("sort /proc/profile | uniq -c", 120).text;
    machine.pull_the_plug();

    let (folded, idle, lost) = fold(&text, |offset| names(&loader, offset));
    let busy: u64 = folded.values().sum();
    if busy == 0 {
        return Err("no samples: is the kernel one with /proc/profile?".into());
    }
    let lines: Vec<String> = folded.iter().map(|(s, n)| format!("{s} {n}")).collect();
    std::fs::write(
        dist.join(format!("flame-{row}.folded")),
        lines.join("\n") + "\n",
    )?;
    let mut options = inferno::flamegraph::Options::default();
    options.title = format!("Oxbow, {row}");
    options.subtitle = Some(format!(
        "{busy} samples at {RATE} Hz; {idle} more found a CPU idle, {lost} were lost"
    ));
    let out = dist.join(format!("flame-{row}.svg"));
    let file = std::fs::File::create(&out)?;
    inferno::flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), file)?;
    print!("{figures}");
    println!("{busy} samples, {idle} idle, {lost} lost; by function itself:");
    for (name, count) in top(&folded, 12) {
        println!("{:>5.1}%  {name}", count as f64 * 100.0 / busy as f64);
    }
    println!("{}", out.display());
    Ok(())
}

/// The functions that were running most often, without what they called.
fn top(folded: &Folded, most: usize) -> Vec<(String, u64)> {
    let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
    for (stack, count) in folded {
        let innermost = stack.rsplit(';').next().unwrap_or(stack);
        *by_name.entry(innermost).or_default() += count;
    }
    let mut sorted: Vec<(String, u64)> = by_name
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sorted.truncate(most);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_fold_from_the_outside_in() {
        let text = "  3 0 +10 +21\n 2 1 +10 +21\n 7 0 +99\n 1 0 401000\n 1 1 lost 4\n";
        let (folded, idle, lost) = fold(text, |at| vec![format!("f{at:x}")]);
        assert_eq!((idle, lost), (7, 4));
        assert_eq!(folded.get("f20;f10"), Some(&5));
        assert_eq!(folded.get("[user]"), Some(&1));
        assert_eq!(top(&folded, 1), vec![("f10".to_owned(), 5)]);
    }

    #[test]
    fn names_lose_crate_and_hash() {
        assert_eq!(
            short("oxbow_kernel::vm::fault::handle::h0123456789abcdef"),
            "vm::fault::handle"
        );
    }
}
