//! Every field of every kind says what it is and is bounded in length and number.

use std::fmt::Write as _;

use serde_json::Value;

/// Who writes a part of an object: the operator's own numbers count what there is, so nothing bounds them.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Spec,
    Status,
}

/// Walks a schema and notes whatever is missing.
fn walk(path: &str, schema: &Value, part: Part, faults: &mut Vec<String>) {
    let has = |key: &str| schema.get(key).is_some();
    let mut fault = |what: &str| faults.push(format!("{path}: {what}"));
    if let Some(format) = schema["format"].as_str()
        && !["date-time", "int32", "int64"].contains(&format)
    {
        fault(&format!("format {format} is foreign to CRDs"));
    }
    match schema["type"].as_str() {
        // In a status too: others make its words long by what they write.
        Some("string") if !has("enum") && !has("maxLength") && schema["format"] != "date-time" => {
            fault("a string without an end")
        }
        Some("integer") if part == Part::Spec && !(has("minimum") && has("maximum")) => {
            fault("a number without bounds")
        }
        Some("number") => fault("a number with a fraction: not the same on every machine"),
        Some("array") if !has("maxItems") => fault("a list without an end"),
        Some("array") => walk(&format!("{path}[*]"), &schema["items"], part, faults),
        Some("object") if has("additionalProperties") => {
            if !has("maxProperties") {
                fault("a map without an end");
            }
            walk(&format!("{path}[key]"), &schema["additionalProperties"], part, faults);
        }
        Some("object") => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            let before = faults.len();
            for (name, property) in properties {
                let path = format!("{path}.{name}");
                if property["description"]
                    .as_str()
                    .is_none_or(|text| text.trim().is_empty())
                {
                    faults.push(format!("{path}: no description"));
                }
                walk(&path, property, part, faults);
            }
            if schema["properties"].as_object().is_none_or(serde_json::Map::is_empty) {
                faults.insert(before, format!("{path}: an object without properties"));
            }
        }
        Some("string" | "integer" | "boolean") => {}
        other => fault(&format!("type {other:?}")),
    }
}

#[test]
fn every_field_is_described_and_bounded() {
    let mut faults = Vec::new();
    for crd in wayleave::api::all_crds() {
        for version in &crd.spec.versions {
            let schema = serde_json::to_value(&version.schema).unwrap();
            let schema = &schema["openAPIV3Schema"];
            let kind = &crd.spec.names.kind;
            assert!(schema["description"].is_string(), "{kind} has no description");
            walk(
                &format!("{kind}.spec"),
                &schema["properties"]["spec"],
                Part::Spec,
                &mut faults,
            );
            if let Some(status) = schema["properties"].get("status") {
                walk(&format!("{kind}.status"), status, Part::Status, &mut faults);
            }
        }
    }
    assert!(faults.is_empty(), "{}", lines(&faults));
}

#[test]
fn every_rule_has_a_message_of_its_own_words() {
    let mut faults = Vec::new();
    for crd in wayleave::api::all_crds() {
        let value = serde_json::to_value(&crd).unwrap();
        rules(&crd.spec.names.kind, &value, &mut faults);
    }
    assert!(faults.is_empty(), "{}", lines(&faults));
}

/// Rules without a message end up as CEL on somebody's screen.
fn rules(path: &str, value: &Value, faults: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for rule in value["x-kubernetes-validations"].as_array().into_iter().flatten() {
                if rule["message"]
                    .as_str()
                    .is_none_or(|text| text.trim().is_empty() || text.contains('\n'))
                {
                    faults.push(format!(
                        "{path}: a rule without a message of one line: {}",
                        rule["rule"]
                    ));
                }
            }
            for (key, field) in fields {
                rules(&format!("{path}.{key}"), field, faults);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| rules(path, item, faults)),
        _ => {}
    }
}

#[test]
fn tables_end_with_the_age() {
    for crd in wayleave::api::all_crds() {
        for version in &crd.spec.versions {
            let kind = &crd.spec.names.kind;
            let columns = version.additional_printer_columns.as_deref().unwrap_or_default();
            let last = columns
                .last()
                .map(|column| (column.name.as_str(), column.json_path.as_str()));
            assert_eq!(last, Some(("Age", ".metadata.creationTimestamp")), "{kind}");
            for column in columns.iter().filter(|column| column.type_ == "date") {
                // Kubectl shows how long ago a date is; of a future one it says <invalid>.
                assert_eq!(column.name, "Age", "{kind}: {} must be a string", column.name);
            }
        }
    }
}

fn lines(faults: &[String]) -> String {
    faults.iter().fold(String::new(), |mut text, fault| {
        let _ = writeln!(text, "\n{fault}");
        text
    })
}
