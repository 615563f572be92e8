//! Makes wrong objects from sound ones: for every field of a schema, everything that its schema forbids.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// An object that must be refused: by a finding of one of these fields, with these words.
pub struct Case {
    pub title: String,
    pub object: Value,
    /// The API server writes an entry of a map as `labels.key` or `labels[key]`, by who finds the fault.
    pub fields: Vec<String>,
    pub words: Vec<String>,
}

/// Control characters and what turns text around: they end up in terminals, events and pages.
const UNSEEMLY: [(&str, char); 5] = [
    ("a line break", '\n'),
    ("a carriage return", '\r'),
    ("an escape character", '\u{1b}'),
    ("a bidirectional override", '\u{202e}'),
    ("a line separator", '\u{2028}'),
];

/// Wrong objects for every field that one of the sound objects has, and the fields that none has.
pub fn every_field(schema: &Value, sound: &[&Value]) -> (Vec<Case>, BTreeSet<String>) {
    let mut maker = Maker {
        cases: Vec::new(),
        seen: BTreeSet::new(),
        object: &Value::Null,
    };
    let spec = &schema["properties"]["spec"];
    for object in sound {
        maker.object = object;
        maker.walk(
            spec,
            &At {
                pointer: "/spec".into(),
                fields: vec!["spec".into()],
                place: "spec".into(),
            },
        );
    }
    let mut all = BTreeSet::new();
    places(spec, "spec", &mut all);
    let missed = all.difference(&maker.seen).cloned().collect();
    (maker.cases, missed)
}

/// Where an object holds a field that may be left out, but that the schema doesn't call nullable.
pub fn optional(schema: &Value, object: &Value, pointer: &str, found: &mut BTreeSet<String>) {
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let pointer = format!("{pointer}/{name}");
        if object.pointer(&pointer).is_none() {
            continue;
        }
        if !required.contains(&json!(name)) && property["nullable"] != true {
            found.insert(pointer.clone());
        }
        optional(property, object, &pointer, found);
    }
    if let Some(items) = schema.get("items") {
        optional(items, object, &format!("{pointer}/0"), found);
    }
}

/// Every place of a schema.
fn places(schema: &Value, place: &str, all: &mut BTreeSet<String>) {
    all.insert(place.to_owned());
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        places(property, &format!("{place}.{name}"), all);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = schema.get(key) {
            places(inner, &format!("{place}{mark}"), all);
        }
    }
}

/// Where a value stands: in the object, in messages, in the schema.
struct At {
    pointer: String,
    fields: Vec<String>,
    place: String,
}

impl At {
    fn property(&self, name: &str) -> Self {
        Self {
            pointer: format!("{}/{name}", self.pointer),
            fields: self.fields.iter().map(|field| format!("{field}.{name}")).collect(),
            place: format!("{}.{name}", self.place),
        }
    }

    fn item(&self, index: usize) -> Self {
        Self {
            pointer: format!("{}/{index}", self.pointer),
            fields: self.fields.iter().map(|field| format!("{field}[{index}]")).collect(),
            place: format!("{}[]", self.place),
        }
    }

    fn entry(&self, key: &str) -> Self {
        let both = |field: &String| [format!("{field}.{key}"), format!("{field}[{key}]")];
        Self {
            pointer: format!("{}/{key}", self.pointer),
            fields: self.fields.iter().flat_map(both).collect(),
            place: format!("{}{{}}", self.place),
        }
    }
}

struct Maker<'a> {
    cases: Vec<Case>,
    seen: BTreeSet<String>,
    object: &'a Value,
}

impl Maker<'_> {
    fn walk(&mut self, schema: &Value, at: &At) {
        let Some(value) = self.object.pointer(&at.pointer).cloned() else {
            return;
        };
        let first_time = self.seen.insert(at.place.clone());
        let kind = schema["type"].as_str().unwrap_or_default();
        if first_time {
            self.of_any(schema, kind, at);
            match kind {
                "string" => self.of_string(schema, &value, at),
                "integer" => self.of_integer(schema, at),
                "array" => self.of_list(schema, &value, at),
                "object" => self.of_object(schema, at),
                _ => {}
            }
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            self.walk(property, &at.property(name));
        }
        if let Some(items) = schema.get("items") {
            self.walk(items, &at.item(0));
        }
        if let (Some(inner), Some(entries)) = (schema.get("additionalProperties"), value.as_object()) {
            for key in entries.keys().take(1) {
                self.walk(inner, &at.entry(key));
            }
        }
    }

    fn case(&mut self, at: &At, what: &str, value: Value, words: &[&str]) {
        let mut object = self.object.clone();
        if let Some(place) = object.pointer_mut(&at.pointer) {
            *place = value;
        }
        self.push(object, at, what, words);
    }

    fn push(&mut self, object: Value, at: &At, what: &str, words: &[&str]) {
        self.cases.push(Case {
            title: format!("{} {}: {what}", super::kind_of(self.object), at.place),
            object,
            fields: at.fields.clone(),
            words: words.iter().map(|&word| word.to_owned()).collect(),
        });
    }

    fn of_any(&mut self, schema: &Value, kind: &str, at: &At) {
        let other = match kind {
            "string" | "object" => json!(7),
            _ => json!("something else"),
        };
        let wanted = schema["format"].as_str().filter(|_| kind == "string").unwrap_or(kind);
        self.case(at, "wrong type", other, &["must be of type", wanted]);
    }

    fn of_string(&mut self, schema: &Value, value: &Value, at: &At) {
        if let Some(allowed) = schema["enum"].as_array() {
            let words: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
            self.case(at, "unknown value", json!("Unheard-of"), &words);
        }
        if let Some(most) = schema["maxLength"].as_u64() {
            let long = "a".repeat(usize::try_from(most).unwrap_or(usize::MAX - 1) + 1);
            self.case(at, "too long", json!(long), &[&most.to_string()]);
        }
        if let Some(least) = schema["minLength"].as_u64().filter(|&least| least > 0) {
            let short = "a".repeat(usize::try_from(least).unwrap_or(1) - 1);
            self.case(at, "too short", json!(short), &[&least.to_string()]);
            self.case(at, "empty", json!(""), &[&least.to_string()]);
        }
        let message = schema["x-kubernetes-validations"][0]["message"]
            .as_str()
            .unwrap_or_default();
        for (what, unseemly) in UNSEEMLY {
            let text = value.as_str().unwrap_or_default();
            let with = |at: usize| -> String {
                let replaced = |(index, old)| if index == at { unseemly } else { old };
                text.chars().enumerate().map(replaced).collect()
            };
            let length = text.chars().count();
            self.case(at, what, json!(with(length / 2)), &[message]);
            self.case(
                at,
                &format!("{what} at the end"),
                json!(with(length.saturating_sub(1))),
                &[message],
            );
        }
    }

    fn of_integer(&mut self, schema: &Value, at: &At) {
        for (bound, beyond) in [("minimum", -1), ("maximum", 1)] {
            if let Some(limit) = schema[bound].as_f64() {
                // Bounds are whole numbers that the schema writes as fractions.
                let text = format!("{limit:.0}");
                let limit: i64 = text.parse().unwrap_or_default();
                self.case(at, &format!("beyond the {bound}"), json!(limit + beyond), &[&text]);
            }
        }
        self.case(at, "a fraction", json!(1.5), &["must be of type"]);
    }

    fn of_list(&mut self, schema: &Value, value: &Value, at: &At) {
        let first = value[0].clone();
        if let Some(most) = schema["maxItems"].as_u64() {
            let many = vec![first; usize::try_from(most).unwrap_or(0) + 1];
            self.case(at, "too many", json!(many), &[&most.to_string()]);
        }
        let twice = json!([value[0], value[0]]);
        if schema["x-kubernetes-list-type"] == "set" {
            let mut object = self.object.clone();
            if let Some(place) = object.pointer_mut(&at.pointer) {
                *place = twice.clone();
            }
            self.push(object, &at.item(1), "twice", &["Duplicate value"]);
        }
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            if message.ends_with("must be distinct") {
                self.case(at, "twice", twice.clone(), &[message]);
            }
        }
        if let Some(least) = schema["minItems"].as_u64().filter(|&least| least > 0) {
            self.case(at, "too few", json!([]), &[&least.to_string()]);
        }
    }

    fn of_object(&mut self, schema: &Value, at: &At) {
        if let Some(most) = schema["maxProperties"].as_u64() {
            let many: serde_json::Map<String, Value> =
                (0..=most).map(|n| (format!("key-{n}"), json!("value"))).collect();
            self.case(at, "too many", Value::Object(many), &[&most.to_string()]);
        }
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let mut object = self.object.clone();
            if let Some(fields) = object.pointer_mut(&at.pointer).and_then(Value::as_object_mut) {
                fields.remove(name);
            }
            self.push(object, &at.property(name), "missing", &["Required"]);
            self.case(&at.property(name), "null", Value::Null, &["Required"]);
        }
    }
}
