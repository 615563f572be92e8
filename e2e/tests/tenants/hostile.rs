//! What an attacker writes: everything by which the victim or what is its own can be named.

use serde_json::Value;
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, workspace};
use wayleave_e2e::tenant::{CAROL, text};

use anyhow::{Context as _, Result, ensure};

use crate::victim::{GRANT, INTEGRATION, NAMESPACES, SECRET, Victim};

/// A text that names something of the victim.
#[derive(Clone, Debug)]
pub struct Hostile {
    /// What it names.
    pub what: &'static str,
    pub text: String,
    /// A text of the same form that names nothing at all: an answer that tells the two apart tells of the victim.
    pub nothing: Option<String>,
}

/// Every hostile text.
pub fn texts(victim: &Victim) -> Vec<Hostile> {
    let uid = |object: &Value| text(&object["metadata"]["uid"]);
    let made = |what: &str| victim.children.get(what).cloned().unwrap_or_default();
    let ns = NAMESPACES[0];
    let mut all = Vec::new();
    let mut add = |what, text: String, nothing: Option<&str>| {
        let nothing = nothing.map(ToOwned::to_owned);
        all.push(Hostile { what, text, nothing });
    };
    let no_uid = "0b5e55ed-0000-4000-8000-00000000dead";
    let no_child = "wlg-0000000000000000-1";
    add("namespace", ns.to_owned(), Some("nobody"));
    add(
        "namespace without access",
        NAMESPACES[1].to_owned(),
        Some("nobody-quiet"),
    );
    add("grant", GRANT.to_owned(), Some("nobody-reader"));
    add("integration", INTEGRATION.to_owned(), Some("nobody-ledger"));
    add("delivery Secret", SECRET.to_owned(), Some("nobody-delivery"));
    add("decision", text(&victim.decision["metadata"]["name"]), None);
    // A directory for everybody: whether an owner is there may show.
    add("owner", format!("{ns}-alice"), None);
    add(
        "grant with namespace",
        format!("{ns}/{GRANT}"),
        Some("nobody/nobody-reader"),
    );
    add("way up", format!("../{ns}"), None);
    add("way up to a Secret", format!("../../{ns}/secrets/{SECRET}"), None);
    add("colon", format!("{ns}:{GRANT}"), Some("nobody:nobody-reader"));
    add(
        "encoded slash",
        format!("{ns}%2F{GRANT}"),
        Some("nobody%2Fnobody-reader"),
    );
    add("encoded way up", format!("%2e%2e%2f{ns}"), None);
    add("ServiceAccount", made("ServiceAccount").0, Some(no_child));
    add("RoleBinding", made("RoleBinding").0, Some(no_child));
    add("anchor", made("anchor").0, None);
    add("private delivery Secret", made("private delivery Secret").0, None);
    add("UID of the grant", uid(&victim.grant), Some(no_uid));
    add("UID of the integration", uid(&victim.integration), None);
    add("UID of the ServiceAccount", made("ServiceAccount").1, None);
    add("UID of the decision", uid(&victim.decision), None);
    add(
        "digest",
        text(&victim.grant["status"]["digest"]),
        Some("sha256:00000000000000000000000000000000000000000000000000000000000000ff"),
    );
    let user = format!(
        "system:serviceaccount:{IDENTITY_NAMESPACE}:{}",
        made("ServiceAccount").0
    );
    add("identity as a user", user, None);
    add("requester", CAROL.to_owned(), Some("nobody@corp.example"));
    add("namespace of the identities", IDENTITY_NAMESPACE.to_owned(), None);
    let url = format!("https://kubernetes.default.svc/api/v1/namespaces/{ns}/secrets/{SECRET}");
    add("URL", url, None);
    all
}

/// The names of ours that stand in labels and annotations: some of them are read.
pub fn known_keys() -> Result<Vec<String>> {
    let file = workspace().join("src/api/names.rs");
    let source = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let quoted = source.split('"').skip(1).step_by(2);
    let keys: Vec<String> = quoted
        .filter(|word| word.starts_with("wayleave.dev/"))
        .map(ToOwned::to_owned)
        .collect();
    ensure!(
        keys.iter().any(|key| key == "wayleave.dev/rotateRequestedAt") && keys.len() > 10,
        "{keys:?}"
    );
    Ok(keys)
}
