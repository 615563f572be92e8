//! One request of an attacker, and what came of it.

use std::fmt;

use anyhow::{Context as _, Result};
use kube::{Client, Error};
use serde_json::Value;

/// How an object is changed: the media type, and what stands in the query beside.
pub const FORMS: [(&str, &str); 5] = [
    ("update", "application/json"),
    ("patch as json", "application/json-patch+json"),
    ("patch as merge", "application/merge-patch+json"),
    ("patch as strategic", "application/strategic-merge-patch+json"),
    ("patch as apply", "application/apply-patch+yaml"),
];

/// A request, by what it means.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// `rolebindings.rbac.authorization.k8s.io`.
    pub resource: String,
    /// `create`, `patch as json`, `delete`.
    pub verb: &'static str,
    pub namespace: String,
    /// The object of ours that it is aimed at: what it is. None where something new is made.
    pub target: Option<String>,
    /// What it would change or make, in words.
    pub what: String,
    /// Whether an identity can be named by such an object at all.
    pub names_identities: bool,
    pub request: Request,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: http::Method,
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub media: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Value,
}

/// What the API server said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Let through.
    Accepted,
    /// The attacker holds no such right.
    NoRight,
    /// It would hand on a right that the attacker lacks.
    Escalation,
    /// One of our admission policies said so.
    Policy(String),
    /// Anything else, with its code.
    Other(u16, String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("ACCEPTED"),
            Self::NoRight => f.write_str("no right"),
            Self::Escalation => f.write_str("escalation"),
            Self::Policy(name) => write!(f, "policy {name}"),
            Self::Other(code, _) => write!(f, "{code}"),
        }
    }
}

impl Request {
    pub fn new(method: http::Method, path: String, body: Value) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            media: "application/json",
            headers: Vec::new(),
            body,
        }
    }

    pub fn post(path: String, body: Value) -> Self {
        Self::new(http::Method::POST, path, body)
    }

    /// Sends it; as a dry run it goes through authorization and admission as ever, and nothing is stored.
    pub async fn send(&self, client: &Client, dry_run: bool) -> Result<(Answer, Value)> {
        let mut query: Vec<String> = self.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if dry_run {
            query.push("dryRun=All".to_owned());
        }
        let mut request = http::Request::builder()
            .method(self.method.clone())
            .uri(format!("{}?{}", self.path, query.join("&")))
            .header("content-type", self.media);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let mut body = self.body.clone();
        if dry_run && body["kind"] == "DeleteOptions" {
            // With a body the query is not read.
            body["dryRun"] = serde_json::json!(["All"]);
        }
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        match client.request_text(request.body(body)?).await {
            Ok(text) => Ok((Answer::Accepted, serde_json::from_str(&text).unwrap_or(Value::Null))),
            Err(Error::Api(status)) => Ok((answer(status.code, &status.message), Value::Null)),
            Err(error) => Err(error).with_context(|| format!("{} {}", self.method, self.path)),
        }
    }
}

fn answer(code: u16, said: &str) -> Answer {
    let ours = said.split("ValidatingAdmissionPolicy 'wayleave-").nth(1);
    if let Some(policy) = ours.and_then(|it| it.split('\'').next()) {
        return Answer::Policy(policy.to_owned());
    }
    if code == 403 && said.contains("attempting to grant RBAC permissions not currently held") {
        return Answer::Escalation;
    }
    let is_rbac = said.contains(" cannot ") && (said.contains(" resource \"") || said.contains(" path \""));
    if code == 403 && is_rbac {
        return Answer::NoRight;
    }
    Answer::Other(code, said.to_owned())
}

#[test]
fn only_our_policies_and_rbac_count_as_such() {
    let of = |code, said: &str| answer(code, said).to_string();
    let rbac =
        "pods is forbidden: User \"eve\" cannot create resource \"pods\" in API group \"\" in the namespace \"shop\"";
    assert_eq!(of(403, rbac), "no right");
    let policy =
        "x is forbidden: ValidatingAdmissionPolicy 'wayleave-pods' with binding 'wayleave-pods' denied request: no";
    assert_eq!(of(403, policy), "policy pods");
    assert_eq!(of(403, "ValidatingAdmissionPolicy 'other-pods' denied request"), "403");
    assert_eq!(of(422, rbac), "422");
}
