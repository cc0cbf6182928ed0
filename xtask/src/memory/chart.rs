//! The trend as a picture: a line for each case, over all that was accepted, each as a share of what it was first.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use super::Accepted;
use crate::Done;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 280.0;
const MARGIN: f64 = 40.0;

/// Writes the picture of a history.
pub(super) fn draw(history: &[Accepted], to: &Path) -> Done {
    Ok(fs::write(to, drawn(history)?)?)
}

fn drawn(history: &[Accepted]) -> Result<String, std::fmt::Error> {
    let mut lines: BTreeMap<(&str, &str), Vec<(usize, f64)>> = BTreeMap::new();
    for (i, Accepted { isa, most, .. }) in history.iter().enumerate() {
        for (case, &bytes) in most {
            lines.entry((isa, case)).or_default().push((i, bytes as f64));
        }
    }
    let shares: Vec<Vec<(usize, f64)>> = lines
        .into_values()
        .map(|line| {
            let first = line.first().map_or(1.0, |(_, bytes)| bytes.max(1.0));
            line.into_iter().map(|(i, bytes)| (i, bytes / first)).collect()
        })
        .collect();
    let most = shares.iter().flatten().map(|(_, share)| *share).fold(1.0, f64::max) * 1.05;
    let last = history.len().saturating_sub(1).max(1) as f64;
    let x = |i: usize| MARGIN + (WIDTH - 2.0 * MARGIN) * i as f64 / last;
    let y = |share: f64| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * share / most;
    let mut svg = String::new();
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">"##
    )?;
    writeln!(svg, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##)?;
    for share in [0.0, 0.5, 1.0] {
        let at = y(share);
        writeln!(svg, r##"<path d="M{MARGIN} {at:.1}H{:.1}" stroke="#dddddd"/>"##, WIDTH - MARGIN)?;
        writeln!(svg, r##"<text x="4" y="{:.1}" fill="#555555">{:.0} %</text>"##, at + 4.0, share * 100.0)?;
    }
    for (i, Accepted { date, .. }) in history.iter().enumerate().filter(|(i, _)| *i == 0 || i + 1 == history.len()) {
        let anchor = if i == 0 { "start" } else { "end" };
        writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" text-anchor="{anchor}" fill="#555555">{date}</text>"##,
            x(i),
            HEIGHT - 12.0
        )?;
    }
    for line in shares {
        let points: Vec<String> = line.iter().map(|(i, share)| format!("{:.1},{:.1}", x(*i), y(*share))).collect();
        writeln!(
            svg,
            r##"<polyline points="{}" fill="none" stroke="#3366aa" stroke-opacity="0.5"/>"##,
            points.join(" ")
        )?;
        for point in points {
            let (x, y) = point.split_once(',').unwrap_or_default();
            writeln!(svg, r##"<circle cx="{x}" cy="{y}" r="2" fill="#3366aa" fill-opacity="0.5"/>"##)?;
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_a_line_for_each_case() {
        let accepted = |bytes: u64| Accepted {
            commit: "abc".into(),
            date: "2026-01-02".into(),
            reason: "test".into(),
            isa: "avx2".into(),
            most: BTreeMap::from([("a".to_owned(), bytes), ("b".to_owned(), 2 * bytes)]),
        };
        let svg = drawn(&[accepted(10), accepted(12)]).unwrap();
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (2, 4));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        assert!(!drawn(&[accepted(10)]).unwrap().contains("NaN"));
    }
}
