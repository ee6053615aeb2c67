//! The text format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Guarantees: what is written can be read whatever the values of labels are; all
//! samples of a name stand together, after its `HELP` and `TYPE`.

use std::fmt::{Display, Write};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// It goes up and down.
    Gauge,
    /// It only grows, until its process ends.
    Counter,
    /// Counters of what was not more than something.
    Histogram,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Type::Gauge => "gauge",
            Type::Counter => "counter",
            Type::Histogram => "histogram",
        }
    }
}

/// The text.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// The labels of a sample.
pub(super) type Labels<'a> = [(&'a str, &'a dyn Display)];

impl Exposition {
    /// Begins a metric: its samples follow.
    pub(super) fn family(&mut self, name: &str, kind: Type, help: &str) -> Family<'_> {
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        escape(&mut self.0, help.trim(), false);
        self.0.push_str("\n# TYPE ");
        self.0.push_str(name);
        self.0.push(' ');
        self.0.push_str(kind.name());
        self.0.push('\n');
        Family {
            text: &mut self.0,
            name: name.to_owned(),
        }
    }

    /// All of it.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Where the samples of one metric are written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Family<'_> {
    /// A sample.
    pub(super) fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.line("", labels, None, &value);
    }

    /// A histogram, of how many were below each bound, and not below the one before;
    /// the last number is that of those above all bounds. `sum` is of all values.
    pub(super) fn histogram(
        &mut self,
        labels: &Labels<'_>,
        bounds: impl Iterator<Item = f64>,
        buckets: &[u64],
        sum: f64,
    ) {
        let mut seen = 0_u64;
        let mut counts = buckets.iter();
        for (bound, count) in bounds.zip(&mut counts) {
            seen = seen.saturating_add(*count);
            self.line("_bucket", labels, Some(&bound), &seen);
        }
        let seen = counts.fold(seen, |seen, count| seen.saturating_add(*count));
        self.line("_bucket", labels, Some(&"+Inf"), &seen);
        self.line("_sum", labels, None, &sum);
        self.line("_count", labels, None, &seen);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &Labels<'_>,
        bound: Option<&dyn Display>,
        value: &dyn Display,
    ) {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            self.text.push(before);
            before = ',';
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, &value.to_string(), true);
            self.text.push('"');
        }
        if before == ',' {
            self.text.push('}');
        }
        // Into memory, which cannot fail.
        let _written = writeln!(self.text, " {value}").is_ok();
    }
}

fn escape(into: &mut String, text: &str, is_quoted: bool) {
    for c in text.chars() {
        match c {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '"' if is_quoted => into.push_str("\\\""),
            c => into.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_cannot_be_taken_for_anything_else() {
        let mut text = Exposition::default();
        let mut family = text.family("a_total", Type::Counter, "What \\ it\nis \"here\".");
        family.sample(&[], 1);
        family.sample(&[("x", &"a\"} 7\n\\"), ("y", &2)], 0.5);
        assert_eq!(
            text.finish(),
            "# HELP a_total What \\\\ it\\nis \"here\".\n\
             # TYPE a_total counter\n\
             a_total 1\n\
             a_total{x=\"a\\\"} 7\\n\\\\\",y=\"2\"} 0.5\n"
        );
    }

    #[test]
    fn buckets_of_a_histogram_add_up() {
        let mut text = Exposition::default();
        let mut family = text.family("h", Type::Histogram, "H");
        family.histogram(&[], [0.5, 1.0].into_iter(), &[1, 0, 2], 9.5);
        family.histogram(&[("x", &1)], [0.5].into_iter(), &[], 0.0);
        let text = text.finish();
        let samples: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            samples,
            [
                "h_bucket{le=\"0.5\"} 1",
                "h_bucket{le=\"1\"} 1",
                "h_bucket{le=\"+Inf\"} 3",
                "h_sum 9.5",
                "h_count 3",
                "h_bucket{x=\"1\",le=\"+Inf\"} 0",
                "h_sum{x=\"1\"} 0",
                "h_count{x=\"1\"} 0",
            ]
        );
    }
}
