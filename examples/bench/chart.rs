//! Bars beside each other, as an SVG for docs/benchmarks.md.

use std::fmt::Write as _;

/// A group of bars.
pub struct Group {
    pub label: String,
    /// Name, value, and what is written beside it; the same names in each group.
    pub bars: Vec<(&'static str, f64, String)>,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 190.0;
const BAR: f64 = 18.0;
const GAP: f64 = 16.0;
const TOP: f64 = 78.0;

/// Readable on white and on black: the background is its own.
fn colour(name: &str) -> &'static str {
    match name {
        "ours" => "#1a7f37",
        "reference" => "#8c959f",
        _ => "#c9d1d9",
    }
}

/// `machine`: what it was measured on.
pub fn svg(title: &str, subtitle: &str, machine: &str, groups: &[Group]) -> String {
    let highest = groups.iter().flat_map(|group| &group.bars).map(|(_, value, _)| *value).fold(f64::EPSILON, f64::max);
    let rows: f64 = groups.iter().map(|group| BAR * count(group.bars.len()) + GAP).sum();
    let height = TOP + rows + 8.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\" font-weight=\"bold\" fill=\"#1f2328\">{}</text>\n\
         <text x=\"16\" y=\"43\" fill=\"#59636e\">{}</text>\n\
         <text x=\"16\" y=\"59\" fill=\"#59636e\">{}</text>\n",
        escaped(title),
        escaped(subtitle),
        escaped(machine)
    );
    let mut y = TOP;
    for group in groups {
        let middle = y + BAR * count(group.bars.len()) / 2.0 + 4.0;
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"#1f2328\">{}</text>",
            LEFT - 10.0,
            escaped(&group.label)
        );
        for (name, value, said) in &group.bars {
            let length = (WIDTH - LEFT - RIGHT) * value / highest;
            let _ = writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1f2328\">{} {}</text>",
                y + 1.0,
                BAR - 3.0,
                colour(name),
                LEFT + length + 6.0,
                y + BAR - 5.5,
                escaped(name),
                escaped(said)
            );
            y += BAR;
        }
        y += GAP;
    }
    out + "</svg>\n"
}

#[expect(clippy::cast_precision_loss, reason = "a handful of bars")]
fn count(bars: usize) -> f64 {
    bars as f64
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
