//! Every resource that the API server serves, with its verbs, and what its schema can name.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use serde_json::{Value, json};

/// Fields by which an object speaks of an identity: whoever holds one of them may run as it, or gets rights.
const NAMING: [&str; 3] = ["serviceAccountName", "serviceAccount", "subjects"];
/// What the chart's schema lets nobody put into the ceiling.
const NO_CEILING: [&str; 4] = [
    "serviceaccounts/token",
    "nodes/proxy",
    "pods/ephemeralcontainers",
    "certificatesigningrequests/approval",
];
/// What names an identity in another way: by its own name, by an annotation, by what is signed.
const NAMING_OTHERWISE: [&str; 6] = [
    "serviceaccounts",
    "serviceaccounts/token",
    "secrets",
    "certificatesigningrequests",
    "roles",
    "clusterroles",
];
const GROUP: &str = "wayleave.dev";

/// A resource, or a subresource of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    pub group: String,
    pub version: String,
    /// `pods`, or `pods/status`.
    pub name: String,
    pub kind: String,
    /// Group and version of what is written, where it is another's: `authentication.k8s.io/v1` of `serviceaccounts/token`.
    pub api_version: String,
    pub namespaced: bool,
    pub verbs: BTreeSet<String>,
    /// Whether its schema has a field that names an identity.
    pub names_identities: bool,
}

impl Resource {
    pub fn is_subresource(&self) -> bool {
        self.name.contains('/')
    }

    pub fn is_ours(&self) -> bool {
        self.group == GROUP
    }

    pub fn has(&self, verb: &str) -> bool {
        self.verbs.contains(verb)
    }

    /// `deployments.apps`, as kubectl has it.
    pub fn shown(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.name, self.group)
    }

    /// The path of a collection or, with a name, of an object; a subresource's name comes after it.
    pub fn path(&self, namespace: &str, name: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced {
            path.push_str(&format!("/namespaces/{namespace}"));
        }
        let (resource, subresource) = self.name.split_once('/').unwrap_or((&self.name, ""));
        path.push_str(&format!("/{resource}"));
        if let Some(name) = name {
            path.push_str(&format!("/{name}"));
        }
        if !subresource.is_empty() {
            path.push_str(&format!("/{subresource}"));
        }
        path
    }
}

/// Everything that is served, in every version.
pub async fn discover(client: &Client) -> Result<Vec<Resource>> {
    let naming = kinds_that_name(client).await?;
    let mut all = Vec::new();
    let core = client.list_core_api_versions().await?;
    for version in &core.versions {
        let list = client.list_core_api_resources(version).await?;
        all.extend(resources("", version, &list.resources, &naming));
    }
    for group in client.list_api_groups().await?.groups {
        for version in &group.versions {
            let list = client.list_api_group_resources(&version.group_version).await?;
            all.extend(resources(&group.name, &version.version, &list.resources, &naming));
        }
    }
    ensure!(all.len() > 100, "only {} resources are served", all.len());
    all.sort();
    Ok(all)
}

fn resources(
    group: &str,
    version: &str,
    served: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource],
    naming: &BTreeSet<(String, String)>,
) -> Vec<Resource> {
    let of = |it: &k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource| {
        let own =
            |own: &Option<String>, else_: &str| own.clone().filter(|it| !it.is_empty()).unwrap_or(else_.to_owned());
        let (kind_group, kind_version) = (own(&it.group, group), own(&it.version, version));
        let api_version = if kind_group.is_empty() {
            kind_version
        } else {
            format!("{kind_group}/{kind_version}")
        };
        Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            name: it.name.clone(),
            kind: it.kind.clone(),
            names_identities: naming.contains(&(api_version.clone(), it.kind.clone()))
                || NAMING_OTHERWISE.contains(&it.name.as_str()),
            api_version,
            namespaced: it.namespaced,
            verbs: it.verbs.iter().cloned().collect(),
        }
    };
    served.iter().map(of).collect()
}

/// The kinds, by version and name, whose schema has a field that names an identity, however deep.
async fn kinds_that_name(client: &Client) -> Result<BTreeSet<(String, String)>> {
    let request = http::Request::get("/openapi/v2").header("accept", "application/json");
    let text = client.request_text(request.body(Vec::new())?).await?;
    let schema: Value = serde_json::from_str(&text)?;
    let definitions = schema["definitions"].as_object().context("no definitions")?;
    let mut kinds = BTreeSet::new();
    for (name, definition) in definitions {
        if !names_identities(name, definitions) {
            continue;
        }
        for of in definition["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let text = |key: &str| of[key].as_str().unwrap_or_default().to_owned();
            let (group, version) = (text("group"), text("version"));
            let api_version = if group.is_empty() {
                version
            } else {
                format!("{group}/{version}")
            };
            kinds.insert((api_version, text("kind")));
        }
    }
    for (version, kind) in [
        ("v1", "Pod"),
        ("batch/v1", "CronJob"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ] {
        ensure!(
            kinds.contains(&(version.to_owned(), kind.to_owned())),
            "{kind} names nobody"
        );
    }
    Ok(kinds)
}

fn names_identities(name: &str, definitions: &serde_json::Map<String, Value>) -> bool {
    let (mut seen, mut open) = (BTreeSet::from([name]), vec![name]);
    while let Some(name) = open.pop() {
        let mut found = false;
        walk(definitions.get(name).unwrap_or(&Value::Null), &mut |key, value| {
            if key == "properties" {
                found |= NAMING.iter().any(|field| value.get(field).is_some());
            }
            if key == "$ref"
                && let Some(name) = value.as_str().and_then(|it| it.strip_prefix("#/definitions/"))
                && seen.insert(name)
            {
                open.push(name);
            }
        });
        if found {
            return true;
        }
    }
    false
}

fn walk<'a>(value: &'a Value, see: &mut impl FnMut(&'a str, &'a Value)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                see(key, value);
                walk(value, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        _ => {}
    }
}

/// The widest ceiling that the chart takes: every verb on everything that lies in namespaces.
pub fn widest_ceiling(all: &[Resource]) -> Value {
    let mut rules = BTreeSet::new();
    for it in all
        .iter()
        .filter(|it| it.namespaced && !NO_CEILING.contains(&it.name.as_str()))
    {
        rules.insert((
            it.group.clone(),
            it.name.clone(),
            it.verbs.iter().cloned().collect::<Vec<_>>(),
        ));
    }
    let rule = |(group, name, verbs)| json!({"apiGroups": [group], "resources": [name], "verbs": verbs});
    rules.into_iter().map(rule).collect()
}

#[test]
fn a_schema_names_an_identity_through_others_too() {
    let definitions = json!({
        "Deployment": {"properties": {"spec": {"$ref": "#/definitions/Template"}}},
        "Template": {"properties": {"self": {"$ref": "#/definitions/Template"}, "pod": {"items": {"$ref": "#/definitions/PodSpec"}}}},
        "PodSpec": {"properties": {"serviceAccountName": {"type": "string"}}},
        "ConfigMap": {"properties": {"data": {"type": "object", "description": "subjects"}}},
    });
    let definitions = definitions.as_object().unwrap();
    assert!(names_identities("Deployment", definitions) && names_identities("Template", definitions));
    assert!(!names_identities("ConfigMap", definitions));
}
