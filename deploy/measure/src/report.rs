//! What a benchmark prints: a Markdown table for humans, then one line per figure for scripts.

use std::fmt;

use crate::spread::Spread;

/// The outcome of a benchmark.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The table.
    pub(crate) rows: Vec<Row>,
    /// How it was measured, and what could not be measured and why.
    pub(crate) notes: Vec<String>,
}

/// A table of texts, for what is compared rather than for what has a bar.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The names of the columns.
    pub(crate) head: Vec<&'static str>,
    /// The rows, each with a text for every column.
    pub(crate) rows: Vec<Vec<String>>,
}

/// One thing that was measured.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// What it is, with its unit.
    pub(crate) what: &'static str,
    /// What the rounds gave; `None` when it could not be measured.
    pub(crate) rounds: Option<Spread>,
    /// How many decimals make sense.
    pub(crate) decimals: usize,
    /// The most that it should be, or the least where more is better.
    pub(crate) bar: Option<f64>,
    /// The name under which scripts find the median.
    pub(crate) figure: Option<&'static str>,
}

impl Report {
    /// The figures that could be had: names and medians.
    pub(crate) fn figures(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.rows.iter().filter_map(|row| Some((row.figure?, row.number(row.rounds?.median))))
    }
}

impl Row {
    fn number(&self, value: f64) -> String {
        format!("{value:.*}", self.decimals)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | median | lowest | highest | bar |")?;
        writeln!(f, "|---|---:|---:|---:|---:|")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        writeln!(f)?;
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        writeln!(f)?;
        for (name, value) in self.figures() {
            writeln!(f, "figure {name} {value}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.head.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.head.len()))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bar = self.bar.map(|bar| self.number(bar)).unwrap_or_default();
        match self.rounds {
            Some(Spread { median, lowest, highest }) => {
                let [median, lowest, highest] = [median, lowest, highest].map(|value| self.number(value));
                write!(f, "| {} | {median} | {lowest} | {highest} | {bar} |", self.what)
            }
            None => write!(f, "| {} | not measured | | | {bar} |", self.what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_measured_has_a_row_and_no_figure() {
        let measured = Row {
            what: "ratio",
            rounds: Spread::of(&[1.25, 1.5, 1.0]),
            decimals: 2,
            bar: Some(1.25),
            figure: Some("us_over_them"),
        };
        let missing = Row { what: "p99, µs", bar: Some(5000.0), figure: Some("p99_us"), ..Row::default() };
        let plain = Row { what: "base, µs", rounds: Spread::of(&[10.4]), ..Row::default() };
        let report = Report { rows: vec![measured, missing, plain], notes: vec!["too few arrivals".to_owned()] };
        let expected = "\
            | | median | lowest | highest | bar |\n\
            |---|---:|---:|---:|---:|\n\
            | ratio | 1.25 | 1.00 | 1.50 | 1.25 |\n\
            | p99, µs | not measured | | | 5000 |\n\
            | base, µs | 10 | 10 | 10 |  |\n\
            \n\
            - too few arrivals\n\
            \n\
            figure us_over_them 1.25\n";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn a_table_has_a_line_for_its_columns() {
        let rows = vec![vec!["we".to_owned(), "2".to_owned()]];
        let table = Table { head: vec!["who", "how fast"], rows };
        assert_eq!(table.to_string(), "| who | how fast |\n|---|---|\n| we | 2 |\n");
    }
}
