//! The page about logs tells of every field that the code logs, and of no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../docs/logs.md");

/// Calls by which something is logged, or put around what is logged.
const MACROS: [&str; 6] = [
    "tracing::error!(",
    "tracing::warn!(",
    "tracing::info!(",
    "tracing::debug!(",
    "tracing::trace!(",
    "tracing::info_span!(",
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|it| it == "rs") {
            into.push(path);
        }
    }
}

/// The arguments of a call, whose text begins behind its parenthesis.
fn arguments(text: &str) -> Vec<String> {
    let (mut all, mut one, mut depth) = (Vec::new(), String::new(), 0);
    let (mut in_text, mut escaped) = (false, false);
    for it in text.chars() {
        if in_text {
            in_text = escaped || it != '"';
            escaped = !escaped && it == '\\';
        } else {
            match it {
                '"' => in_text = true,
                '(' | '[' | '{' => depth += 1,
                ')' if depth == 0 => break,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    all.push(std::mem::take(&mut one));
                    continue;
                }
                _ => {}
            }
        }
        one.push(it);
    }
    all.push(one);
    all.iter()
        .map(|it| it.trim().to_owned())
        .filter(|it| !it.is_empty())
        .collect()
}

/// The names of what is logged beside the message.
fn fields(source: &str) -> Vec<String> {
    let calls = MACROS.iter().flat_map(|name| source.split(name).skip(1));
    let arguments = calls.flat_map(arguments).filter(|it| !it.starts_with('"'));
    let names = arguments.map(|it| {
        let name = it.split('=').next().unwrap_or_default().trim();
        name.trim_start_matches(['%', '?']).to_owned()
    });
    names.collect()
}

#[test]
fn the_page_about_logs_has_every_field_and_no_other() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut logged = BTreeSet::from(["message".to_owned()]);
    for file in files {
        logged.extend(fields(&std::fs::read_to_string(file).expect("source is text")));
    }
    assert!(logged.len() > 10, "{logged:?}");
    let table = PAGE
        .split("| field | what it is |\n")
        .nth(1)
        .expect("no table of fields");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap_or_default());
    let told = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    assert_eq!(told.map(str::to_owned).collect::<BTreeSet<_>>(), logged);
}

#[test]
fn fields_are_found_in_every_form() {
    let source = r#"tracing::warn!(%error, kind, left = some.count(1, 2), skew = ?seen, "said, (once)"); tracing::info!("no field")"#;
    assert_eq!(fields(source), ["error", "kind", "left", "skew"]);
}
