//! What the API server would refuse of an object by the structure of its kind: fields, types, lengths. Its rules in CEL are
//! not read here. Pure.

use serde_json::Value;

use crate::api;
use crate::domain::text::{bounded, escape};

/// The longest a value is shown.
const MOST_SHOWN: usize = 80;

/// The most faults of one object.
const MOST_FAULTS: usize = 32;

/// What is wrong with the spec of an object of ours, in words; nothing of other kinds.
pub(super) fn faults(kind: &str, object: &Value) -> Vec<String> {
    let crd = api::all_crds().into_iter().find(|crd| crd.spec.names.kind == kind);
    let schema = crd.and_then(|crd| {
        let version = crd.spec.versions.into_iter().next()?;
        serde_json::to_value(version.schema?.open_api_v3_schema?).ok()
    });
    let mut faults = Vec::new();
    if let Some(schema) = schema {
        walk("spec", &schema["properties"]["spec"], &object["spec"], &mut faults);
        let known = ["apiVersion", "kind", "metadata", "spec", "status"];
        for field in object.as_object().into_iter().flat_map(serde_json::Map::keys) {
            if !known.contains(&field.as_str()) {
                faults.push(format!("{}: unknown field", shown(field)));
            }
        }
    }
    faults.truncate(MOST_FAULTS);
    faults
}

fn shown(text: &str) -> String {
    bounded(escape(text), MOST_SHOWN)
}

fn given(value: &Value) -> String {
    match value {
        Value::Object(_) => "a map".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Null => "nothing".to_owned(),
        other => shown(&other.to_string()),
    }
}

fn walk(path: &str, schema: &Value, value: &Value, faults: &mut Vec<String>) {
    if faults.len() >= MOST_FAULTS {
        return;
    }
    let mut fault = |words: String| faults.push(format!("{path}: {words}"));
    let wanted = schema["type"].as_str().unwrap_or_default();
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => true,
    };
    if !fits {
        let wanted = match wanted {
            "object" => "a map",
            "array" => "a list",
            "string" => "a text",
            "boolean" => "true or false",
            _ => "a whole number",
        };
        return fault(format!("{}, must be {wanted}", given(value)));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let words: Vec<String> = allowed.iter().filter(|word| !word.is_null()).map(given).collect();
        return fault(format!("{}, allowed are {}", given(value), words.join(", ")));
    }
    let size = match value {
        Value::String(text) => Some((text.chars().count(), "minLength", "maxLength", "characters")),
        Value::Array(items) => Some((items.len(), "minItems", "maxItems", "entries")),
        Value::Object(fields) => Some((fields.len(), "minProperties", "maxProperties", "entries")),
        _ => None,
    };
    if let Some((size, least, most, unit)) = size {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        if let Some(least) = schema[least].as_u64().filter(|least| size < *least) {
            fault(format!("{size} {unit}, at least {least}"));
        }
        if let Some(most) = schema[most].as_u64().filter(|most| size > *most) {
            fault(format!("{size} {unit}, at most {most}"));
        }
    }
    if let Some(number) = value.as_f64() {
        if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
            fault(format!("{number}, at least {least}"));
        }
        if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
            fault(format!("{number}, at most {most}"));
        }
    }
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(&format!("{path}[{index}]"), &schema["items"], item, faults);
            }
        }
        Value::Object(fields) => walk_fields(path, schema, fields, faults),
        _ => {}
    }
}

fn walk_fields(path: &str, schema: &Value, fields: &serde_json::Map<String, Value>, faults: &mut Vec<String>) {
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if fields.get(name).is_none_or(Value::is_null) {
            faults.push(format!("{path}.{name}: missing, it is required"));
        }
    }
    for (name, field) in fields {
        let at = format!("{path}.{}", shown(name));
        // The API server drops a null, or puts the default in its place.
        if field.is_null() {
            continue;
        }
        if let Some(known) = schema["properties"].get(name) {
            walk(&at, known, field, faults);
        } else if schema["additionalProperties"].is_object() {
            walk(&at, &schema["additionalProperties"], field, faults);
        } else {
            let known: Vec<&str> = schema["properties"]
                .as_object()
                .into_iter()
                .flat_map(serde_json::Map::keys)
                .map(String::as_str)
                .collect();
            faults.push(format!("{at}: unknown field, allowed are {}", known.join(", ")));
        }
    }
}
