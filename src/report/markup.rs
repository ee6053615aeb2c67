//! Text in XML and HTML.

use std::fmt::Write as _;

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
            c if hidden(c) => {
                let _infallible = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Whether a character changes how others are shown instead of being shown.
pub(super) fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
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
