//! The reference of values in the chart's README, made from the comments of values.yaml.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::render::{CHART, chart, is_as_made};
use crate::values::leaves;

const BEGIN: &str = "<!-- values: made from values.yaml -->\n";
const END: &str = "<!-- values: end -->\n";

/// A value, and what its comment says.
struct Documented {
    path: String,
    says: String,
}

/// What the file says above each key. A key inside a list is no value, and a comment followed by an empty line is about none.
fn documented(text: &str, values: &Value) -> Vec<Documented> {
    let mut found = Vec::new();
    let mut comment = Vec::new();
    let mut above: Vec<(usize, &str)> = Vec::new();
    for line in text.lines() {
        let words = line.trim_start();
        if let Some(said) = words.strip_prefix("# ") {
            comment.push(said);
            continue;
        }
        let said = std::mem::take(&mut comment).join(" ");
        let Some((key, _)) = words.split_once(':') else {
            continue;
        };
        let indent = line.len() - words.len();
        above.retain(|(of, _)| *of < indent);
        above.push((indent, key));
        let keys: Vec<&str> = above.iter().map(|(_, key)| *key).collect();
        if !said.is_empty() && values.pointer(&format!("/{}", keys.join("/"))).is_some() {
            found.push(Documented {
                path: keys.join("."),
                says: said,
            });
        }
    }
    found
}

/// Whether a comment tells of all that is in a value, not only what its parts have in common.
fn is_whole(one: &Documented, all: &[Documented]) -> bool {
    let inner = format!("{}.", one.path);
    !all.iter().any(|it| it.path.starts_with(&inner))
}

fn table(all: &[Documented], values: &Value) -> Result<String> {
    let mut table = String::from("| value | default | what it is |\n| --- | --- | --- |\n");
    for one @ Documented { path, says } in all {
        let default = values.pointer(&format!("/{}", path.replace('.', "/")));
        let default = match default.context("documented, and not there")? {
            _ if !is_whole(one, all) => String::new(),
            Value::String(text) if text.is_empty() => String::new(),
            Value::Null => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        writeln!(table, "| `{path}` | {default} | {} |", says.replace('|', "\\|"))?;
    }
    Ok(table)
}

#[test]
fn the_readme_has_the_reference_of_all_values() -> Result<()> {
    let text = std::fs::read_to_string(chart(CHART).join("values.yaml"))?;
    let values: Value = serde_saphyr::from_str(&text)?;
    let all = documented(&text, &values);
    let mut untold = Vec::new();
    leaves("", &values, &mut untold);
    let told = |leaf: &str, it: &Documented| {
        leaf == it.path || (is_whole(it, &all) && leaf.starts_with(&format!("{}.", it.path)))
    };
    untold.retain(|leaf| !all.iter().any(|it| told(leaf, it)));
    ensure!(untold.is_empty(), "values.yaml says nothing of {untold:?}");

    let path = chart(CHART).join("README.md");
    let readme = std::fs::read_to_string(&path)?;
    let (before, rest) = readme.split_once(BEGIN).context("the README has no place for values")?;
    let (_, after) = rest.split_once(END).context("the place for values has no end")?;
    let wanted = format!("{before}{BEGIN}{}{END}{after}", table(&all, &values)?);
    is_as_made(&path, &wanted)
}
