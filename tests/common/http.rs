//! A client for HTTP that is as simple as can be, and a strict reader of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks for `path`.
pub(crate) fn get(at: SocketAddr, path: &str) -> std::io::Result<Answer> {
    ask(
        at,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    )
}

/// Sends a request as it is, and reads until the connection ends.
pub(crate) fn ask(at: SocketAddr, request: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let odd = || std::io::Error::other(format!("not HTTP: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(odd)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer {
        status: status.ok_or_else(odd)?,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

/// Samples: name, labels, value.
pub(crate) type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// Reads the text format 0.0.4 and panics at whatever is not as it should be.
#[track_caller]
pub(crate) fn samples(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut types = BTreeMap::new();
    let mut samples = Samples::new();
    let (mut family, mut over) = (String::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a help text");
            assert!(!text.is_empty() && over.insert(name.to_owned()), "{line}");
            family = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(name, family, "{line}");
            assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(types.insert(name.to_owned(), kind).is_none(), "{line}");
        } else {
            let (name, labels, value) = sample(line);
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|base| types.get(*base) == Some(&"histogram"));
            let base = of_histogram.unwrap_or(&name);
            assert_eq!(base, family, "{line}: not below its TYPE");
            assert!(types.contains_key(base), "{line}: without a TYPE");
            assert_eq!(of_histogram.is_some(), types[base] == "histogram", "{line}");
            let before = samples.insert((name.clone(), labels), value);
            assert!(before.is_none(), "{line}: twice");
        }
    }
    for (name, kind) in types {
        if kind == "histogram" {
            check_histogram(&name, &samples);
        }
    }
    samples
}

/// Buckets never shrink, and the last one has all.
#[track_caller]
fn check_histogram(name: &str, samples: &Samples) {
    let mut buckets = BTreeMap::<_, Vec<(f64, f64)>>::new();
    for ((found, labels), value) in samples {
        if *found == format!("{name}_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").expect("a bucket without a bound");
            let bound = match bound.as_str() {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().expect("a bound"),
            };
            buckets.entry(labels).or_default().push((bound, *value));
        }
    }
    assert!(!buckets.is_empty(), "{name} has no samples");
    for (labels, mut buckets) in buckets {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{name} {labels:?}");
        let (bound, all) = buckets[buckets.len() - 1];
        assert_eq!(bound, f64::INFINITY, "{name} {labels:?}");
        let count = (format!("{name}_count"), labels.clone());
        assert_eq!(samples.get(&count), Some(&all), "{name} {labels:?}");
        let sum = (format!("{name}_sum"), labels);
        assert!(samples[&sum] >= 0.0);
    }
}

/// `name{label="value",...} 1.5`
#[track_caller]
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let value = value
        .parse()
        .unwrap_or_else(|_| panic!("{line}: no number"));
    let (name, mut rest) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').expect("an end of labels")),
        None => (series, ""),
    };
    let is_name = |name: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_part)
    };
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").expect("a label");
        assert!(is_name(label), "{line}");
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().expect("an end of a value") {
                (at, '"') => break at,
                (_, '\\') => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    other => panic!("{line}: {other:?} is escaped"),
                },
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
        rest = &quoted[end + 1..];
        rest = match rest.strip_prefix(',') {
            Some(more) if !more.is_empty() => more,
            None if rest.is_empty() => rest,
            _ => panic!("{line}: labels are not divided by commas"),
        };
    }
    (name.to_owned(), labels, value)
}
