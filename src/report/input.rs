//! Reports as JSON: numbers as they are, the same shape in both directions.

use super::check;
use super::error::ReportError;
use super::model::Document;

/// More is no report but data.
const TEXT_BYTES_MAX: usize = 256 << 20;

/// Reads a report that a script wrote.
///
/// # Errors
///
/// It is too long, no JSON, of another shape, or beyond what is shown; each says
/// where.
pub fn from_json(text: &str) -> Result<Document, ReportError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ReportError::TooLong {
            bytes: text.len(),
            most: TEXT_BYTES_MAX,
        });
    }
    let document = serde_json::from_str(text)?;
    check::document(&document)?;
    Ok(document)
}

/// Writes a report for other programs. Numbers that are not finite become `null`.
///
/// # Errors
///
/// None that a report can cause; serde's are passed on.
pub fn json(document: &Document) -> Result<String, ReportError> {
    Ok(serde_json::to_string_pretty(document)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cell, Item, Marks};

    fn chart(marks: &str) -> String {
        format!(
            r#"{{"title":"t","sections":[{{"heading":"h","items":[{{"chart":
            {{"name":"c","title":"c","x":{{}},"y":{{}},"marks":{marks}}}}}]}}]}}"#
        )
    }

    #[test]
    fn what_is_written_is_read() {
        let text = chart(r#"{"lines":{"series":[{"name":"a","points":[[1,2],[3,4.5]]}]}}"#);
        let document = from_json(&text).unwrap();
        assert_eq!(from_json(&json(&document).unwrap()).unwrap(), document);
    }

    #[test]
    fn null_is_no_number() {
        let text = chart(r#"{"lines":{"series":[{"name":"a","points":[[1,null]]}]}}"#);
        let document = from_json(&text).unwrap();
        let Item::Chart(chart) = &document.sections[0].items[0] else {
            panic!("a chart was written");
        };
        let Marks::Lines(lines) = &chart.marks else {
            panic!("lines were written");
        };
        assert!(lines.series[0].points[0].1.is_nan());
        assert!(json(&document).unwrap().contains("null"));
        assert_eq!(
            serde_json::to_string(&Cell::Real(f64::INFINITY)).unwrap(),
            r#"{"real":null}"#
        );
    }

    #[test]
    fn errors_say_where() {
        let says = |text: &str| from_json(text).unwrap_err().to_string();
        assert!(says("{\n\"title\":\n7}").contains("line 3"));
        assert!(says(r#"{"title":"","colour":1}"#).contains("colour"));
        let heat = r#"{"heat":{"columns":2,"rows":3,"values":[1],"x":[0,1],"y":[0,1]}}"#;
        assert_eq!(
            says(&chart(heat)),
            "sections[0].items[0].chart.marks.heat.values: there are 1, but 6 are expected. \
             Make them equal"
        );
        let bars = r#"{"bars":{"groups":["a"],"series":[["s",[1,2]]]}}"#;
        assert!(says(&chart(bars)).starts_with("sections[0].items[0].chart.marks.bars.series[0]"));
        let many = vec![r#"{"name":"a","points":[]}"#; 65].join(",");
        assert!(
            says(&chart(&format!(r#"{{"lines":{{"series":[{many}]}}}}"#))).contains("at most 64")
        );
    }
}
