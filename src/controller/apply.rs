//! Writes that every step needs: status, finalizers, and taking children away under their UIDs. Does I/O.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::index::Index;
use super::metrics::Failure;
use super::{Context, lock};
use crate::api::conditions::Reason;
use crate::api::names::{FIELD_MANAGER, FINALIZER};
use crate::api::v1alpha1::{ChildKind, Instant};
use crate::domain::names::is_static_access;
use crate::plan::Child;

/// So many bindings of one grant are taken away at once.
const AT_ONCE: usize = 8;
/// The longest that one call may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// What goes wrong while writing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server said no, or could not be reached.
    #[error("{what}: {source}")]
    Call { what: String, source: kube::Error },
    /// No answer in time.
    #[error("{0}: no answer in time")]
    Deadline(String),
    /// An object that is not ours has the name.
    #[error("{0} exists and is not ours: remove it, or choose another spec.credential.token.secretName")]
    NameConflict(String),
    /// The API server refuses what the operator was not given.
    #[error(
        "{what}: the API server refuses more than the operator was given there: {why}; widen the ceiling of the enrolment, or ask for less"
    )]
    CeilingExceeded { what: String, why: String },
    /// A token that lives too long was granted.
    #[error("the API server granted a token until {0}, past what was asked for")]
    TokenTooLong(Instant),
    /// Access could not be taken away.
    #[error("access could not be taken away, and may still work: {0}")]
    NotClosed(Box<Self>),
    /// The same of a static credential: of what was made nothing is left but bindings, in the grant's own namespace.
    #[error("access could not be taken away, and may still work: {0}")]
    StaticNotClosed(Box<Self>),
    /// The API server says that an object is gone, and that it is there.
    #[error("{0} is said to be gone, and is there")]
    StillThere(String),
    /// What came meanwhile ends it.
    #[error("it must end before it began: {0}")]
    Overtaken(Reason),
    /// What is needed to go on is missing.
    #[error("{0}")]
    Incomplete(&'static str),
}

impl Error {
    /// The status that the API server answered with.
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Call {
                source: kube::Error::Api(status),
                ..
            } => Some(status),
            _ => None,
        }
    }

    /// The error in one word, for metrics.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Call { .. } => self
                .status()
                .map_or(Failure::NoAnswer, |status| Failure::of_code(status.code)),
            Self::Deadline(_) => Failure::NoAnswer,
            Self::NameConflict(_) => Failure::NameConflict,
            Self::CeilingExceeded { .. } => Failure::CeilingExceeded,
            Self::TokenTooLong(_) => Failure::TokenTooLong,
            Self::NotClosed(_) | Self::StaticNotClosed(_) | Self::StillThere(_) => Failure::NotClosed,
            Self::Overtaken(_) => Failure::Overtaken,
            Self::Incomplete(_) => Failure::Incomplete,
        }
    }

    /// The object is not there, or another one has its name by now.
    pub(crate) fn is_gone(&self) -> bool {
        self.status()
            .is_some_and(|status| status.is_not_found() || status.is_conflict())
    }

    /// Nothing of that name, or no such kind, is there. Of a kind that is gone no more is said than the code.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// The kind is not served: of such nothing but the code is said.
    pub(crate) fn is_not_served(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 404 && !status.is_not_found())
    }

    /// The API server said no: nothing was written. After any other error something may have been.
    pub(crate) fn is_refusal(&self) -> bool {
        self.status().is_some_and(|status| (400..500).contains(&status.code))
    }

    /// A call got no answer in time.
    pub(crate) fn is_unanswered(&self) -> bool {
        match self {
            Self::Deadline(_) => true,
            Self::NotClosed(error) | Self::StaticNotClosed(error) => error.is_unanswered(),
            _ => false,
        }
    }

    /// A connection could not be made, or broke.
    pub(crate) fn is_unreached(&self) -> bool {
        matches!(
            self,
            Self::Call {
                source: kube::Error::Service(_) | kube::Error::HyperError(_),
                ..
            }
        )
    }

    /// The operator has no right to it.
    pub(crate) fn is_forbidden(&self) -> bool {
        match self {
            Self::StaticNotClosed(error) => error.is_forbidden(),
            _ => self.status().is_some_and(kube::core::Status::is_forbidden),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A call with a deadline, and with words for what it was about.
pub(crate) async fn call<T>(what: impl Into<String>, future: impl Future<Output = kube::Result<T>>) -> Result<T> {
    let what = what.into();
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Call { what, source }),
        Err(_) => Err(Error::Deadline(what)),
    }
}

/// The same for a call whose reply holds a token: what can't be read is not quoted.
pub(crate) async fn secret_call<T>(
    what: &'static str,
    unreadable: &'static str,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<T> {
    match call(what, future).await {
        Err(Error::Call {
            source: kube::Error::SerdeError(_) | kube::Error::FromUtf8(_),
            ..
        }) => Err(Error::Incomplete(unreadable)),
        other => other,
    }
}

pub(crate) fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

pub(crate) fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// Replaces the whole status, if the object is still the one that was looked at: otherwise a conflict.
pub(crate) async fn write_status<K>(context: &Context, object: &K, status: &impl Serialize) -> Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let operations: json_patch::Patch = serde_json::from_value(json!([
        {"op": "add", "path": "/metadata/resourceVersion", "value": object.resource_version()},
        {"op": "add", "path": "/status", "value": status},
    ]))
    .map_err(|_| Error::Incomplete("the status can't be written as JSON"))?;
    let patch = Patch::Json::<()>(operations);
    let what = format!("writing status of {} {}", K::kind(&()), object.name_any());
    call(what, api.patch_status(&object.name_any(), &patch_params(), &patch)).await
}

/// Sets the finalizers of an object, if it is still the one that was looked at.
pub(crate) async fn set_finalizers<K>(api: &Api<K>, name: &str, version: &str, finalizers: &[String]) -> Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
    let patch = Patch::Merge(patch);
    call(
        format!("writing finalizers of {name}"),
        api.patch(name, &patch_params(), &patch),
    )
    .await
}

/// Whether our finalizer is among these.
pub(crate) fn is_held(finalizers: &[String]) -> bool {
    finalizers.iter().any(|name| name == FINALIZER)
}

/// Takes our finalizer off, and leaves those of others.
pub(crate) async fn release<K>(api: &Api<K>, name: &str, version: &str, finalizers: &[String]) -> Result<()>
where
    K: Clone + DeserializeOwned + Debug,
{
    let others: Vec<String> = finalizers.iter().filter(|name| *name != FINALIZER).cloned().collect();
    match set_finalizers(api, name, version, &others).await {
        // Of a kind that is not served nothing is left. That one object is gone is not believed: it is looked at again while it is
        // seen.
        Err(error) if error.is_not_served() => Ok(()),
        other => other.map(drop),
    }
}

/// Namespaces in which a call got no answer: no other is made there meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Hung(Mutex<HashSet<String>>);

impl Hung {
    fn holds(&self, namespace: &str) -> bool {
        lock(&self.0).contains(namespace)
    }

    fn note(&self, namespace: &str) {
        lock(&self.0).insert(namespace.to_owned());
    }
}

/// Takes children away: bindings side by side, then all others in their order. Each is tried, whatever became of those before it,
/// but for those in a namespace that gives no answer.
///
/// # Errors
/// The first that could not be taken away: `NotClosed` where access may still work, since a binding is left and the identity
/// that it names, or a token's anchor, too; `StaticNotClosed` where that is a static credential's, which always is.
pub(crate) async fn close(context: &Context, children: &[Child], hung: &Hung) -> Result<()> {
    let (mut binding_left, mut static_left, mut identity_left) = (false, false, false);
    let mut first = None;
    let go = |child: Child| async move {
        let went = if hung.holds(&child.namespace) {
            Err(Error::Deadline(deleting(&child)))
        } else {
            take_away(&context.client, &context.cache.index, &child).await
        };
        if went.as_ref().is_err_and(Error::is_unanswered) {
            hung.note(&child.namespace);
        }
        (child, went)
    };
    let (bindings, others): (Vec<Child>, Vec<Child>) = children
        .iter()
        .cloned()
        .partition(|child| child.kind == ChildKind::RoleBinding);
    let bindings = futures::stream::iter(bindings).map(go).buffered(AT_ONCE);
    let others = futures::stream::iter(others).then(go);
    let mut all = std::pin::pin!(bindings.chain(others));
    while let Some((child, went)) = all.next().await {
        if let Err(error) = went {
            match child.kind {
                ChildKind::RoleBinding => {
                    binding_left = true;
                    static_left |= is_static_access(&child.name);
                }
                ChildKind::Anchor | ChildKind::ServiceAccount => identity_left = true,
                ChildKind::Role | ChildKind::DeliverySecret => {}
            }
            first = first.or(Some(error));
        }
    }
    match first {
        None => Ok(()),
        Some(error) if binding_left && identity_left => Err(Error::NotClosed(Box::new(error))),
        Some(error) if static_left => Err(Error::StaticNotClosed(Box::new(error))),
        Some(error) => Err(error),
    }
}

/// Takes one child away, under its UID, until it is gone, and has the index forget it. That somebody else was quicker is not
/// believed of a child that is still seen: what is wrongly taken for gone would be left for ever.
pub(crate) async fn take_away(client: &kube::Client, index: &Index, child: &Child) -> Result<()> {
    let (namespace, all) = (&child.namespace, || client.clone());
    // Of Secrets metadata alone: a reply that can't be read is logged whole by the client.
    match child.kind {
        ChildKind::RoleBinding => remove(&Api::<RoleBinding>::namespaced(all(), namespace), index, child).await,
        ChildKind::Role => remove(&Api::<Role>::namespaced(all(), namespace), index, child).await,
        ChildKind::ServiceAccount => remove(&Api::<ServiceAccount>::namespaced(all(), namespace), index, child).await,
        ChildKind::Anchor | ChildKind::DeliverySecret => {
            remove(
                &Api::<PartialObjectMeta<Secret>>::namespaced(all(), namespace),
                index,
                child,
            )
            .await
        }
    }
}

async fn remove<K>(api: &Api<K>, index: &Index, child: &Child) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    match delete(api, child).await {
        // Whose label was taken off is not seen, and may be there all the same.
        Err(error) if error.is_gone() && (index.holds(child) || child.kind == ChildKind::DeliverySecret) => {
            let named = ListParams::default().fields(&format!("metadata.name={}", child.name));
            let what = format!("{} {}/{}", child.kind, child.namespace, child.name);
            let found = call(format!("looking for {what}"), api.list_metadata(&named)).await?;
            if found.iter().any(|it| it.uid().as_deref() == Some(child.uid.as_str())) {
                return Err(Error::StillThere(what));
            }
        }
        Err(error) if error.is_gone() => {}
        other => other?,
    }
    index.gone(child);
    Ok(())
}

/// What a deletion is called in errors.
pub(crate) fn deleting(child: &Child) -> String {
    format!("deleting {} {}/{}", child.kind, child.namespace, child.name)
}

/// Deletes an object under its UID; one that somebody's finalizer keeps alive is freed of it.
async fn delete<K>(api: &Api<K>, child: &Child) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let what = deleting(child);
    let preconditions = Preconditions {
        uid: Some(child.uid.clone()),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::background()
    };
    let left = call(what.clone(), api.delete(&child.name, &params)).await?.left();
    if left.is_some_and(|object| !object.finalizers().is_empty()) {
        let patch = json!({"metadata": {"uid": child.uid, "finalizers": null}});
        call(what, api.patch(&child.name, &patch_params(), &Patch::Merge(patch))).await?;
    }
    Ok(())
}
