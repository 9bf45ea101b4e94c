//! What is drawn in a plot.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::Axis;

/// The most points that one line is drawn with: more than a screen has columns show nothing.
const MOST: usize = 1_200;

/// One measured thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    /// What it is.
    pub(crate) name: String,
    /// Its colour: `s1` to `s6`, or `bad`.
    pub(crate) class: &'static str,
    /// How it is drawn.
    pub(crate) shape: Shape,
    /// Its points, by rising x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A line.
    #[default]
    Line,
    /// A thin broken line, for what was asked for.
    Dashed,
    /// A line with everything below it filled.
    Area,
    /// A line that goes up where there is something, for distributions.
    Steps,
    /// An area that stands on the next series, for parts of a whole.
    Stacked,
    /// A bar of one unit's width for each point.
    Bars,
}

impl Shape {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Line | Self::Steps => "line",
            Self::Dashed => "dashed",
            Self::Area => "area",
            Self::Stacked => "stacked",
            Self::Bars => "bars",
        }
    }
}

impl Series {
    /// The same with no more points than a screen can show: of each group of neighbours, the one with the greatest y, since
    /// what is looked for is what stands out.
    pub(crate) fn thinned(mut self) -> Self {
        if self.points.len() > MOST {
            let group = self.points.len().div_ceil(MOST);
            let highest = |group: &[(f64, f64)]| group.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
            self.points = self.points.chunks(group).filter_map(highest).collect();
        }
        self
    }

    pub(super) fn draw(&self, x: &Axis, y: &Axis) -> Markup {
        let class = format!("{} {}", self.class, self.shape.class());
        html! {
            @match self.shape {
                Shape::Line | Shape::Dashed => path class=(class) d=(self.line(x, y, false)) {},
                Shape::Steps => path class=(class) d=(self.line(x, y, true)) {},
                Shape::Area | Shape::Stacked => {
                    path class=(class) d={ (self.line(x, y, false)) (self.down_to_the_axis(x)) } {}
                    path class={ (self.class) " line" } d=(self.line(x, y, false)) {}
                },
                Shape::Bars => path class=(class) d=(self.bars(x, y)) {},
            }
        }
    }

    fn line(&self, x: &Axis, y: &Axis, steps: bool) -> String {
        let mut path = String::new();
        let mut before = None;
        for &(at, value) in &self.points {
            let (at, value) = (x.place(at) * 1000.0, (1.0 - y.place(value)) * 1000.0);
            let command = if path.is_empty() { 'M' } else { 'L' };
            if let Some(before) = before.filter(|_| steps) {
                // Writing to a string does not fail.
                write!(path, "L{at:.1} {before:.1}").unwrap_or_default();
            }
            write!(path, "{command}{at:.1} {value:.1}").unwrap_or_default();
            before = Some(value);
        }
        path
    }

    fn down_to_the_axis(&self, x: &Axis) -> String {
        let ends = self.points.first().zip(self.points.last());
        let place = |point: &(f64, f64)| x.place(point.0) * 1000.0;
        ends.map(|(first, last)| format!("L{:.1} 1000L{:.1} 1000Z", place(last), place(first))).unwrap_or_default()
    }

    fn bars(&self, x: &Axis, y: &Axis) -> String {
        let mut path = String::new();
        for &(at, value) in &self.points {
            let (left, right) = (x.place(at - 0.42) * 1000.0, x.place(at + 0.42) * 1000.0);
            let top = (1.0 - y.place(value)) * 1000.0;
            write!(path, "M{left:.2} 1000V{top:.1}H{right:.2}V1000Z").unwrap_or_default();
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unit;
    use super::*;

    fn series(shape: Shape, points: &[(f64, f64)]) -> String {
        let series = Series { name: "rate".into(), class: "s1", shape, points: points.to_vec() };
        series.draw(&Axis::between(Unit::Count, 0.0, 10.0), &Axis::from_zero(Unit::Count, 10.0)).into_string()
    }

    #[test]
    fn points_are_drawn_where_they_belong() {
        let points = [(0.0, 0.0), (10.0, 10.0)];
        assert_eq!(series(Shape::Line, &points), r#"<path class="s1 line" d="M0.0 1000.0L1000.0 0.0"></path>"#);
        assert!(series(Shape::Steps, &points).contains("M0.0 1000.0L1000.0 1000.0L1000.0 0.0"));
        assert!(series(Shape::Area, &points).contains("L1000.0 0.0L1000.0 1000L0.0 1000Z"));
        assert!(series(Shape::Bars, &[(5.0, 5.0)]).contains("M458.00 1000V500.0H542.00V1000Z"));
    }

    #[test]
    fn long_lines_are_thinned_and_keep_what_stands_out() {
        let points = (0..100_000).map(|at| (f64::from(at), if at == 77_777 { 9.0 } else { 1.0 })).collect();
        let thinned = Series { points, ..Series::default() }.thinned();
        assert!(thinned.points.len() <= MOST);
        assert!(thinned.points.contains(&(77_777.0, 9.0)));
    }
}
