//! Charts of lines, as SVG beside the bench's results.

use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/plots");

const SIZE: (u32, u32) = (980, 420);

/// In pixels, at the right.
const LEGEND_WIDTH: u32 = 170;

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
    let (area, right) = area.split_horizontally(SIZE.0 - LEGEND_WIDTH);
    legend(&right, lines);
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
    for line in lines {
        let points = line.points.iter().copied();
        if line.is_dashed {
            chart.draw_series(DashedLineSeries::new(points, 6, 4, style(lines, line))).unwrap();
        } else {
            chart.draw_series(LineSeries::new(points, style(lines, line))).unwrap();
        }
    }
}

fn style(lines: &[Line], line: &Line) -> ShapeStyle {
    let mut groups: Vec<&str> = lines.iter().map(|line| line.group).collect();
    groups.dedup();
    let n = groups.iter().position(|group| *group == line.group).unwrap();
    COLOURS[n % COLOURS.len()].stroke_width(2)
}

/// Beside the chart, where no line goes.
fn legend(area: &DrawingArea<SVGBackend, Shift>, lines: &[Line]) {
    const TOP: i32 = 50;
    const HEIGHT: i32 = 20;
    for (n, line) in lines.iter().enumerate() {
        let y = TOP + HEIGHT * n as i32;
        let dashes: &[(i32, i32)] = if line.is_dashed { &[(0, 6), (10, 16)] } else { &[(0, 20)] };
        for (from, to) in dashes {
            let dash = PathElement::new([(*from, y), (*to, y)], style(lines, line));
            area.draw(&dash).unwrap();
        }
        let name = Text::new(line.name.as_str(), (28, y - 6), ("sans-serif", 12));
        area.draw(&name).unwrap();
    }
}
