//! The rows that have a target, drawn as bars: how much of what it may take each takes. Plain SVG, no library: a few
//! rectangles need none.

use std::fmt::Write as _;

use super::report::{Report, Row, Target, number_of, target_of};

const WIDTH: f64 = 990.0;
const LABELS: f64 = 500.0;
const BAR: f64 = 300.0;
const LINE: f64 = 26.0;
const TOP: f64 = 64.0;
/// The length of a bar that just keeps to its target; longer ones are cut off at twice of it.
const FULL: f64 = BAR / 2.0;

/// The picture, with `title` above it.
#[must_use]
pub fn draw(report: &Report, title: &str) -> String {
    let rows: Vec<(&Row, Target)> = report
        .rows()
        .iter()
        .filter_map(|row| Some((row, row.target?)))
        .collect();
    let mut height = TOP + 16.0;
    for _ in &rows {
        height += LINE;
    }
    let mut svg = String::new();
    // Writing to a String never fails.
    let _ = write!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="12" y="24" font-size="16" font-weight="bold" fill="#1f2328">{}</text>
<text x="12" y="46" fill="#59636e">Share of what each may take: left of the line is within the target.</text>
"##,
        escaped(title)
    );
    let mut y = TOP;
    for (row, target) in &rows {
        let share = share(row, *target);
        let (length, colour) = (
            (share * FULL).clamp(2.0, BAR),
            if row.is_met() == Some(true) {
                "#2da44e"
            } else {
                "#cf222e"
            },
        );
        let grants = if row.grants == 1 { "grant" } else { "grants" };
        let what = format!("{} ({} {grants})", row.what, row.grants);
        let said = match row.ratio {
            Some(ratio) if !matches!(target, Target::AtMost(_)) => format!("{ratio:.2}, {}", target_of(*target)),
            _ => format!("{} {}, {}", number_of(row.ours), row.unit, target_of(*target)),
        };
        let _ = write!(
            svg,
            r##"<text x="{}" y="{}" text-anchor="end" fill="#1f2328">{}</text>
<rect x="{LABELS}" y="{}" width="{length:.1}" height="16" rx="2" fill="{colour}"/>
<text x="{}" y="{}" fill="#1f2328">{}</text>
"##,
            LABELS - 10.0,
            y + 13.0,
            escaped(&what),
            y,
            LABELS + length.max(FULL) + 8.0,
            y + 13.0,
            escaped(&said)
        );
        y += LINE;
    }
    let x = LABELS + FULL;
    let _ = write!(
        svg,
        r##"<line x1="{x}" x2="{x}" y1="{}" y2="{y}" stroke="#1f2328" stroke-dasharray="4 3"/>
</svg>
"##,
        TOP - 6.0
    );
    svg
}

/// How much of what it may take a row takes: 1 where it just keeps to its target. Of a rate that is the time it takes.
fn share(row: &Row, target: Target) -> f64 {
    let share = match target {
        Target::RatioAtLeast(least) => row.ratio.map(|ratio| least / ratio),
        Target::RatioAtMost(most) => row.ratio.map(|ratio| ratio / most),
        // What may not be at all has no share: nothing, or too much.
        Target::AtMost(0.0) => Some(if row.ours > 0.0 { f64::INFINITY } else { 0.0 }),
        Target::AtMost(most) => Some(row.ours / most),
    };
    share.unwrap_or_default()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Measured;

    #[test]
    fn every_row_with_a_target_is_a_bar_and_what_is_missed_is_red() {
        let mut report = Report::default();
        let of = |key, target| Measured {
            key,
            what: "issues & more",
            grants: 10,
            unit: "1/s",
            target,
        };
        report.put(of("fast", Some(Target::RatioAtLeast(0.85))), Some(10.0), 9.0);
        report.put(of("slow", Some(Target::RatioAtMost(2.0))), Some(10.0), 30.0);
        report.put(of("idle", Some(Target::AtMost(0.0))), None, 0.0);
        report.put(of("told", None), None, 5.0);
        let svg = draw(&report, "a <run>");
        assert_eq!(svg.matches("<rect x=").count(), 3);
        assert_eq!(svg.matches("#cf222e").count(), 1);
        assert!(svg.contains("issues &amp; more") && svg.contains("a &lt;run&gt;") && svg.ends_with("</svg>\n"));
    }
}
