//! Text in XML and HTML.

use std::fmt::Write as _;

use crate::text::is_hidden;

/// Text that is nothing but text there, in an attribute too. Control characters,
/// which XML cannot hold, and those that turn the direction of writing are shown as
/// their numbers.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if is_hidden(c) => {
                let _infallible = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let hostile = "</svg><script>\"'&\0\u{1b}\u{202e}\u{ffff}é";
        let safe = "&lt;/svg&gt;&lt;script&gt;&quot;&#39;&amp;\\u{0}\\u{1b}\\u{202e}\\u{ffff}é";
        assert_eq!(escaped(hostile), safe);
    }
}
