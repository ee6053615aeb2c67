//! What texts and numbers may be. The tables have the same rules.

use super::Refusal;

/// Characters of a name.
pub(super) const NAME_CHARS_MAX: usize = 255;
/// Characters of a note.
pub(super) const NOTE_CHARS_MAX: usize = 16_384;
/// Tags, and keys, of a container.
const LIST_MAX: usize = 128;
/// Characters of a key: RSA with 16,384 bits has 2,800.
const KEY_CHARS_MAX: usize = 8192;

/// A name: anything, but not nothing.
pub(super) fn name(what: &'static str, text: &str) -> Result<(), Refusal> {
    match text.is_empty() || !is_short(text) {
        true => Err(Refusal::Text {
            what,
            expected: "1 to 255 characters, none of them NUL",
        }),
        false => Ok(()),
    }
}

/// A short text, or none.
pub(super) fn short(what: &'static str, text: &str) -> Result<(), Refusal> {
    match is_short(text) {
        true => Ok(()),
        false => Err(Refusal::Text {
            what,
            expected: "at most 255 characters, none of them NUL",
        }),
    }
}

/// A long text, or none.
pub(super) fn note(text: &str) -> Result<(), Refusal> {
    match has_at_most(text, NOTE_CHARS_MAX) {
        true => Ok(()),
        false => Err(Refusal::Text {
            what: "note",
            expected: "at most 16384 characters",
        }),
    }
}

/// Tags, each once.
pub(super) fn tags(tags: &[String]) -> Result<Vec<&str>, Refusal> {
    list("tags", tags, |tag| {
        name("tags", tag)?;
        Ok(tag)
    })
}

/// Keys of SSH, each in one line, each once.
pub(super) fn ssh_keys(keys: &[String]) -> Result<Vec<&str>, Refusal> {
    list("ssh_keys", keys, |key| {
        let key = key.trim();
        match key.is_empty() || key.contains(char::is_control) || !has_at_most(key, KEY_CHARS_MAX) {
            true => Err(Refusal::Text {
                what: "ssh_keys",
                expected: "each key as one line of at most 8192 characters",
            }),
            false => Ok(key),
        }
    })
}

fn list<'a>(
    what: &'static str,
    texts: &'a [String],
    check: impl Fn(&'a str) -> Result<&'a str, Refusal>,
) -> Result<Vec<&'a str>, Refusal> {
    if texts.len() > LIST_MAX {
        let max = LIST_MAX;
        return Err(Refusal::TooMany { what, max });
    }
    let mut checked = Vec::with_capacity(texts.len());
    for text in texts {
        let text = check(text)?;
        if !checked.contains(&text) {
            checked.push(text);
        }
    }
    Ok(checked)
}

fn is_short(text: &str) -> bool {
    has_at_most(text, NAME_CHARS_MAX) && !text.contains('\0')
}

/// A character has at most 4 bytes: a longer text is not counted.
fn has_at_most(text: &str, chars: usize) -> bool {
    text.len() <= 4 * chars && text.chars().count() <= chars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_characters() {
        for good in ["a", "'\"\n;--", &"𝒳".repeat(255)] {
            name("name", good).unwrap();
            short("name", good).unwrap();
        }
        short("ip", "").unwrap();
        for wrong in ["", "a\0b", &"𝒳".repeat(256), &"a".repeat(256)] {
            name("name", wrong).unwrap_err();
        }
        note(&"𝒳".repeat(NOTE_CHARS_MAX)).unwrap();
        note(&"a".repeat(NOTE_CHARS_MAX + 1)).unwrap_err();
    }

    #[test]
    fn lists_have_each_once() {
        let of = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(tags(&of(&["b", "a", "b"])).unwrap(), ["b", "a"]);
        assert_eq!(ssh_keys(&of(&["ssh-rsa A\n"])).unwrap(), ["ssh-rsa A"]);
        for wrong in ["", "\n", "a\nb", &"k".repeat(KEY_CHARS_MAX + 1)] {
            ssh_keys(&of(&[wrong])).unwrap_err();
        }
        tags(&vec!["t".to_owned(); LIST_MAX + 1]).unwrap_err();
    }
}
