//! The schema on a real API server: sound objects pass, and whatever is wrong in any field is refused at `kubectl apply`
//! with the field's path and the remedy.
#![expect(clippy::disallowed_types, reason = "tests drive a real cluster")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use wayleave_e2e::{ControlPlane, eventually};

#[path = "schema/cases.rs"]
mod cases;
#[path = "schema/kubectl.rs"]
mod kubectl;
#[path = "schema/wrong.rs"]
mod wrong;

const LIMIT: Duration = Duration::from_secs(60);
/// Requests under way at once.
const ABREAST: usize = 8;

/// A rule written in CEL, by kind, place and message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CelRule {
    kind: String,
    /// Lists are `[]` and maps `{}`; the object itself is the empty path.
    place: String,
    message: String,
}

/// One thing that the API server found wrong.
#[derive(Debug)]
struct Finding {
    field: String,
    message: String,
}

struct World {
    cp: ControlPlane,
    client: Client,
    crds: Vec<CustomResourceDefinition>,
}

impl World {
    /// A control plane with our kinds and nothing else.
    async fn start() -> Result<Self> {
        let cp = ControlPlane::start().await?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        let kubectl = cp.kubectl(&cp.admin_kubeconfig()).await?;
        kubectl
            .args(["apply", "--server-side", "-k"])
            .arg(&folder)
            .run()
            .await?
            .ok()?;
        let mut crds = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.ends_with("kustomization.yaml") {
                continue;
            }
            let text = std::fs::read_to_string(path)?;
            crds.push(serde_saphyr::from_str::<CustomResourceDefinition>(&text)?);
        }
        let client = cp.admin().await?;
        let world = Self { cp, client, crds };
        for crd in &world.crds {
            let kind = crd.spec.names.kind.as_str();
            eventually(&format!("{kind} to be served"), LIMIT, || async {
                world.api(kind)?.list(&ListParams::default().limit(1)).await?;
                Ok(Some(()))
            })
            .await?;
        }
        Ok(world)
    }

    fn crd(&self, kind: &str) -> Result<&CustomResourceDefinition> {
        let found = self.crds.iter().find(|crd| crd.spec.names.kind == kind);
        found.with_context(|| format!("no CRD of kind {kind}"))
    }

    /// The schema of a kind, as the file has it.
    fn schema(&self, kind: &str) -> Result<Value> {
        let value = serde_json::to_value(self.crd(kind)?)?;
        Ok(value["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
    }

    fn api(&self, kind: &str) -> Result<Api<DynamicObject>> {
        let crd = self.crd(kind)?;
        let resource = ApiResource {
            group: crd.spec.group.clone(),
            version: crd.spec.versions[0].name.clone(),
            api_version: format!("{}/{}", crd.spec.group, crd.spec.versions[0].name),
            kind: kind.to_owned(),
            plural: crd.spec.names.plural.clone(),
        };
        Ok(if crd.spec.scope == "Namespaced" {
            Api::namespaced_with(self.client.clone(), "default", &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        })
    }

    /// Every CEL rule of every kind.
    fn rules(&self) -> Result<BTreeSet<CelRule>> {
        let mut rules = BTreeSet::new();
        for crd in &self.crds {
            let kind = &crd.spec.names.kind;
            collect_rules(kind, "", &self.schema(kind)?, &mut rules);
        }
        Ok(rules)
    }

    /// Creates, for good or in a dry run, and tells what was found wrong; nothing, where it is accepted.
    async fn create(&self, object: &Value, dry_run: bool) -> Result<Vec<Finding>> {
        let kind = kind_of(object);
        let parameters = PostParams {
            dry_run,
            ..PostParams::default()
        };
        let body: DynamicObject = serde_json::from_value(object.clone())?;
        findings(self.api(kind)?.create(&parameters, &body).await)
    }

    async fn change(&self, kind: &str, name: &str, patch: &Value) -> Result<Vec<Finding>> {
        findings(
            self.api(kind)?
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )
    }
}

fn kind_of(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

/// A refusal of the schema as its findings; any other refusal is an error.
fn findings(answer: kube::Result<DynamicObject>) -> Result<Vec<Finding>> {
    match answer {
        Ok(_) => Ok(Vec::new()),
        Err(kube::Error::Api(status)) if status.code == 422 => {
            let causes = status.details.map(|details| details.causes).unwrap_or_default();
            ensure!(!causes.is_empty(), "refused without a cause: {}", status.message);
            let finding = |cause: kube::core::response::StatusCause| Finding {
                field: cause.field,
                message: cause.message,
            };
            Ok(causes.into_iter().map(finding).collect())
        }
        Err(error) => Err(error.into()),
    }
}

fn collect_rules(kind: &str, place: &str, schema: &Value, rules: &mut BTreeSet<CelRule>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        rules.insert(CelRule {
            kind: kind.to_owned(),
            place: place.to_owned(),
            message: rule["message"].as_str().unwrap_or_default().to_owned(),
        });
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let dot = if place.is_empty() { "" } else { "." };
        collect_rules(kind, &format!("{place}{dot}{name}"), property, rules);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = schema.get(key) {
            collect_rules(kind, &format!("{place}{mark}"), inner, rules);
        }
    }
}

/// The place in the schema of a field of an object: `spec.access[0]` is at `spec.access[]`.
fn place_of(field: &str) -> String {
    if field == "<nil>" {
        return String::new();
    }
    let mut place = String::new();
    let mut rest = field;
    while let Some((before, inner)) = rest.split_once('[') {
        let (index, after) = inner.split_once(']').unwrap_or((inner, ""));
        let number = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
        place.push_str(before);
        place.push_str(if number { "[]" } else { "{}" });
        rest = after;
    }
    place.push_str(rest);
    place
}

/// Notes the rules that these findings are of.
fn note_rules(kind: &str, found: &[Finding], hit: &mut BTreeSet<CelRule>, rules: &BTreeSet<CelRule>) {
    for finding in found {
        let place = place_of(&finding.field);
        let of_it = |rule: &&CelRule| {
            rule.kind == kind && rule.place == place && finding.message.contains(rule.message.as_str())
        };
        hit.extend(rules.iter().filter(of_it).cloned());
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_where_it_is_written() -> Result<()> {
    let world = World::start().await?;
    let rules = world.rules()?;
    let mut hit = BTreeSet::new();
    let mut faults: Vec<String> = Vec::new();

    let sound = cases::sound()?;
    for object in &sound {
        let found = world.create(object, true).await?;
        ensure!(found.is_empty(), "a sound {} is refused: {found:#?}", kind_of(object));
    }

    let mut wrong = Vec::new();
    let mut unseen = Vec::new();
    for crd in &world.crds {
        let kind = crd.spec.names.kind.as_str();
        let of_kind: Vec<&Value> = sound.iter().filter(|object| kind_of(object) == kind).collect();
        let (cases, missed) = wrong::every_field(&world.schema(kind)?, &of_kind);
        wrong.extend(cases);
        unseen.extend(missed.into_iter().map(|place| format!("{kind}: {place}")));
    }
    ensure!(
        unseen.is_empty(),
        "no sound object has these fields, so nothing tests them: {unseen:#?}"
    );
    wrong.extend(cases::refused(&sound)?);
    wayleave_e2e::progress(&format!("{} wrong objects", wrong.len()));

    let answers: Vec<(wrong::Case, Vec<Finding>)> = futures::stream::iter(wrong)
        .map(|case| async {
            let found = world.create(&case.object, true).await;
            let found = found.with_context(|| case.title.clone())?;
            anyhow::Ok((case, found))
        })
        .buffered(ABREAST)
        .try_collect()
        .await?;
    for (case, found) in &answers {
        note_rules(kind_of(&case.object), found, &mut hit, &rules);
        let named = found.iter().find(|finding| {
            case.fields.contains(&finding.field)
                && case.words.iter().all(|word| finding.message.contains(word.as_str()))
        });
        if named.is_none() {
            faults.push(format!(
                "{}: wanted {:?} at {:?}, got {found:?}",
                case.title, case.words, case.fields
            ));
        }
    }
    for (title, object) in cases::accepted(&sound)? {
        let found = world.create(&object, true).await.with_context(|| title.clone())?;
        if !found.is_empty() {
            faults.push(format!("{title}: should be accepted, got {found:?}"));
        }
    }
    nulls(&world, &sound).await?;
    transitions(&world, &sound, &mut hit, &rules).await?;
    unknown_fields(&world, &sound).await?;

    ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    // What the operator alone writes has the rules of types that people write in spec too.
    let of_people = |rule: &&CelRule| rule.place != "status" && !rule.place.starts_with("status.");
    let untested: Vec<&CelRule> = rules.difference(&hit).filter(of_people).collect();
    ensure!(untested.is_empty(), "rules that no case was refused by: {untested:#?}");

    kubectl::tables(&world).await?;
    kubectl::refusals(&world, &sound).await
}

/// Null, which templates write that found no value, counts as left out: it is not stored where our types can't read it.
async fn nulls(world: &World, sound: &[Value]) -> Result<()> {
    for object in sound {
        let kind = kind_of(object);
        let mut pointers = BTreeSet::new();
        wrong::optional(
            &world.schema(kind)?["properties"]["spec"],
            object,
            "/spec",
            &mut pointers,
        );
        for pointer in &pointers {
            let mut object = object.clone();
            *object.pointer_mut(pointer).context("the pointer is of the object")? = Value::Null;
            let body: DynamicObject = serde_json::from_value(object)?;
            let parameters = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let answer = world.api(kind)?.create(&parameters, &body).await;
            let answer = serde_json::to_value(answer.with_context(|| format!("{kind}: null at {pointer}"))?)?;
            let stored = answer.pointer(pointer);
            ensure!(
                stored.is_none_or(|value| !value.is_null()),
                "{kind}: null is stored at {pointer}"
            );
        }
    }
    Ok(())
}

/// Rules about what may become of an object, on objects that exist.
async fn transitions(
    world: &World,
    sound: &[Value],
    hit: &mut BTreeSet<CelRule>,
    rules: &BTreeSet<CelRule>,
) -> Result<()> {
    for object in sound {
        let found = world.create(object, false).await?;
        ensure!(found.is_empty(), "{found:?}");
    }
    for (kind, name, patch, refusal) in cases::changes() {
        let found = world
            .change(kind, name, &patch)
            .await
            .with_context(|| format!("{kind} {name}: {patch}"))?;
        note_rules(kind, &found, hit, rules);
        match refusal {
            None => ensure!(found.is_empty(), "{kind} {name}: {patch} should be accepted: {found:?}"),
            Some(words) => ensure!(
                found.iter().any(|finding| finding.message.contains(words)),
                "{kind} {name}: {patch} should be refused with '{words}': {found:?}"
            ),
        }
    }
    Ok(())
}

/// Kubectl asks for strict validation: a field that doesn't exist is refused by its path.
async fn unknown_fields(world: &World, sound: &[Value]) -> Result<()> {
    for object in sound {
        let mut object = object.clone();
        object["metadata"]["name"] = json!("unknown-field");
        if kind_of(&object) == "AccessRecord" {
            object["metadata"]["name"] = json!("00000000-0000-4000-8000-00000000000f");
            object["spec"]["grant"]["uid"] = object["metadata"]["name"].clone();
        }
        object["spec"]["expriesAt"] = json!("2030-01-01T00:00:00Z");
        let kubectl = world.cp.kubectl(&world.cp.admin_kubeconfig()).await?;
        let kubectl = kubectl.args(["create", "-n", "default", "--dry-run=server", "-f", "-"]);
        let output = kubectl.stdin(object.to_string()).run().await?;
        let kind = kind_of(&object).to_owned();
        if output.stderr.contains("unknown field \"spec.expriesAt\"") {
            continue;
        }
        bail!(
            "{kind}: an unknown field should be refused by its path: {}",
            output.stderr
        );
    }
    Ok(())
}
