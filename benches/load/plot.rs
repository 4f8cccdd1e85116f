//! Plots figures over time, one below the other.

use std::fmt::Write as _;

/// One quantity over time.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// Seconds and values.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 90.0;
const LEFT: f64 = 60.0;
const GAP: f64 = 34.0;

/// Returns the plot as SVG.
pub(crate) fn plot(lines: &[Line]) -> String {
    let count = u32::try_from(lines.len()).map_or(1.0, f64::from);
    let (width, height) = (LEFT + WIDTH + 20.0, count * (HEIGHT + GAP) + 20.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let end = lines
        .iter()
        .filter_map(|line| line.points.last())
        .map(|point| point.0);
    let end = end.fold(1.0, f64::max);
    let mut top = GAP;
    for line in lines {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}", panel(line, top, end));
        top += HEIGHT + GAP;
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{end:.0} s</text>\n</svg>",
        LEFT + WIDTH,
        top - GAP + 14.0
    );
    text
}

fn panel(line: &Line, top: f64, end: f64) -> String {
    let most = line.points.iter().map(|point| point.1).fold(0.0, f64::max);
    let scale = if most > 0.0 { HEIGHT / most } else { 0.0 };
    let bottom = top + HEIGHT;
    let points: Vec<String> = line
        .points
        .iter()
        .map(|(at, value)| {
            format!(
                "{:.1},{:.1}",
                LEFT + at / end * WIDTH,
                bottom - value * scale
            )
        })
        .collect();
    let (right, name) = (LEFT + WIDTH, line.name);
    format!(
        "<text x=\"{LEFT}\" y=\"{}\">{name}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{most:.2}</text>\n\
         <text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\n\
         <path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#999\"/>\n\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#06c\"/>\n",
        top - 6.0,
        LEFT - 6.0,
        top + 10.0,
        LEFT - 6.0,
        points.join(" ")
    )
}
