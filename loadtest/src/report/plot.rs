//! A plot: lines, areas or bars in an SVG that stretches with the page, with words around it that do not.
//!
//! The geometry is drawn in a square of 1000 by 1000 that the browser stretches to the width of the page; strokes keep their
//! width. Everything that is read is HTML at places in percent, so that it has one size on a phone and on a large screen.

mod scale;
mod shape;

use maud::{Markup, html};

pub(crate) use self::scale::{Axis, Unit};
pub(crate) use self::shape::{Series, Shape};

/// A plot with everything that belongs to it.
#[derive(Debug, Default)]
pub(crate) struct Plot {
    /// What it shows.
    pub(crate) title: String,
    /// How to read it.
    pub(crate) about: String,
    /// From left to right.
    pub(crate) x: Axis,
    /// From bottom to top.
    pub(crate) y: Axis,
    /// What is drawn, from back to front.
    pub(crate) series: Vec<Series>,
    /// Stretches of the x axis that mean something.
    pub(crate) bands: Vec<Band>,
    /// Levels of the y axis that mean something.
    pub(crate) levels: Vec<Level>,
    /// Names of the whole numbers on the x axis, where it counts things.
    pub(crate) names: Vec<String>,
    /// Whether it wants the whole width of the page.
    pub(crate) wide: bool,
}

/// A stretch of the x axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Band {
    /// Where it begins and ends.
    pub(crate) from: f64,
    /// See `from`.
    pub(crate) to: f64,
    /// A word or a number above it.
    pub(crate) tag: String,
    /// `fault`, `warm-up` or `phase`.
    pub(crate) class: &'static str,
}

/// A level of the y axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Level {
    /// Which one.
    pub(crate) at: f64,
    /// What it is.
    pub(crate) words: String,
}

impl Plot {
    /// The plot as part of a page.
    pub(crate) fn draw(&self) -> Markup {
        html! {
            figure.plot.wide[self.wide] data-points=(self.points()) {
                figcaption {
                    h3 { (self.title) }
                    @if !self.about.is_empty() { p { (self.about) } }
                    @if self.series.len() > 1 { (self.legend()) }
                }
                @if self.points() == 0 {
                    p.empty { "Nothing was measured." }
                } @else {
                    (self.frame())
                }
            }
        }
    }

    fn points(&self) -> usize {
        self.series.iter().map(|series| series.points.len()).sum()
    }

    fn legend(&self) -> Markup {
        html! {
            ul.legend {
                @for series in &self.series {
                    li class=(series.class) { i class=(series.shape.class()) {} (series.name) }
                }
            }
        }
    }

    fn frame(&self) -> Markup {
        html! {
            div.frame {
                div.y-ticks aria-hidden="true" {
                    @for (place, text) in self.y.ticks() { span style=(percent("bottom", place)) { (text) } }
                }
                div.canvas data-plot=(self.numbers()) {
                    @for band in &self.bands { (self.band(band)) }
                    svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label=(self.title) {
                        @for (place, _) in self.y.ticks() {
                            line.grid x1="0" x2="1000" y1=(y(place)) y2=(y(place)) {}
                        }
                        @for series in &self.series { (series.draw(&self.x, &self.y)) }
                    }
                    @for level in &self.levels {
                        div.level style=(percent("bottom", self.y.place(level.at))) { span { (level.words) } }
                    }
                    div.reading hidden {}
                }
                div.x-ticks aria-hidden="true" {
                    @if self.names.is_empty() { @for (place, text) in self.x.ticks() { span style=(percent("left", place)) { (text) } } }
                }
            }
        }
    }

    fn band(&self, band: &Band) -> Markup {
        let (from, to) = (self.x.place(band.from), self.x.place(band.to));
        let style = format!("left:{:.2}%;width:{:.2}%", from * 100.0, (to - from).max(0.0) * 100.0);
        html! { div class={ "band " (band.class) } style=(style) { span { (band.tag) } } }
    }

    /// What the page's script reads to tell the numbers under the pointer.
    fn numbers(&self) -> String {
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        let numbered = self.series.iter().zip(self.series.iter().skip(1).map(Some).chain([None]));
        let series: Vec<_> = numbered
            .map(|(series, below)| {
                let below = below.filter(|_| series.shape == Shape::Stacked).map_or(&[][..], |below| &below.points);
                let own = |(at, &(x, y)): (usize, &(f64, f64))| {
                    [rounded(x), rounded(y - below.get(at).map_or(0.0, |point| point.1))]
                };
                let points: Vec<_> = series.points.iter().enumerate().map(own).collect();
                serde_json::json!({ "name": series.name, "points": points })
            })
            .collect();
        let (x, y) = (self.x.described(), self.y.described());
        serde_json::json!({ "x": x, "y": y, "series": series, "names": self.names }).to_string()
    }
}

/// A height in the drawing, where 0 is at the top.
fn y(place: f64) -> String {
    format!("{:.1}", (1.0 - place) * 1000.0)
}

fn percent(property: &str, place: f64) -> String {
    format!("{property}:{:.2}%", place * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_from_outside_are_escaped() {
        let hostile = "</script><img src=x onerror=alert(1)> \"&'";
        let plot = Plot {
            title: hostile.to_owned(),
            series: vec![
                Series { name: hostile.to_owned(), points: vec![(0.0, 1.0), (1.0, 2.0)], ..Series::default() },
                Series { points: vec![(0.0, 1.0)], ..Series::default() },
            ],
            bands: vec![Band { from: 0.0, to: 1.0, tag: hostile.to_owned(), class: "fault" }],
            levels: vec![Level { at: 1.0, words: hostile.to_owned() }],
            ..Plot::default()
        };
        let page = plot.draw().into_string();
        assert!(!page.contains("<img") && !page.contains("</script"), "{page}");
        assert!(page.contains("&lt;img src=x"));
    }

    #[test]
    fn of_what_stands_on_others_the_own_part_is_told() {
        let stacked = |y| Series { shape: Shape::Stacked, points: vec![(0.0, y)], ..Series::default() };
        let plot = Plot { series: vec![stacked(3.0), stacked(1.0)], ..Plot::default() };
        let numbers: serde_json::Value = serde_json::from_str(&plot.numbers()).unwrap();
        let told = [0, 1].map(|series| numbers["series"][series]["points"][0][1].as_f64().unwrap());
        assert_eq!(told, [2.0, 1.0]);
    }

    #[test]
    fn an_empty_plot_says_so() {
        let page = Plot { title: "Rates".to_owned(), ..Plot::default() }.draw().into_string();
        assert!(page.contains("Nothing was measured.") && page.contains("data-points=\"0\"") && !page.contains("<svg"));
    }
}
