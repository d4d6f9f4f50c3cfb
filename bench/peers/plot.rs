//! Charts of lines, as SVG beside the bench's results.

use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/plots");

const SIZE: (u32, u32) = (900, 420);

/// Told apart by the colour-blind, too (Okabe and Ito); the first is sequin's.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

pub struct Line {
    pub name: String,
    /// Lines of a group have a colour.
    pub group: &'static str,
    pub points: Vec<(f64, f64)>,
    pub is_dashed: bool,
}

/// `log`: whether the axes, x and y, are logarithmic.
pub fn lines(file: &str, title: &str, names: (&str, &str), log: (bool, bool), lines: &[Line]) {
    std::fs::create_dir_all(FOLDER).unwrap();
    let path = Path::new(FOLDER).join(file);
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let points = || lines.iter().flat_map(|line| &line.points);
    let (x, y) = (range(points().map(|p| p.0), log.0), range(points().map(|p| p.1), log.1));
    match log {
        (false, false) => draw(&area, title, names, x, y, lines),
        (false, true) => draw(&area, title, names, x, y.log_scale(), lines),
        (true, false) => draw(&area, title, names, x.log_scale(), y, lines),
        (true, true) => draw(&area, title, names, x.log_scale(), y.log_scale(), lines),
    }
    area.present().unwrap();
    eprintln!("written to {}", path.display());
}

/// From 0, or on a logarithmic axis from a little below the least.
fn range(values: impl Iterator<Item = f64>, is_log: bool) -> std::ops::Range<f64> {
    let (least, most) =
        values.fold((f64::MAX, f64::MIN), |(least, most), v| (least.min(v), most.max(v)));
    if is_log { least / 1.5..most * 1.5 } else { 0.0..most * 1.05 }
}

fn draw<X, Y>(
    area: &DrawingArea<SVGBackend, Shift>,
    title: &str,
    names: (&str, &str),
    x: X,
    y: Y,
    lines: &[Line],
) where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(x, y)
        .unwrap();
    let number = |value: &f64| format!("{value}");
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).x_desc(names.0).y_desc(names.1);
    mesh.x_label_formatter(&number).y_label_formatter(&number).draw().unwrap();
    let mut groups: Vec<&str> = lines.iter().map(|line| line.group).collect();
    groups.dedup();
    for line in lines {
        let n = groups.iter().position(|group| *group == line.group).unwrap();
        let style = COLOURS[n % COLOURS.len()].stroke_width(2);
        let points = line.points.iter().copied();
        let drawn = if line.is_dashed {
            chart.draw_series(DashedLineSeries::new(points, 6, 4, style)).unwrap()
        } else {
            chart.draw_series(LineSeries::new(points, style)).unwrap()
        };
        let end = if line.is_dashed { 10 } else { 20 };
        drawn
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + end, y)], style));
    }
    let mut legend = chart.configure_series_labels();
    legend.background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2));
    legend.position(SeriesLabelPosition::LowerLeft).draw().unwrap();
}
