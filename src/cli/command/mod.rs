//! One file a command: each reads its arguments, speaks to the cluster, and writes its result.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};

use super::decision::{Draft, build, groups_stated, verb};
use super::documents::{Documents, MOST_BYTES};
use super::{Io, Session, output};
use crate::api::v1alpha1::{AccessDecision, AccessGrant};

pub mod approve;
pub mod certify;
pub mod check;
pub mod deny;
pub mod digest;
pub mod explain;
pub mod kubeconfig;
pub mod list;
mod namespaces;
pub mod owner;
pub mod revoke;
mod roles;
pub mod rotate;
pub mod stop;
pub mod version;

/// HTTP status of a forbidden request.
const FORBIDDEN: u16 = 403;

/// Reads a grant.
async fn grant(session: &Session, name: &str) -> anyhow::Result<AccessGrant> {
    let found = Api::<AccessGrant>::namespaced(session.client.clone(), &session.namespace)
        .get_opt(name)
        .await
        .with_context(|| format!("reading grant {}/{name}", session.namespace))?;
    found.ok_or_else(|| {
        anyhow!(
            "no grant {name} in namespace {}: see kubectl wayleave list --all-namespaces",
            session.namespace
        )
    })
}

/// The objects of some files; `-` is standard input. Objects without a namespace get `namespace`.
fn documents(files: &[PathBuf], namespace: &str) -> anyhow::Result<Documents> {
    let mut documents = Documents::default();
    for path in files {
        let (shown, text) = text_of(path)?;
        documents.read(&shown, &text, namespace);
    }
    Ok(documents)
}

/// How a file is called, and its text; `-` is standard input. What is too large is not read to its end.
fn text_of(path: &Path) -> anyhow::Result<(String, String)> {
    let (shown, mut reader): (String, Box<dyn Read>) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), Box::new(std::io::stdin()))
    } else {
        let shown = path.display().to_string();
        let file = File::open(path).with_context(|| format!("opening {shown}"))?;
        (shown, Box::new(file))
    };
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    reader
        .by_ref()
        .take(most + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {shown}"))?;
    ensure!(bytes.len() <= MOST_BYTES, "{shown}: larger than {MOST_BYTES} bytes");
    let text = String::from_utf8(bytes).with_context(|| format!("{shown}: not UTF-8"))?;
    Ok((shown, text))
}

/// Refuses files in which something is wrong, after all of it was told.
fn sound(documents: &Documents, io: &mut Io<'_>) -> anyhow::Result<()> {
    for ignored in &documents.ignored {
        writeln!(io.err, "note: {ignored}")?;
    }
    for fault in &documents.faults {
        writeln!(io.err, "error: {fault}")?;
    }
    let count = documents.faults.len();
    ensure!(count == 0, "{count} faults in the files");
    Ok(())
}

/// The user whom the API server takes the caller for.
struct Caller {
    name: String,
    groups: Vec<String>,
}

impl Caller {
    /// The groups that a decision states where none were chosen.
    fn groups_stated(&self) -> Vec<String> {
        groups_stated(&self.groups)
    }

    /// The groups that were chosen, which must be the caller's, or else those that a decision states without.
    fn groups_chosen(&self, chosen: &[String]) -> anyhow::Result<Vec<String>> {
        for group in chosen {
            anyhow::ensure!(
                self.groups.contains(group),
                "--group {group}: {} is not in it; groups: {}",
                self.name,
                self.groups.join(", ")
            );
        }
        if chosen.is_empty() {
            return Ok(self.groups_stated());
        }
        Ok(chosen.to_vec())
    }
}

/// Asks the API server whom it takes the caller for.
async fn who_am_i(client: &Client) -> anyhow::Result<Caller> {
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .context("asking the API server who you are")?;
    let user = review.status.and_then(|status| status.user_info).unwrap_or_default();
    let name = user.username.unwrap_or_default();
    anyhow::ensure!(!name.is_empty(), "the API server doesn't say who you are");
    Ok(Caller {
        name,
        groups: user.groups.unwrap_or_default(),
    })
}

/// Creates a decision and writes it.
async fn decide(draft: &Draft<'_>, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let made = create(&build(draft, io.now), session).await?;
    output::write(io.out, session.output, &made, &created(&made))
}

/// Creates a decision.
async fn create(decision: &AccessDecision, session: &Session) -> anyhow::Result<AccessDecision> {
    let namespace = decision.namespace().unwrap_or_default();
    let made = Api::<AccessDecision>::namespaced(session.client.clone(), &namespace)
        .create(&PostParams::default(), decision)
        .await;
    made.with_context(|| {
        format!(
            "the API server did not take the decision to {} {namespace}/{}",
            verb(decision.spec.decision),
            decision.spec.subject.name
        )
    })
}

/// That a decision was created, in a line.
fn created(decision: &AccessDecision) -> String {
    let namespace = decision.namespace().unwrap_or_default();
    format!("accessdecision/{} created in {namespace}", decision.name_any())
}

/// Whether the API server forbade a request.
fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == FORBIDDEN)
}
