//! Results as tables, JSON and YAML; nothing in them can take over a terminal. Pure but for the writer it is given.

use std::io::Write;

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::args::OutputFormat;

pub use crate::domain::text::{escape, is_hostile};

/// What stands for a value that is absent.
pub const NONE: &str = "<none>";
/// Blanks between two columns, as kubectl has them.
const GAP: u16 = 3;

/// A table without borders; an empty cell says so.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for row in rows {
        table.add_row(
            row.iter()
                .map(|cell| if cell.is_empty() { NONE.to_owned() } else { escape(cell) }),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.trim_fmt()
}

/// JSON in which hostile characters are escaped too.
///
/// # Errors
///
/// When the value can't be written as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<String> {
    let plain = serde_json::to_string_pretty(value).context("writing JSON")?;
    let mut escaped = String::with_capacity(plain.len());
    // Only strings can hold such a character: between them stand line breaks, blanks and ASCII marks.
    for character in plain.chars() {
        if character != '\n' && is_hostile(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(character);
        }
    }
    escaped.push('\n');
    Ok(escaped)
}

/// YAML; where a hostile character would be in it, its subset JSON, in which it can be escaped everywhere.
///
/// # Errors
///
/// When the value can't be written as YAML.
pub fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    let plain = serde_saphyr::to_string(value).context("writing YAML")?;
    if plain
        .chars()
        .any(|character| character != '\n' && is_hostile(character))
    {
        return json(value);
    }
    Ok(plain)
}

/// Writes a value in the form asked for; `text` is its table or line.
///
/// # Errors
///
/// When the value can't be written.
pub fn write(out: &mut dyn Write, format: OutputFormat, value: &impl Serialize, text: &str) -> anyhow::Result<()> {
    match format {
        OutputFormat::Table => writeln!(out, "{text}"),
        OutputFormat::Json => write!(out, "{}", json(value)?),
        OutputFormat::Yaml => write!(out, "{}", yaml(value)?),
    }
    .context("writing the result")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_borders_and_no_trailing_blanks() {
        let rows = [
            vec!["payments".to_owned(), "\u{1b}[2J".to_owned()],
            vec!["x".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["NAMESPACE", "NAME"], &rows),
            "NAMESPACE   NAME\npayments    \\u{1b}[2J\nx           <none>"
        );
    }

    #[test]
    fn json_and_yaml_keep_the_value_and_hold_nothing_hostile() {
        let value = serde_json::json!({"reason": "a\u{9b}b\u{202e}c\u{7f}\n"});
        for text in [json(&value).unwrap(), yaml(&value).unwrap()] {
            assert!(!text.chars().any(|c| c != '\n' && is_hostile(c)), "{text}");
        }
        let back: serde_json::Value = serde_json::from_str(&json(&value).unwrap()).unwrap();
        assert_eq!(back, value);
    }
}
