//! Every place of a kind where text stands, by its schema, and how to write something there.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use wayleave_e2e::operator::workspace;

/// What the API server makes of an object's own metadata; the schema says nothing about it.
const METADATA: [&str; 8] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.labels{}",
    "metadata.labels{key}",
    "metadata.annotations{}",
    "metadata.annotations{key}",
    "metadata.ownerReferences[].name",
    "metadata.ownerReferences[].uid",
];

/// A place where text stands: `spec.access[].namespaces[]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub String);

/// Every place of a kind where its schema lets text stand, and those of metadata.
pub fn of_kind(plural: &str) -> Result<Vec<Place>> {
    let file = workspace().join(Path::new("crds")).join(format!("{plural}.yaml"));
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let definition: Value = serde_saphyr::from_str(&text)?;
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut found: Vec<String> = METADATA.iter().map(|&place| place.to_owned()).collect();
    walk(schema, "spec", &mut found)?;
    Ok(found.into_iter().map(Place).collect())
}

fn walk(schema: &Value, place: &str, found: &mut Vec<String>) -> Result<()> {
    match schema["type"].as_str() {
        Some("string") => found.push(place.to_owned()),
        Some("array") => walk(&schema["items"], &format!("{place}[]"), found)?,
        Some("object") => {
            let properties = schema["properties"].as_object();
            if properties.is_none() || schema.get("additionalProperties").is_some() {
                bail!("{place} is a map: this test is yet to learn how to write its keys and values");
            }
            for (name, property) in properties.into_iter().flatten() {
                walk(property, &format!("{place}.{name}"), found)?;
            }
        }
        Some("boolean" | "integer") => {}
        other => bail!("{place} is {other:?}: this test is yet to learn what can stand there"),
    }
    Ok(())
}

impl Place {
    /// The field's own name, which a refusal has to name.
    pub fn field(&self) -> &str {
        let plain = self.0.trim_end_matches(['[', ']', '{', '}']).trim_end_matches("{key");
        plain.rsplit('.').next().unwrap_or(plain)
    }

    /// Writes text into an object; false where the object has no room for it: it lacks what the place lies in.
    pub fn write(&self, object: &mut Value, text: &str, known: &[String]) -> bool {
        match self.0.as_str() {
            "metadata.labels{}" | "metadata.annotations{}" => {
                let all = known.iter().map(|key| (key.clone(), json!(text)));
                let field = self.field().to_owned();
                object["metadata"][field] = all.collect::<serde_json::Map<_, _>>().into();
            }
            "metadata.labels{key}" | "metadata.annotations{key}" => {
                let field = self.0.trim_start_matches("metadata.").trim_end_matches("{key}");
                object["metadata"][field] = json!({text: "true"});
            }
            "metadata.ownerReferences[].name" | "metadata.ownerReferences[].uid" => {
                let mut owner = json!({
                    "apiVersion": "wayleave.dev/v1alpha1", "kind": "AccessGrant", "name": "somebody",
                    "uid": "5d0c6a7e-0000-4000-8000-000000000001",
                });
                owner[self.field()] = json!(text);
                object["metadata"]["ownerReferences"] = json!([owner]);
            }
            place => {
                let steps: Vec<&str> = place.split('.').collect();
                return put(object, &steps, text);
            }
        }
        true
    }
}

fn put(value: &mut Value, steps: &[&str], text: &str) -> bool {
    let [step, rest @ ..] = steps else {
        *value = json!(text);
        return true;
    };
    let (name, is_list) = step.strip_suffix("[]").map_or((*step, false), |name| (name, true));
    let Some(fields) = value.as_object_mut() else {
        return false;
    };
    if !rest.is_empty() && !fields.contains_key(name) {
        return false;
    }
    let field = fields.entry(name).or_insert(Value::Null);
    if !is_list {
        return put(field, rest, text);
    }
    if field.is_null() {
        *field = json!([Value::Null]);
    }
    field.get_mut(0).is_some_and(|first| put(first, rest, text))
}
