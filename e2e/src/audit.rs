//! What the API server recorded: who called what, and how it answered.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::eventually::eventually;
use crate::operator::workspace;

pub(crate) const FILE: &str = "audit.jsonl";
const READ_VERBS: [&str; 3] = ["get", "list", "watch"];

/// One event for each call, when its answer is complete: nothing is left out. Of partners what is advised is recorded, of others
/// no content.
pub(crate) fn policy() -> Result<String> {
    let path = workspace().join("deploy/audit-policy.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut policy: Value = serde_saphyr::from_str(&text)?;
    policy["omitStages"] = json!(["RequestReceived", "ResponseStarted"]);
    let rules = policy["rules"]
        .as_array_mut()
        .context("the audit policy has no rules")?;
    rules.push(json!({ "level": "Metadata" }));
    Ok(policy.to_string())
}

/// A position in the audit log; by default its beginning.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// The audit log of one control plane.
///
/// The API server writes an event when it has answered, so that the event of a call that has just returned may come a
/// moment later: await it with [`AuditLog::wait_for`]. A watch is recorded when it ends.
#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
}

/// One recorded call.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// Who called.
    #[serde(default)]
    pub user: AuditUser,
    /// The API verb, lower case.
    pub verb: String,
    /// What was called; `None` for calls outside the resource API, such as `/readyz`.
    pub object_ref: Option<ObjectRef>,
    /// How it was answered.
    pub response_status: Option<ResponseStatus>,
    /// The client's name for itself.
    #[serde(default)]
    pub user_agent: String,
    /// When the answer was complete.
    pub stage_timestamp: MicroTime,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// `ResponseComplete` or `Panic`.
    pub stage: String,
    /// Why it was allowed, and what admission says.
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// The caller of a recorded call.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct AuditUser {
    /// Its name.
    #[serde(default)]
    pub username: String,
    /// Its groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// The object of a recorded call; what does not apply is empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// The resource, plural.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The name; empty for lists and for most creates.
    pub name: String,
    /// The API group; empty for the core group.
    pub api_group: String,
}

/// The answer of a recorded call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    /// The HTTP status code.
    pub code: u16,
    /// The reason of a refusal.
    pub reason: String,
    /// The message of a refusal.
    pub message: String,
}

impl AuditEvent {
    /// Whether the call could change something.
    pub fn is_write(&self) -> bool {
        !READ_VERBS.contains(&self.verb.as_str())
    }

    /// The HTTP status code, 0 if there was no answer.
    pub fn code(&self) -> u16 {
        self.response_status.as_ref().map_or(0, |status| status.code)
    }

    /// Whether the call was about this resource (plural), as itself or through a subresource.
    pub fn is_resource(&self, resource: &str) -> bool {
        self.object_ref
            .as_ref()
            .is_some_and(|object| object.resource == resource)
    }
}

/// `verb resource/subresource namespace/name code`
impl fmt::Display for AuditEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = self.object_ref.clone().unwrap_or_default();
        let slash = if object.subresource.is_empty() { "" } else { "/" };
        let (resource, subresource, namespace) = (object.resource, object.subresource, object.namespace);
        write!(
            f,
            "{} {resource}{slash}{subresource} {namespace}/{} {}",
            self.verb,
            object.name,
            self.code()
        )
    }
}

/// Recorded calls, in the order of the log.
#[derive(Debug, Clone, Default)]
pub struct AuditEvents(pub Vec<AuditEvent>);

impl AuditEvents {
    /// Those of one user.
    #[must_use]
    pub fn by_user(self, name: &str) -> Self {
        self.only(|event| event.user.username == name)
    }

    /// Those that could change something.
    #[must_use]
    pub fn writes(self) -> Self {
        self.only(AuditEvent::is_write)
    }

    /// Those about one resource (plural).
    #[must_use]
    pub fn of(self, resource: &str) -> Self {
        self.only(|event| event.is_resource(resource))
    }

    /// Those that hold.
    #[must_use]
    pub fn only(mut self, condition: impl Fn(&AuditEvent) -> bool) -> Self {
        self.0.retain(|event| condition(event));
        self
    }
}

impl std::ops::Deref for AuditEvents {
    type Target = [AuditEvent];

    fn deref(&self) -> &[AuditEvent] {
        &self.0
    }
}

impl IntoIterator for AuditEvents {
    type Item = AuditEvent;
    type IntoIter = std::vec::IntoIter<AuditEvent>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl AuditLog {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The end of the log as it is now.
    pub fn mark(&self) -> Result<Mark> {
        Ok(Mark(
            std::fs::metadata(&self.path).with_context(|| self.failed())?.len(),
        ))
    }

    /// The whole log as it stands in the file.
    pub fn text(&self) -> Result<String> {
        std::fs::read_to_string(&self.path).with_context(|| self.failed())
    }

    /// Everything since the mark.
    pub fn since(&self, mark: Mark) -> Result<AuditEvents> {
        let mut events = Vec::new();
        self.each_since(mark, |event| events.push(event))?;
        Ok(AuditEvents(events))
    }

    /// Shows every call since the mark, one after the other: a long log takes no room.
    pub fn each_since(&self, mark: Mark, mut show: impl FnMut(AuditEvent)) -> Result<()> {
        let mut file = File::open(&self.path).with_context(|| self.failed())?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut file = BufReader::new(file);
        let mut line = String::new();
        // The last line may be half written.
        while file.read_line(&mut line)? > 0 && line.ends_with('\n') {
            show(serde_json::from_str(&line).with_context(|| format!("not an audit event: {line}"))?);
            line.clear();
        }
        Ok(())
    }

    /// Waits until some call since the mark meets the condition, and gives the first.
    pub async fn wait_for(
        &self,
        mark: Mark,
        what: &str,
        timeout: Duration,
        condition: impl Fn(&AuditEvent) -> bool,
    ) -> Result<AuditEvent> {
        eventually(&format!("{what} in the audit log"), timeout, || async {
            let events = self.since(mark)?;
            let recorded = events.len();
            match events.only(&condition).into_iter().next() {
                Some(event) => Ok(Some(event)),
                None => bail!("none of {recorded} recorded calls"),
            }
        })
        .await
    }

    fn failed(&self) -> String {
        format!("cannot read the audit log {}", self.path.display())
    }
}
