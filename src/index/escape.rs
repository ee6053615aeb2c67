//! Names from an archive, safe to print.
//!
//! Guarantees: what is displayed holds no control character, no byte that is
//! not UTF-8 and no character that reorders or hides text, so a hostile name
//! cannot drive a terminal or forge a log line. Two different names never
//! display alike unless they were cut.

use std::fmt;

/// Displays bytes as text: printable UTF-8 as it is, `\xNN` and `\u{N}` for
/// all else, and `\\` for a backslash.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                    c if c.is_control() || hides_text(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters that change how others are shown: direction marks and overrides,
/// zero width, line and paragraph separators.
fn hides_text(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The name of an entry for a message: its first 256 bytes, shown escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryName {
    bytes: Box<[u8]>,
    cut: bool,
}

impl EntryName {
    const BYTES_MAX: usize = 256;

    /// The name for messages of the entry called `name`.
    pub fn new(name: &[u8]) -> Self {
        let kept = name.get(..Self::BYTES_MAX).unwrap_or(name);
        Self {
            bytes: kept.into(),
            cut: kept.len() < name.len(),
        }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.bytes).fmt(f)?;
        f.write_str(if self.cut { "..." } else { "" })
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_and_everything_that_drives_a_terminal_is_escaped() {
        let shown = |b: &[u8]| Escaped(b).to_string();
        assert_eq!(shown("a b/ü.txt".as_bytes()), "a b/ü.txt");
        assert_eq!(shown(b"\x1b[2Jx\n\x7f"), "\\x1b[2Jx\\x0a\\x7f");
        assert_eq!(shown(b"a\xff\\"), "a\\xff\\\\");
        assert_eq!(
            shown("\u{202e}gpj.\u{9b}".as_bytes()),
            "\\u{202e}gpj.\\u{9b}"
        );
    }

    #[test]
    fn long_names_are_cut_and_say_so() {
        assert_eq!(EntryName::new(&[b'a'; 256]).to_string(), "a".repeat(256));
        assert_eq!(
            EntryName::new(&[b'a'; 257]).to_string(),
            "a".repeat(256) + "..."
        );
    }
}
