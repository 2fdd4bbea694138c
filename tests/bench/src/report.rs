//! The results as a table, as JSON and as a plot.

use std::fmt::Write;

use crate::stats::{Row, median};

/// A figure in a unit that people read: nanoseconds grow to seconds.
fn human(value: f64, unit: &str) -> String {
    if value == 0.0 {
        return "-".into();
    }
    let (value, unit) = match unit {
        "ns" if value >= 1e9 => (value / 1e9, "s"),
        "ns" if value >= 1e6 => (value / 1e6, "ms"),
        "ns" if value >= 1e3 => (value / 1e3, "us"),
        _ => (value, unit),
    };
    let digits = if value >= 100.0 { 0 } else { 2 };
    format!("{value:.digits$} {unit}")
}

/// One line of the table.
pub fn line(row: &Row) -> String {
    let ratio = row.ratio().map_or("-".into(), |r| format!("{r:.2}"));
    let mut text = format!(
        "{:<22} {:>14} {:>14} {:>7} {:>7.0}%",
        row.name,
        human(median(&row.oxbow), &row.unit),
        human(median(&row.linux), &row.unit),
        ratio,
        row.spread() * 100.0
    );
    for failure in &row.failures {
        let _ = write!(text, "  {failure}");
    }
    text
}

/// The table's head.
pub fn head() -> String {
    format!(
        "{:<22} {:>14} {:>14} {:>7} {:>8}",
        "row", "oxbow", "linux", "ratio", "spread"
    )
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn number(value: Option<f64>) -> String {
    match value {
        Some(v) if v.is_finite() => format!("{v:.4}"),
        _ => "null".into(),
    }
}

/// `[{name, unit, oxbow, linux, ratio, spread}]`; null where a side has no figure.
pub fn json(rows: &[Row]) -> String {
    let figure = |figures: &[f64]| number((!figures.is_empty()).then(|| median(figures)));
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "  {{\"name\": {}, \"unit\": {}, \"oxbow\": {}, \"linux\": {}, \"ratio\": {}, \"spread\": {}}}",
                quoted(&row.name),
                quoted(&row.unit),
                figure(&row.oxbow),
                figure(&row.linux),
                number(row.ratio()),
                number(Some(row.spread()))
            )
        })
        .collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// A bar per row on a logarithmic scale from 1/8 to 8: to the left of the middle Oxbow is better.
pub fn svg(rows: &[Row]) -> String {
    const STEP: f64 = 18.0;
    const LEFT: f64 = 200.0;
    const WIDTH: f64 = 480.0;
    let at = |ratio: f64| LEFT + WIDTH / 2.0 + ratio.log2().clamp(-3.0, 3.0) / 6.0 * WIDTH;
    let shown: Vec<(&Row, f64)> = rows
        .iter()
        .filter_map(|row| Some((row, row.ratio()?)))
        .collect();
    let height = STEP * (shown.len() as f64 + 3.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"14\">Oxbow / Linux: shorter to the left is better</text>\n"
    );
    for ratio in [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0] {
        let x = at(ratio);
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"{}\" y2=\"{height}\" stroke=\"{}\"/><text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{ratio}</text>",
            STEP * 1.8,
            if ratio == 1.0 { "black" } else { "#ddd" },
            STEP * 1.6
        );
    }
    for (i, (row, ratio)) in shown.iter().enumerate() {
        let (y, x, middle) = (STEP * (i as f64 + 2.0), at(*ratio), at(1.0));
        let colour = match ratio {
            r if *r <= 1.0 => "#3a8f5c",
            r if *r <= 2.0 => "#d9a036",
            _ => "#c0453a",
        };
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"{colour}\"/><text x=\"{}\" y=\"{}\">{ratio:.2}</text>",
            LEFT - 6.0,
            y + STEP * 0.7,
            row.name,
            x.min(middle),
            (x - middle).abs().max(1.0),
            STEP * 0.8,
            LEFT + WIDTH + 6.0,
            y + STEP * 0.7
        );
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_every_field_and_null_for_what_is_missing() {
        let row = Row {
            name: "a \"b\"".into(),
            unit: "ns".into(),
            oxbow: vec![2.0],
            ..Row::default()
        };
        assert_eq!(
            json(&[row]),
            "[\n  {\"name\": \"a \\\"b\\\"\", \"unit\": \"ns\", \"oxbow\": 2.0000, \"linux\": null, \"ratio\": null, \"spread\": 0.0000}\n]\n"
        );
    }

    #[test]
    fn times_grow_into_readable_units() {
        assert_eq!(human(1500.0, "ns"), "1.50 us");
        assert_eq!(human(250_000_000.0, "ns"), "250 ms");
        assert_eq!(human(12.0, "MB/s"), "12.00 MB/s");
    }
}
