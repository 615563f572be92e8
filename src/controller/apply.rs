//! The only writer: carries out one step, each object under its UID, bindings last when issuing and first when closing.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Context;
use super::observe::World;
use crate::api::names::{FIELD_MANAGER, FINALIZER};
use crate::api::v1alpha1::{AccessGrant, AccessGrantStatus, ChildKind, ChildRef, Instant};
use crate::domain::lifetime::{self, TokenAsk};
use crate::domain::verdict::Verdict;
use crate::plan::children::{Site, binding_content, evidence, role_content};
use crate::plan::{Child, Issue, Minted, Rotate, issued, rotated};

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
    #[error("{0} exists and is not ours: rename it or choose another name")]
    NameConflict(String),
    /// A token that lives too long was granted.
    #[error("the API server granted a token until {0}, past what was asked for")]
    TokenTooLong(Instant),
    /// What is needed to go on is missing.
    #[error("{0}")]
    Incomplete(&'static str),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

async fn call<T>(what: impl Into<String>, future: impl Future<Output = kube::Result<T>>) -> Result<T> {
    let what = what.into();
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => Err(Error::NameConflict(what)),
        Ok(Err(source)) => Err(Error::Call { what, source }),
        Err(_) => Err(Error::Deadline(what)),
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// Replaces the whole status, if the grant is still the one that was looked at.
pub(crate) async fn write_status(
    context: &Context,
    grant: &AccessGrant,
    status: &AccessGrantStatus,
) -> Result<AccessGrant> {
    let api: Api<AccessGrant> = Api::namespaced(context.client.clone(), &grant.namespace().unwrap_or_default());
    let operations: json_patch::Patch = serde_json::from_value(json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": grant.resource_version()},
        {"op": "add", "path": "/status", "value": status},
    ]))
    .map_err(|_| Error::Incomplete("the status can't be written as JSON"))?;
    let patch = Patch::Json::<()>(operations);
    call(
        "writing status",
        api.patch_status(&grant.name_any(), &patch_params(), &patch),
    )
    .await
}

async fn set_finalizers(context: &Context, grant: &AccessGrant, finalizers: &[String]) -> Result<AccessGrant> {
    let api: Api<AccessGrant> = Api::namespaced(context.client.clone(), &grant.namespace().unwrap_or_default());
    let patch = json!({"metadata": {"resourceVersion": grant.resource_version(), "finalizers": finalizers}});
    call(
        "writing finalizers",
        api.patch(&grant.name_any(), &patch_params(), &Patch::Merge(patch)),
    )
    .await
}

/// Lets a deleted grant go.
pub(crate) async fn finish(context: &Context, grant: &AccessGrant) -> Result<()> {
    let others: Vec<String> = grant
        .finalizers()
        .iter()
        .filter(|name| *name != FINALIZER)
        .cloned()
        .collect();
    match set_finalizers(context, grant, &others).await {
        Err(Error::Call {
            source: kube::Error::Api(status),
            ..
        }) if status.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Takes children away, in their order; an object that somebody's finalizer keeps alive is freed of it.
pub(crate) async fn close(context: &Context, children: &[Child]) -> Result<()> {
    for child in children {
        let namespace = &child.namespace;
        let client = || context.client.clone();
        match child.kind {
            ChildKind::RoleBinding => remove(Api::<RoleBinding>::namespaced(client(), namespace), child).await?,
            ChildKind::Role => remove(Api::<Role>::namespaced(client(), namespace), child).await?,
            ChildKind::ServiceAccount => remove(Api::<ServiceAccount>::namespaced(client(), namespace), child).await?,
            ChildKind::Anchor | ChildKind::DeliverySecret => {
                remove(Api::<Secret>::namespaced(client(), namespace), child).await?;
            }
        }
        context.cache.index.gone(child);
    }
    Ok(())
}

async fn remove<K>(api: Api<K>, child: &Child) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let what = format!("deleting {:?} {}/{}", child.kind, child.namespace, child.name);
    let preconditions = Preconditions {
        uid: Some(child.uid.clone()),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::background()
    };
    let answer = call(what.clone(), api.delete(&child.name, &params)).await;
    let left = match answer {
        // A 409 says that another object has the name by now: ours is gone.
        Err(Error::Call {
            source: kube::Error::Api(status),
            ..
        }) if status.is_not_found() || status.is_conflict() => return Ok(()),
        answer => answer?.left(),
    };
    if left.is_some_and(|object| !object.finalizers().is_empty()) {
        let patch = json!({"metadata": {"uid": child.uid, "finalizers": null}});
        match call(what, api.patch(&child.name, &patch_params(), &Patch::Merge(patch))).await {
            Err(Error::Call {
                source: kube::Error::Api(status),
                ..
            }) if status.is_not_found() || status.is_conflict() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Makes everything of an activation: claim, identity, roles, anchor, token, delivery, and the bindings last.
pub(crate) async fn issue(
    context: &Context,
    world: &World,
    verdict: &Verdict,
    claim: &AccessGrantStatus,
    issue: &Issue,
) -> Result<AccessGrant> {
    let integration = world
        .integration
        .as_ref()
        .ok_or(Error::Incomplete("the integration is gone"))?;
    let mut grant = AccessGrant::clone(&world.grant);
    if issue.add_finalizer {
        let mut finalizers = grant.finalizers().to_vec();
        finalizers.push(FINALIZER.to_owned());
        grant = set_finalizers(context, &grant, &finalizers).await?;
    }
    let grant = write_status(context, &grant, claim).await?;
    let site = Site {
        grant: &grant,
        activation: issue.activation,
        identities: &context.settings.identities,
    };
    let evidence = evidence(&grant, integration, claim);
    let mut made = Vec::new();
    let account = create(
        context,
        ChildKind::ServiceAccount,
        "serviceaccounts",
        site.service_account(&evidence),
        |_| String::new(),
        &mut made,
    )
    .await?;
    for role in site.roles(&evidence) {
        create(context, ChildKind::Role, "roles", role, role_content, &mut made).await?;
    }
    let generation = claim.credential.as_ref().map_or(1, |credential| credential.generation);
    let anchor = create(
        context,
        ChildKind::Anchor,
        "secrets",
        site.anchor_secret(generation, &evidence),
        |_| String::new(),
        &mut made,
    )
    .await?;
    let (minted, data) = mint(context, &grant, &account, &anchor, issue.token, issue.until).await?;
    let mut delivery = site.delivery_secret(&evidence);
    delivery.data = Some(data);
    let source = match delivery.metadata.namespace.as_deref() {
        Some(namespace) if namespace != context.settings.identities => format!("secrets/{namespace}"),
        _ => "secrets".to_owned(),
    };
    create(
        context,
        ChildKind::DeliverySecret,
        &source,
        delivery,
        |_| String::new(),
        &mut made,
    )
    .await?;
    for binding in site.bindings(&evidence) {
        create(
            context,
            ChildKind::RoleBinding,
            "rolebindings",
            binding,
            binding_content,
            &mut made,
        )
        .await?;
    }
    let status = issued(claim, verdict, issue.until, &minted, made, super::now());
    write_status(context, &grant, &status).await
}

/// Delivers another token, bound to an anchor of its own.
pub(crate) async fn rotate(
    context: &Context,
    world: &World,
    verdict: &Verdict,
    claim: &AccessGrantStatus,
    rotate: &Rotate,
) -> Result<AccessGrant> {
    let integration = world
        .integration
        .as_ref()
        .ok_or(Error::Incomplete("the integration is gone"))?;
    let identity = claim
        .identity
        .as_ref()
        .ok_or(Error::Incomplete("no identity is on record"))?;
    let grant = write_status(context, &world.grant, claim).await?;
    let site = Site {
        grant: &grant,
        activation: identity.activation,
        identities: &context.settings.identities,
    };
    let evidence = evidence(&grant, integration, claim);
    let recorded = |kind| {
        claim
            .children
            .iter()
            .find(|child| child.kind == kind)
            .ok_or(Error::Incomplete("a child is not on record"))
    };
    let (account, delivery) = (
        recorded(ChildKind::ServiceAccount)?,
        recorded(ChildKind::DeliverySecret)?,
    );
    let mut made = Vec::new();
    let secret = site.anchor_secret(rotate.generation, &evidence);
    let anchor = create(
        context,
        ChildKind::Anchor,
        "secrets",
        secret,
        |_| String::new(),
        &mut made,
    )
    .await?;
    let (minted, data) = mint(context, &grant, account, &anchor, rotate.token, rotate.until).await?;
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &delivery.namespace);
    let patch = json!({"metadata": {"uid": delivery.uid}, "data": data});
    let params = patch_params();
    call(
        "delivering the credential",
        api.patch(&delivery.name, &params, &Patch::Merge(patch)),
    )
    .await?;
    let status = rotated(
        claim,
        verdict,
        rotate.until,
        &minted,
        anchor,
        rotate.answers.clone(),
        super::now(),
    );
    write_status(context, &grant, &status).await
}

async fn create<K>(
    context: &Context,
    kind: ChildKind,
    source: &str,
    object: K,
    content: impl Fn(&K) -> String,
    made: &mut Vec<ChildRef>,
) -> Result<ChildRef>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
{
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let created = call(format!("{kind:?} {namespace}/{name}"), api.create(&post(), &object)).await?;
    context.cache.index.put(source, kind, created.meta(), content(&created));
    let child = ChildRef {
        kind,
        namespace,
        name,
        uid: created.uid().unwrap_or_default(),
    };
    made.push(child.clone());
    Ok(child)
}

/// Asks for a token and packs it for delivery; the token is nowhere but in what is returned.
async fn mint(
    context: &Context,
    grant: &AccessGrant,
    account: &ChildRef,
    anchor: &ChildRef,
    ask: TokenAsk,
    until: Instant,
) -> Result<(Minted, BTreeMap<String, ByteString>)> {
    let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &account.namespace);
    let audiences = grant.token().audiences.into_iter().map(|audience| audience.0).collect();
    let request = TokenRequest {
        metadata: kube::api::ObjectMeta {
            uid: Some(account.uid.clone()),
            ..Default::default()
        },
        spec: TokenRequestSpec {
            audiences,
            expiration_seconds: Some(ask.seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Secret".to_owned()),
                name: Some(anchor.name.clone()),
                uid: Some(anchor.uid.clone()),
            }),
        },
        status: None,
    };
    let answer = call(
        "requesting a token",
        api.create_token_request(&account.name, &PostParams::default(), &request),
    )
    .await?;
    let status = answer
        .status
        .ok_or(Error::Incomplete("the API server granted no token"))?;
    let expires_at = Instant::new(status.expiration_timestamp.0);
    if ask.hard && !lifetime::is_hard(expires_at, until) {
        return Err(Error::TokenTooLong(expires_at));
    }
    let minted = Minted {
        issued_at: super::now(),
        expires_at,
        credential_id: None,
    };
    let namespace = grant.namespace().unwrap_or_default();
    let settings = &context.settings;
    let encoded = serde_json::to_value(ByteString(settings.ca.clone().into_bytes())).unwrap_or_default();
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "partner",
        "clusters": [{"name": "partner", "cluster": {"server": settings.partner_server, "certificate-authority-data": encoded}}],
        "users": [{"name": "partner", "user": {"token": status.token}}],
        "contexts": [{"name": "partner", "context": {"cluster": "partner", "user": "partner", "namespace": namespace}}],
    });
    let kubeconfig =
        serde_saphyr::to_string(&kubeconfig).map_err(|_| Error::Incomplete("the kubeconfig can't be written"))?;
    let data = [
        ("token", status.token),
        ("ca.crt", settings.ca.clone()),
        ("namespace", namespace),
        ("server", settings.partner_server.clone()),
        ("kubeconfig", kubeconfig),
    ];
    Ok((
        minted,
        data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
            .into(),
    ))
}
