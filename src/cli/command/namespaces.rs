//! UIDs of the namespaces that grants reach: an approval covers them, and whoever gives one reads them for himself.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::is_forbidden;
use crate::api::v1alpha1::AccessGrant;
use crate::cli::{Io, Session, output};

/// What was read, each once.
#[derive(Default)]
pub(super) struct Namespaces(BTreeMap<String, Found>);

#[derive(Clone)]
enum Found {
    Uid(String),
    Unknown,
}

impl Namespaces {
    /// Those that a grant reaches; none where one of them may not be read, or doesn't exist.
    pub(super) async fn of(
        &mut self,
        session: &Session,
        grant: &AccessGrant,
        io: &mut Io<'_>,
    ) -> anyhow::Result<Option<BTreeMap<String, String>>> {
        let mut targets = BTreeMap::new();
        for name in grant.target_namespaces() {
            let found = match self.0.get(&name) {
                Some(found) => found.clone(),
                None => {
                    let found = read(session, &name, io).await?;
                    self.0.insert(name.clone(), found.clone());
                    found
                }
            };
            match found {
                Found::Uid(uid) => {
                    targets.insert(name, uid);
                }
                Found::Unknown => return Ok(None),
            }
        }
        Ok(Some(targets))
    }
}

async fn read(session: &Session, name: &str, io: &mut Io<'_>) -> anyhow::Result<Found> {
    match Api::<Namespace>::all(session.client.clone()).get_opt(name).await {
        Ok(Some(namespace)) => {
            let uid = namespace.metadata.uid.context("a namespace has no UID")?;
            Ok(Found::Uid(uid))
        }
        Ok(None) => {
            // What the digest has in its place is the operator's to know.
            writeln!(
                io.err,
                "warning: namespace {} does not exist: an approval given now is void once it does",
                output::escape(name)
            )?;
            Ok(Found::Unknown)
        }
        Err(error) if is_forbidden(&error) => {
            writeln!(
                io.err,
                "note: you may not get namespace {}, so its UID is taken from the status of the grant",
                output::escape(name)
            )?;
            Ok(Found::Unknown)
        }
        Err(error) => Err(error).with_context(|| format!("reading namespace {name}")),
    }
}
