//! How far a transfer is: rate, time left, and the displays of wget and curl.
//! Shown on standard error, at most five times a second.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(200);
/// The current rate is that of the last few seconds.
const WINDOW: Duration = Duration::from_secs(4);

/// Which display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Style {
    None,
    /// wget's, with the file's name.
    Bar(String),
    /// curl's table.
    Table,
    /// curl's `-#`.
    Hashes,
}

/// A transfer under way.
pub struct Progress {
    style: Style,
    start: Instant,
    shown: Option<Instant>,
    /// Bytes that were there before (a resumed file).
    before: u64,
    /// Bytes transferred now.
    done: u64,
    /// All bytes, with those from before.
    total: Option<u64>,
    upload: bool,
    recent: VecDeque<(Instant, u64)>,
    wrote: bool,
}

impl Progress {
    pub fn new(style: Style, before: u64, total: Option<u64>, upload: bool) -> Progress {
        let start = Instant::now();
        let mut progress = Progress {
            style,
            start,
            shown: None,
            before,
            done: 0,
            total,
            upload,
            recent: VecDeque::from([(start, 0)]),
            wrote: false,
        };
        if progress.style == Style::Table {
            eprint!("{TABLE_HEAD}");
            progress.show(start);
        }
        progress
    }

    pub fn add(&mut self, bytes: u64) {
        self.done += bytes;
        let now = Instant::now();
        let due = self
            .shown
            .is_none_or(|at| now.duration_since(at) >= INTERVAL);
        if due && self.style != Style::None {
            while self.recent.len() > 1 && now.duration_since(self.recent[0].0) > WINDOW {
                self.recent.pop_front();
            }
            self.recent.push_back((now, self.done));
            self.show(now);
        }
    }

    /// Shows the last state and leaves it standing.
    pub fn finish(&mut self) {
        if self.style != Style::None {
            self.show(Instant::now());
            if self.wrote {
                eprintln!();
            }
        }
    }

    pub fn bytes(&self) -> u64 {
        self.done
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Bytes per second over all of it.
    pub fn average(&self) -> f64 {
        rate(self.done, self.elapsed())
    }

    fn current(&self, now: Instant) -> f64 {
        let (since, bytes) = self.recent[0];
        rate(self.done - bytes, now.duration_since(since))
    }

    fn show(&mut self, now: Instant) {
        self.shown = Some(now);
        let line = match &self.style {
            Style::None => return,
            Style::Bar(name) => {
                let left = self.left(self.current(now));
                bar(
                    name,
                    self.before + self.done,
                    self.total,
                    self.current(now),
                    left,
                )
            }
            Style::Table => self.table(now),
            Style::Hashes => hashes(self.before + self.done, self.total),
        };
        self.wrote = true;
        let mut out = std::io::stderr().lock();
        // A display that nobody sees must not end the transfer.
        let _ = write!(out, "\r{line}").and_then(|()| out.flush());
    }

    /// Time until the end at `rate` bytes per second.
    fn left(&self, rate: f64) -> Option<Duration> {
        let missing = self.total?.saturating_sub(self.before + self.done);
        (rate > 0.0).then(|| Duration::from_secs_f64((missing as f64 / rate).min(1e9)))
    }

    fn table(&self, now: Instant) -> String {
        let total = self.total.map(|t| t.saturating_sub(self.before));
        let percent = total.map_or(0, |total| percent(self.done, total));
        let spent = now.duration_since(self.start);
        let average = rate(self.done, spent);
        let left = self.left(average);
        let all = left.map(|left| left + spent);
        let (received, sent) = match self.upload {
            true => (0, self.done),
            false => (self.done, 0),
        };
        let [rp, sp] = [received, sent].map(|n| if n > 0 { percent } else { 0 });
        let [rr, sr] = [received, sent].map(|n| if n > 0 { average } else { 0.0 });
        format!(
            "{percent:3} {:>5}  {rp:3} {:>5}  {sp:3} {:>5}  {:>5}  {:>5} {:>8} {:>8} {:>8} {:>5}",
            short(total.unwrap_or(self.done) as f64),
            short(received as f64),
            short(sent as f64),
            short(rr),
            short(sr),
            clock(all),
            clock(Some(spent).filter(|s| s.as_secs() > 0)),
            clock(left.filter(|l| l.as_secs() > 0)),
            short(self.current(now)),
        )
    }
}

const TABLE_HEAD: &str = "  \
  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n                                 \
  Dload  Upload   Total   Spent    Left  Speed\n";

fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64().max(0.001)
}

fn percent(done: u64, total: u64) -> u64 {
    match total {
        0 => 100,
        total => (u128::from(done) * 100 / u128::from(total)).min(100) as u64,
    }
}

fn bar(name: &str, done: u64, total: Option<u64>, rate: f64, left: Option<Duration>) -> String {
    // With the figures and the time less than a line of 80.
    const WIDTH: usize = 20;
    let name: String = name.chars().take(18).collect();
    let figures = format!("{:>7}  {:>6}B/s", human(done), human(rate as u64));
    match total {
        Some(total) => {
            let percent = percent(done, total);
            let filled = WIDTH * percent as usize / 100;
            let mut line = "=".repeat(filled.saturating_sub(1));
            if filled > 0 {
                line.push('>');
            }
            let eta = match left.map(|left| left.as_secs()) {
                _ if done >= total => String::new(),
                Some(seconds) if seconds >= 60 => {
                    format!("eta {}m {}s", seconds / 60, seconds % 60)
                }
                Some(seconds) => format!("eta {seconds}s"),
                None => String::new(),
            };
            format!("{name:<18} {percent:3}%[{line:<WIDTH$}] {figures}  {eta:<12}")
        }
        None => format!("{name:<18}     [ <=> {:<14}] {figures}", ""),
    }
}

fn hashes(done: u64, total: Option<u64>) -> String {
    const WIDTH: usize = 70;
    match total {
        Some(total) => {
            let percent = percent(done, total);
            format!(
                "{:<WIDTH$} {percent:3}.0%",
                "#".repeat(WIDTH * percent as usize / 100)
            )
        }
        None => format!("{:>WIDTH$}", human(done)),
    }
}

/// A number of bytes with a unit: `512`, `1.5K`, `20M`.
pub fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["", "K", "M", "G"] {
        if value < 1000.0 {
            return match unit {
                "" => format!("{bytes}"),
                unit if value < 10.0 => format!("{value:.2}{unit}"),
                unit if value < 100.0 => format!("{value:.1}{unit}"),
                unit => format!("{value:.0}{unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1}T")
}

/// In five characters, as curl does.
fn short(value: f64) -> String {
    let mut value = value;
    if value < 100_000.0 {
        return format!("{value:.0}");
    }
    for unit in ["k", "M", "G", "T"] {
        value /= 1024.0;
        if value < 100.0 && unit != "k" {
            return format!("{value:.1}{unit}");
        }
        if value < 10_000.0 {
            return format!("{value:.0}{unit}");
        }
    }
    format!("{:.0}P", value / 1024.0)
}

fn clock(time: Option<Duration>) -> String {
    match time.map(|time| time.as_secs()) {
        Some(s) if s < 360_000 => format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
        Some(s) => format!("{}d", s / 86_400),
        None => "--:--:--".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units() {
        assert_eq!(human(0), "0");
        assert_eq!(human(999), "999");
        assert_eq!(human(1536), "1.50K");
        assert_eq!(human(20 << 20), "20.0M");
        assert_eq!(short(99_999.0), "99999");
        assert_eq!(short(200_000.0), "195k");
        assert_eq!(short(20e6), "19.1M");
        assert_eq!(clock(Some(Duration::from_secs(3_661))), "1:01:01");
    }

    #[test]
    fn bars_fill_up() {
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
        let line = bar("file", 50, Some(100), 10.0, Some(Duration::from_secs(5)));
        assert!(line.contains(" 50%[=========> "), "{line}");
        let longest = bar(
            &"x".repeat(99),
            99,
            Some(100),
            1e9,
            Some(Duration::from_secs(5999)),
        );
        assert!(longest.chars().count() < 80, "{longest}");
        assert!(line.contains("eta 5s"), "{line}");
        assert!(bar("file", 5, None, 1.0, None).contains("<=>"));
    }
}
