//! From numbers to places between 0 and 1, and the numbers that stand beside an axis.

use super::super::units;

/// What an axis counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Anything that is counted, or a rate.
    #[default]
    Count,
    /// Latency.
    Micros,
    /// Time since the load began.
    Seconds,
    /// Busy processors.
    Cores,
    /// A part of one.
    Percent,
}

/// One axis of a plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axis {
    unit: Unit,
    scale: Scale,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Linear {
        from: f64,
        to: f64,
    },
    Log {
        from: f64,
        to: f64,
    },
    /// Each nine has the same room: 0, 90 %, 99 %, and so on.
    Nines(f64),
}

impl Default for Axis {
    fn default() -> Self {
        Self::from_zero(Unit::Count, 1.0)
    }
}

impl Axis {
    /// An even axis from 0 to a round number that is not below `most`.
    pub(crate) fn from_zero(unit: Unit, most: f64) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let step = step(most);
        Self { unit, scale: Scale::Linear { from: 0.0, to: (most / step - 1e-9).ceil() * step } }
    }

    /// An even axis between two numbers.
    pub(crate) fn between(unit: Unit, from: f64, to: f64) -> Self {
        Self { unit, scale: Scale::Linear { from, to: if to > from { to } else { from + 1.0 } } }
    }

    /// An axis on which each factor of ten has the same room, over whole decades or halves of them.
    pub(crate) fn log(unit: Unit, least: f64, most: f64) -> Self {
        let least = least.max(1.0);
        let from = decade(least.log10().floor());
        let top = most.max(least * 1.01);
        let to = [1.0, 2.0, 5.0, 10.0].map(|part| part * decade(top.log10().floor())).into_iter().find(|&to| to >= top);
        Self { unit, scale: Scale::Log { from, to: to.unwrap_or(top).max(from * 10.0) } }
    }

    /// An axis of quantiles that shows the tail: up to so many nines.
    pub(crate) fn nines(nines: u32) -> Self {
        Self { unit: Unit::Percent, scale: Scale::Nines(f64::from(nines.max(1))) }
    }

    /// Where a number lies on it, from 0 to 1.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear { from, to } => (value - from) / (to - from),
            Scale::Log { from, to } => (value.max(from) / from).log10() / (to / from).log10(),
            Scale::Nines(nines) => -(1.0 - value).max(1e-12).log10() / nines,
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The numbers beside it: where, and what.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        self.values().into_iter().map(|value| (self.place(value), self.text(value))).collect()
    }

    fn values(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear { from, to } => {
                let step = step(to - from);
                let first = (from / step - 1e-9).ceil();
                (0..12)
                    .map(|number| (first + f64::from(number)) * step)
                    .take_while(|&value| value <= to * 1.000_001)
                    .collect()
            }
            Scale::Log { from, to } => (0..12)
                .map(|number| from * decade(f64::from(number)))
                .take_while(|&value| value <= to * 1.000_001)
                .collect(),
            Scale::Nines(nines) => {
                let tails = (1..12).map(f64::from).take_while(|&nine| nine <= nines).map(|nine| 1.0 - decade(-nine));
                std::iter::once(0.5).chain(tails).collect()
            }
        }
    }

    fn text(&self, value: f64) -> String {
        match self.unit {
            Unit::Count => units::count(value),
            Unit::Micros => short(&units::micros(value)),
            Unit::Seconds => units::seconds(value).replace(".0 ", " "),
            Unit::Cores => format!("{value:.1}"),
            Unit::Percent => nines(value),
        }
    }

    /// For the page's script.
    pub(super) fn described(&self) -> serde_json::Value {
        let (kind, from, to) = match self.scale {
            Scale::Linear { from, to } => ("linear", from, to),
            Scale::Log { from, to } => ("log", from, to),
            Scale::Nines(nines) => ("nines", 0.0, nines),
        };
        let unit = match self.unit {
            Unit::Count => "count",
            Unit::Micros => "micros",
            Unit::Seconds => "seconds",
            Unit::Cores => "cores",
            Unit::Percent => "percent",
        };
        serde_json::json!({ "kind": kind, "from": from, "to": to, "unit": unit })
    }
}

fn decade(exponent: f64) -> f64 {
    10f64.powf(exponent)
}

/// A round step that divides a range into four to ten.
fn step(range: f64) -> f64 {
    let rough = range / 5.0;
    let below = decade(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|part| part * below).into_iter().find(|&step| step >= rough * 0.999).unwrap_or(rough)
}

/// Without a fraction that is zero: beside an axis, numbers are round.
fn short(text: &str) -> String {
    text.replace(".00 ", " ").replace(".0 ", " ")
}

/// 0.999 as "99.9 %", with no more digits than there are nines.
fn nines(value: f64) -> String {
    let text = format!("{:.6}", value * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn an_even_axis_ends_at_a_round_number() {
        assert_eq!(texts(Axis::from_zero(Unit::Count, 870.0)), ["0", "200", "400", "600", "800", "1,000"]);
        assert_eq!(texts(Axis::from_zero(Unit::Cores, 1.9)), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
        assert_eq!(texts(Axis::between(Unit::Seconds, 0.0, 60.0)), ["0 s", "20 s", "40 s", "60 s"]);
        assert_eq!(Axis::from_zero(Unit::Count, 100.0).place(50.0), 0.5);
        for nothing in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            assert!(!texts(Axis::from_zero(Unit::Count, nothing)).is_empty());
        }
    }

    #[test]
    fn a_logarithmic_axis_has_a_tick_for_each_decade() {
        let axis = Axis::log(Unit::Micros, 340.0, 48_000.0);
        assert_eq!(texts(axis), ["100 µs", "1 ms", "10 ms"]);
        assert_eq!(axis.place(100.0), 0.0);
        assert!(axis.place(48_000.0) < 1.0 && axis.place(48_000.0) > 0.95);
        assert_eq!(axis.place(1.0), 0.0, "what lies outside is drawn at the edge");
        assert!(texts(Axis::log(Unit::Micros, 0.0, 0.0)).len() > 1);
    }

    #[test]
    fn each_nine_has_the_same_room() {
        let axis = Axis::nines(4);
        assert_eq!(texts(axis), ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert!((axis.place(0.99) - 0.5).abs() < 1e-9 && (axis.place(0.9) - 0.25).abs() < 1e-9);
        assert_eq!(axis.place(1.0), 1.0);
    }
}
