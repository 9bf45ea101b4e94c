//! Numbers as people read them.

/// Microseconds, in the unit that leaves few digits.
pub(crate) fn micros(us: f64) -> String {
    match us {
        us if us >= 9.995e6 => format!("{:.1} s", us / 1e6),
        us if us >= 999_500.0 => format!("{:.2} s", us / 1e6),
        us if us >= 9_995.0 => format!("{:.0} ms", us / 1e3),
        us if us >= 999.5 => format!("{:.1} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}

/// A count or a rate, with thousands apart; small ones that are not whole get a digit.
pub(crate) fn count(value: f64) -> String {
    if value.abs() < 10.0 && value.fract().abs() > 0.005 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A whole count.
pub(crate) fn whole(value: u64) -> String {
    count(float(value))
}

/// A part of one, in percent.
pub(crate) fn percent(part: f64) -> String {
    let percent = part * 100.0;
    match percent.abs() {
        0.0 => "0 %".to_owned(),
        small if small < 0.1 => format!("{percent:.3} %"),
        small if small < 10.0 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// MiB, or GiB when there are many.
pub(crate) fn mib(value: f64) -> String {
    match value {
        value if value >= 10_240.0 => format!("{:.1} GiB", value / 1024.0),
        value if value >= 10.0 => format!("{value:.0} MiB"),
        value => format!("{value:.1} MiB"),
    }
}

/// Seconds, as hours and minutes when there are many.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        value if value >= 5_400.0 => format!("{:.1} h", value / 3_600.0),
        value if value >= 180.0 => format!("{:.1} min", value / 60.0),
        value if value >= 10.0 => format!("{value:.0} s"),
        value => format!("{value:.1} s"),
    }
}

/// "1 tenant", "2 tenants".
pub(crate) fn many(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {noun}{s}", whole(count))
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "what is counted here stays far below 2^53")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_few_digits() {
        let cases = [(0.0, "0 µs"), (999.4, "999 µs"), (999.6, "1.0 ms"), (1_849.0, "1.8 ms"), (12_345.0, "12 ms")];
        let long = [(999_499.0, "999 ms"), (1_250_000.0, "1.25 s"), (61_000_000.0, "61.0 s")];
        for (us, text) in cases.into_iter().chain(long) {
            assert_eq!(micros(us), text);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        let cases =
            [(0.0, "0"), (7.25, "7.2"), (7.0, "7"), (999.0, "999"), (1_000.0, "1,000"), (-12_345_678.0, "-12,345,678")];
        for (value, text) in cases {
            assert_eq!(count(value), text);
        }
        assert_eq!([many(1, "tenant"), many(1_200, "tenant")], ["1 tenant", "1,200 tenants"]);
    }

    #[test]
    fn parts_and_sizes_have_their_unit() {
        assert_eq!([0.0, 0.0004, 0.0123, 0.5].map(percent), ["0 %", "0.040 %", "1.2 %", "50 %"]);
        assert_eq!([1.26, 100.4, 20_480.0].map(mib), ["1.3 MiB", "100 MiB", "20.0 GiB"]);
        assert_eq!([1.25, 90.0, 600.0, 7_200.0].map(seconds), ["1.2 s", "90 s", "10.0 min", "2.0 h"]);
    }
}
