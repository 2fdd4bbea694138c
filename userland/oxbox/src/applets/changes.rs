//! Which lines differ between two texts: Myers' algorithm in linear space ("An O(ND) Difference Algorithm and Its
//! Variations", 1986), over numbers that stand for lines, and changes moved to where people expect them. Used by diff.

use std::collections::HashMap;

/// Lines `old..old + removed` became `new..new + added`; from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub old: usize,
    pub removed: usize,
    pub new: usize,
    pub added: usize,
}

/// The changes that lead from `old` to `new`; lines are the same when `key` makes the same of them. Of what the texts
/// have in common at both ends, changes move over no more than `horizon` lines, as GNU diff's.
pub fn changes<'a>(
    old: &[&'a [u8]],
    new: &[&'a [u8]],
    key: impl Fn(&'a [u8]) -> Vec<u8>,
    horizon: usize,
) -> Vec<Change> {
    let mut numbers = HashMap::new();
    let mut number = |line: &&'a [u8]| {
        let next = numbers.len() as u32;
        *numbers.entry(key(line)).or_insert(next)
    };
    let old: Vec<u32> = old.iter().map(&mut number).collect();
    let new: Vec<u32> = new.iter().map(&mut number).collect();
    let count = numbers.len();

    // What both have in common at their ends is no part of the search.
    let shorter = old.len().min(new.len());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = (old.iter().rev().zip(new.iter().rev()))
        .take(shorter - head)
        .take_while(|(a, b)| a == b)
        .count();

    // A line that the other text does not have is changed; the search need not look at it.
    let mut in_old = vec![false; count];
    let mut in_new = vec![false; count];
    old.iter().for_each(|n| in_old[*n as usize] = true);
    new.iter().for_each(|n| in_new[*n as usize] = true);
    let mut removed: Vec<bool> = old.iter().map(|n| !in_new[*n as usize]).collect();
    let mut added: Vec<bool> = new.iter().map(|n| !in_old[*n as usize]).collect();
    let (a, a_at): (Vec<u32>, Vec<usize>) = old
        .iter()
        .enumerate()
        .filter(|(at, _)| !removed[*at] && (head..old.len() - tail).contains(at))
        .map(|(at, n)| (*n, at))
        .unzip();
    let (b, b_at): (Vec<u32>, Vec<usize>) = new
        .iter()
        .enumerate()
        .filter(|(at, _)| !added[*at] && (head..new.len() - tail).contains(at))
        .map(|(at, n)| (*n, at))
        .unzip();

    let mut search = Search {
        a: &a,
        b: &b,
        forward: vec![0; a.len() + b.len() + 3],
        backward: vec![0; a.len() + b.len() + 3],
        limit: (((a.len() + b.len()) as f64).sqrt() as usize).max(256),
    };
    let mut parts = vec![(0, a.len(), 0, b.len())];
    while let Some((mut a0, mut a1, mut b0, mut b1)) = parts.pop() {
        while a0 < a1 && b0 < b1 && a[a0] == b[b0] {
            (a0, b0) = (a0 + 1, b0 + 1);
        }
        while a0 < a1 && b0 < b1 && a[a1 - 1] == b[b1 - 1] {
            (a1, b1) = (a1 - 1, b1 - 1);
        }
        if a0 == a1 || b0 == b1 {
            a_at[a0..a1].iter().for_each(|at| removed[*at] = true);
            b_at[b0..b1].iter().for_each(|at| added[*at] = true);
            continue;
        }
        let (x, y) = search.middle(a0, a1, b0, b1);
        parts.push((a0, x, b0, y));
        parts.push((x, a1, y, b1));
    }
    let from = head - head.min(horizon);
    let hidden = tail - tail.min(horizon);
    let (a, b) = (from..old.len() - hidden, from..new.len() - hidden);
    shift(&old[a.clone()], &mut removed[a.clone()], &added[b.clone()]);
    shift(&new[b.clone()], &mut added[b], &removed[a]);
    collect(&removed, &added)
}

struct Search<'a> {
    a: &'a [u32],
    b: &'a [u32],
    forward: Vec<usize>,
    backward: Vec<usize>,
    /// After so many steps a good way does for the best one.
    limit: usize,
}

impl Search<'_> {
    /// A place on a shortest way through the box, other than its corners.
    fn middle(&mut self, a0: usize, a1: usize, b0: usize, b1: usize) -> (usize, usize) {
        let (n, m) = ((a1 - a0) as isize, (b1 - b0) as isize);
        let delta = n - m;
        let zero = m + 1;
        let at = |k: isize| (k + zero) as usize;
        self.forward[at(1)] = 0;
        self.backward[at(1)] = 0;
        for d in 0..=(n + m + 1) / 2 {
            for k in (-d..=d).step_by(2) {
                if k < -m || k > n {
                    continue;
                }
                let down = k == -d
                    || k == -m
                    || k != d && k != n && self.forward[at(k - 1)] < self.forward[at(k + 1)];
                let mut x = if down {
                    self.forward[at(k + 1)]
                } else {
                    self.forward[at(k - 1)] + 1
                } as isize;
                let mut y = x - k;
                while x < n && y < m && y >= 0 && self.a[a0 + x as usize] == self.b[b0 + y as usize]
                {
                    (x, y) = (x + 1, y + 1);
                }
                self.forward[at(k)] = x as usize;
                let c = delta - k;
                if delta % 2 != 0 && c > -d && c < d && x + self.backward[at(c)] as isize >= n {
                    return (a0 + x as usize, b0 + y as usize);
                }
            }
            for k in (-d..=d).step_by(2) {
                if k < -m || k > n {
                    continue;
                }
                let down = k == -d
                    || k == -m
                    || k != d && k != n && self.backward[at(k - 1)] < self.backward[at(k + 1)];
                let mut x = if down {
                    self.backward[at(k + 1)]
                } else {
                    self.backward[at(k - 1)] + 1
                } as isize;
                let mut y = x - k;
                while x < n
                    && y < m
                    && y >= 0
                    && self.a[a1 - 1 - x as usize] == self.b[b1 - 1 - y as usize]
                {
                    (x, y) = (x + 1, y + 1);
                }
                self.backward[at(k)] = x as usize;
                let c = delta - k;
                if delta % 2 == 0 && c >= -d && c <= d && x + self.forward[at(c)] as isize >= n {
                    return (a1 - x as usize, b1 - y as usize);
                }
            }
            if d as usize >= self.limit {
                return self.furthest(a0, b0, n, m, d, zero);
            }
        }
        // The two searches meet before this.
        (a1, b0)
    }

    /// The place that got furthest from the beginning.
    fn furthest(
        &self,
        a0: usize,
        b0: usize,
        n: isize,
        m: isize,
        d: isize,
        zero: isize,
    ) -> (usize, usize) {
        let reached = (-d..=d)
            .step_by(2)
            .filter(|k| *k >= -m && *k <= n)
            .map(|k| {
                let x = (self.forward[(k + zero) as usize] as isize).min(n);
                (x, x - k)
            });
        let (x, y) = reached
            .filter(|(_, y)| (0..=m).contains(y))
            .max_by_key(|(x, y)| x + y)
            .unwrap_or((n, 0));
        (a0 + x as usize, b0 + y as usize)
    }
}

/// Moves runs of changed lines as far down as they go, so that runs that touch become one and an added block ends with
/// what it has in common with what precedes it; and back to where the other text has a change, if it passed one.
fn shift(lines: &[u32], changed: &mut [bool], other: &[bool]) {
    let mut at = 0;
    let mut there = 0;
    loop {
        // `there` is the line of the other text that goes with `at`.
        while at < lines.len() && !changed[at] {
            while other.get(there) == Some(&true) {
                there += 1;
            }
            (at, there) = (at + 1, there + 1);
        }
        if at >= lines.len() {
            return;
        }
        let mut start = at;
        let mut end = at + changed[at..].iter().take_while(|c| **c).count();
        let mut meets;
        loop {
            let length = end - start;
            // Up, as long as the line before is the last of the run.
            while start > 0 && lines[start - 1] == lines[end - 1] && !changed[start - 1] {
                start -= 1;
                end -= 1;
                changed[start] = true;
                changed[end] = false;
                there = back(other, there);
                while start > 0 && changed[start - 1] {
                    start -= 1;
                }
            }
            meets = touches(other, there).then_some(end);
            // Down, as long as the first of the run is the line behind.
            while end < lines.len() && lines[start] == lines[end] {
                changed[start] = false;
                changed[end] = true;
                start += 1;
                end += 1;
                while end < lines.len() && changed[end] {
                    end += 1;
                }
                there = forward(other, there);
                if touches(other, there) {
                    meets = Some(end);
                }
            }
            if end - start == length {
                break;
            }
        }
        // Back to the change of the other text.
        while let Some(meet) = meets.filter(|meet| *meet < end) {
            let _ = meet;
            start -= 1;
            end -= 1;
            changed[start] = true;
            changed[end] = false;
            there = back(other, there);
        }
        at = end;
    }
}

/// Whether lines of the other text are changed right before `there`, or at it.
fn touches(other: &[bool], there: usize) -> bool {
    there > 0 && other.get(there - 1) == Some(&true) || other.get(there) == Some(&true)
}

/// The line of the other text that goes with one line less.
fn back(other: &[bool], mut there: usize) -> usize {
    while there > 0 && other.get(there - 1) == Some(&true) {
        there -= 1;
    }
    there.saturating_sub(1)
}

fn forward(other: &[bool], mut there: usize) -> usize {
    while other.get(there) == Some(&true) {
        there += 1;
    }
    there + 1
}

fn collect(removed: &[bool], added: &[bool]) -> Vec<Change> {
    let mut all = Vec::new();
    let (mut old, mut new) = (0, 0);
    while old < removed.len() || new < added.len() {
        let gone = removed[old..].iter().take_while(|c| **c).count();
        let come = added[new..].iter().take_while(|c| **c).count();
        if gone + come > 0 {
            all.push(Change {
                old,
                removed: gone,
                new,
                added: come,
            });
        }
        old += gone + usize::from(old + gone < removed.len());
        new += come + usize::from(new + come < added.len());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<&[u8]> {
        text.split(' ')
            .filter(|w| !w.is_empty())
            .map(str::as_bytes)
            .collect()
    }

    /// Applies what was found; panics where a line that is said to be the same is not.
    fn check(old: &[&[u8]], new: &[&[u8]]) -> usize {
        let found = changes(old, new, <[u8]>::to_vec, 3);
        let (mut a, mut b) = (0, 0);
        for change in &found {
            assert_eq!(change.old - a, change.new - b);
            assert_eq!(old[a..change.old], new[b..change.new]);
            (a, b) = (change.old + change.removed, change.new + change.added);
        }
        assert_eq!(old[a..], new[b..]);
        found.iter().map(|c| c.removed + c.added).sum()
    }

    #[test]
    fn few_changes_are_found() {
        for (old, new, count) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "a b", 2),
            ("a b c a b b a", "c b a b a c", 5),
            ("a b c d", "a x c d", 2),
            ("x a b c", "a b c x", 2),
        ] {
            assert_eq!(check(&lines(old), &lines(new)), count, "{old} -> {new}");
        }
    }

    #[test]
    fn any_two_texts_are_told_apart_rightly() {
        let words: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        let mut state = 1u64;
        let mut text = |length: u64, kinds: u64| -> Vec<&[u8]> {
            let mut next = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state >> 33
            };
            (0..next() % length)
                .map(|_| words[(next() % kinds) as usize].as_bytes())
                .collect()
        };
        for round in 0..3000 {
            let kinds = 1 + round % 7;
            check(&text(40, kinds), &text(40, kinds));
        }
        // Past the limit of the search.
        check(&text(4000, 7), &text(4000, 7));
    }

    #[test]
    fn an_added_block_ends_with_what_it_shares() {
        let (old, new) = (lines("{ a }"), lines("{ a } { a }"));
        let found = changes(&old, &new, <[u8]>::to_vec, 3);
        assert_eq!(
            found,
            [Change {
                old: 3,
                removed: 0,
                new: 3,
                added: 3
            }]
        );
    }
}
