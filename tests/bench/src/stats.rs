//! Figures of one row and what is made of them.

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Times, instructions, bytes of memory.
    Less,
    /// Bandwidths and rates.
    More,
}

/// How figures in `unit` compare.
pub fn better(unit: &str) -> Better {
    match unit {
        "MB/s" | "1/s" => Better::More,
        _ => Better::Less,
    }
}

/// The median; the mean of the middle two when their number is even. 0 of none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (n, half) if n % 2 == 1 => sorted[half],
        (_, half) => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// How far figures lie apart: (largest - smallest) / median.
pub fn spread(figures: &[f64]) -> f64 {
    let middle = median(figures);
    let largest = figures.iter().copied().fold(f64::MIN, f64::max);
    let smallest = figures.iter().copied().fold(f64::MAX, f64::min);
    if figures.len() < 2 || middle == 0.0 {
        return 0.0;
    }
    (largest - smallest) / middle
}

/// Figures of both systems for one row.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The row's name.
    pub name: String,
    /// What the figures count.
    pub unit: String,
    /// Oxbow's, one per round.
    pub oxbow: Vec<f64>,
    /// Linux's.
    pub linux: Vec<f64>,
    /// What went wrong on either.
    pub failures: Vec<String>,
}

impl Row {
    /// Oxbow against Linux, below 1.0 when Oxbow is better; `None` when a side has no figure.
    pub fn ratio(&self) -> Option<f64> {
        let (oxbow, linux) = (median(&self.oxbow), median(&self.linux));
        if oxbow <= 0.0 || linux <= 0.0 {
            return None;
        }
        Some(match better(&self.unit) {
            Better::Less => oxbow / linux,
            Better::More => linux / oxbow,
        })
    }

    /// The larger spread of the two sides.
    pub fn spread(&self) -> f64 {
        spread(&self.oxbow).max(spread(&self.linux))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(unit: &str, oxbow: &[f64], linux: &[f64]) -> Row {
        Row {
            unit: unit.into(),
            oxbow: oxbow.into(),
            linux: linux.into(),
            ..Row::default()
        }
    }

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn below_one_is_better_whatever_the_unit() {
        assert_eq!(row("ns", &[50.0], &[100.0]).ratio(), Some(0.5));
        assert_eq!(row("MB/s", &[100.0], &[50.0]).ratio(), Some(0.5));
        assert_eq!(row("ns", &[], &[50.0]).ratio(), None);
    }

    #[test]
    fn spread_is_that_of_the_wider_side() {
        assert_eq!(row("ns", &[1.0, 2.0, 3.0], &[5.0, 5.0]).spread(), 1.0);
    }
}
