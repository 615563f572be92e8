//! Text that others wrote, made fit for terminals, tables and events. Pure: no I/O, no clock, no randomness.

/// Whether a character can move, colour, hide or reorder what a terminal shows.
#[must_use]
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with every hostile character spelled out.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hostile(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The text, cut at a character where it is longer than so many bytes; what is cut off is shown as `…`.
#[must_use]
pub fn bounded(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        let end = longest.saturating_sub('…'.len_utf8());
        text.truncate(text.floor_char_boundary(end));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_take_over_a_terminal_is_spelled_out() {
        assert_eq!(
            escape("a\u{1b}[31mb\u{202e}c\r\n"),
            "a\\u{1b}[31mb\\u{202e}c\\u{d}\\u{a}"
        );
        assert_eq!(escape("Zoë's grant, 日本"), "Zoë's grant, 日本");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(bounded("short".to_owned(), 5), "short");
        let cut = bounded("é".repeat(10), 10);
        assert_eq!(cut, "ééé…");
        assert!(cut.len() <= 10);
    }
}
