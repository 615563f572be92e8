//! The ruler: a raw client with the operator's own ServiceAccount that makes the same objects by the same calls, many at
//! once, and does nothing else. The operator does not run meanwhile, so that it has the machine to itself.
//!
//! It is laid on twice. *Bare* makes the six objects that access takes: Role, ServiceAccount, anchor, token, delivery
//! Secret, RoleBinding. *Whole* also writes what a governed grant needs around them: finalizer, claim, status, event: as
//! many calls as the operator makes. What is made is copied from a grant that the operator made in the same run.

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::field::{Field, Place, Set};
use super::meter::{millis, number};
use crate::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT};
use crate::tenant::{api, text};

/// As many as the operator reconciles at once by default.
pub(super) const AT_ONCE: usize = 64;
const FINALIZER: &str = "wayleave.dev/close-access";
const TOKEN_SECONDS: i64 = 12 * 3_600;

/// See the module.
pub(super) struct Ruler {
    client: Client,
    like: Like,
}

/// What a grant of the operator's consists of.
struct Like {
    account: ServiceAccount,
    role: Role,
    anchor: Secret,
    delivery: Secret,
    binding: RoleBinding,
    status: Value,
}

/// What of one grant is to be taken away again.
struct Made {
    binding: (Place, String),
    others: Vec<(&'static str, Place, String)>,
}

/// A round of the ruler.
pub(super) struct Laid {
    pub(super) issues_per_second: f64,
    pub(super) denials_per_second: f64,
    /// From the beginning to each binding's deletion, in milliseconds.
    pub(super) denied_after: Vec<f64>,
}

impl Ruler {
    /// Learns what to make from a grant that the operator made.
    pub(super) async fn like(field: &Field<'_>, place: &Place) -> Result<Self> {
        let root = &field.root;
        let grant = api(root, "AccessGrant", &place.namespace).get(&place.name).await?;
        let status = serde_json::to_value(&grant)?["status"].clone();
        let child = |kind: &str| -> Result<(String, String)> {
            let all = status["children"].as_array().context("the grant has no children")?;
            let found = all.iter().find(|child| child["kind"] == kind);
            let found = found.with_context(|| format!("the grant has no {kind}: {all:?}"))?;
            Ok((text(&found["namespace"]), text(&found["name"])))
        };
        let like = Like {
            account: get(root, &child("ServiceAccount")?).await?,
            role: get(root, &child("Role")?).await?,
            anchor: get(root, &child("Anchor")?).await?,
            delivery: get(root, &child("DeliverySecret")?).await?,
            binding: get(root, &child("RoleBinding")?).await?,
            status,
        };
        let client = field.cp.service_account(NAMESPACE, SERVICE_ACCOUNT).await?;
        Ok(Self { client, like })
    }

    /// Issues a set and takes its bindings away again, many at once, and then the rest. The set must have been asked for while
    /// no operator runs.
    pub(super) async fn lay(&self, field: &Field<'_>, set: &Set, whole: bool) -> Result<Laid> {
        let grants = self.grants_of(field, set).await?;
        let begun = Timestamp::now();
        let made: Vec<Made> = futures::stream::iter(grants.iter().enumerate())
            .map(|(index, grant)| self.issue(index, grant, whole))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let issued = millis(begun, Timestamp::now());
        let begun = Timestamp::now();
        let denied_after: Vec<f64> = futures::stream::iter(&made)
            .map(|made| async move {
                let (place, uid) = &made.binding;
                remove(&self.client, "RoleBinding", place, uid).await?;
                anyhow::Ok(millis(begun, Timestamp::now()))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let denied = millis(begun, Timestamp::now());
        futures::stream::iter(made.iter().flat_map(|made| &made.others))
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |(kind, place, uid)| remove(&self.client, kind, place, uid))
            .await?;
        if whole {
            self.release(&grants).await?;
        }
        Ok(Laid {
            issues_per_second: number(grants.len()) / issued * 1_000.0,
            denials_per_second: number(grants.len()) / denied * 1_000.0,
            denied_after,
        })
    }

    /// One grant alone: milliseconds from the first call to the partner's first answer, and from the binding's deletion to the
    /// first refusal.
    pub(super) async fn single(&self, field: &Field<'_>, index: usize, grant: &Value) -> Result<(f64, f64)> {
        let begun = Timestamp::now();
        let (made, token) = self.access(index, grant).await?;
        let namespace = &made.binding.0.namespace;
        let usable = millis(begun, field.asks_until(namespace, &token, false).await?);
        let (place, uid) = &made.binding;
        let begun = Timestamp::now();
        let (refused, removed) = tokio::join!(
            field.asks_until(namespace, &token, true),
            remove(&self.client, "RoleBinding", place, uid)
        );
        removed?;
        let denied = millis(begun, refused?);
        for (kind, place, uid) in &made.others {
            remove(&self.client, kind, place, uid).await?;
        }
        Ok((usable, denied))
    }

    /// Takes the finalizers off again.
    async fn release(&self, grants: &[Value]) -> Result<()> {
        let none = &Patch::Merge(json!({"metadata": {"finalizers": null}}));
        futures::stream::iter(grants)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |grant| async move {
                let grants = api(&self.client, "AccessGrant", &text(&grant["metadata"]["namespace"]));
                let name = text(&grant["metadata"]["name"]);
                let patched = grants.patch(&name, &PatchParams::default(), none).await;
                patched.map(drop).context("the finalizers")
            })
            .await
    }

    /// The grants of a set, as they are.
    pub(super) async fn grants_of(&self, field: &Field<'_>, set: &Set) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        for namespace in &set.namespaces {
            all.extend(field.grants_in(namespace, &set.name).await?);
        }
        Ok(all)
    }

    async fn issue(&self, index: usize, grant: &Value, whole: bool) -> Result<Made> {
        if !whole {
            return Ok(self.access(index, grant).await?.0);
        }
        let (namespace, name) = (text(&grant["metadata"]["namespace"]), text(&grant["metadata"]["name"]));
        let grants = api(&self.client, "AccessGrant", &namespace);
        let finalizers =
            json!({"metadata": {"resourceVersion": grant["metadata"]["resourceVersion"], "finalizers": [FINALIZER]}});
        let params = PatchParams::apply("ruler");
        let params = PatchParams {
            field_manager: params.field_manager,
            ..PatchParams::default()
        };
        let written = grants.patch(&name, &params, &Patch::Merge(finalizers)).await?;
        let status =
            |version: Option<String>| json!({"metadata": {"resourceVersion": version}, "status": self.like.status});
        let claim = Patch::Merge(status(written.resource_version()));
        let written = grants.patch_status(&name, &params, &claim).await.context("the claim")?;
        let (made, _token) = self.access(index, grant).await?;
        // Not the same once more: that would be no write.
        let mut issued = status(written.resource_version());
        issued["status"]["digestSince"] = json!(Timestamp::now().to_string());
        let issued = grants.patch_status(&name, &params, &Patch::Merge(issued)).await;
        let issued = issued.context("the status")?;
        self.event(&namespace, &issued).await?;
        Ok(made)
    }

    async fn event(&self, namespace: &str, grant: &kube::api::DynamicObject) -> Result<()> {
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some("ruler-".to_owned()),
                ..ObjectMeta::default()
            },
            action: Some("Issue".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some("access was issued, as a raw client would say".to_owned()),
            reason: Some("Issued".to_owned()),
            regarding: Some(k8s_openapi::api::core::v1::ObjectReference {
                api_version: Some("wayleave.dev/v1alpha1".to_owned()),
                kind: Some("AccessGrant".to_owned()),
                name: Some(grant.name_any()),
                namespace: Some(namespace.to_owned()),
                uid: grant.uid(),
                ..Default::default()
            }),
            reporting_controller: Some("wayleave.dev/ruler".to_owned()),
            reporting_instance: Some("ruler".to_owned()),
            type_: Some("Normal".to_owned()),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        events
            .create(&PostParams::default(), &event)
            .await
            .context("the event")?;
        Ok(())
    }

    /// The six calls, one after the other.
    async fn access(&self, index: usize, grant: &Value) -> Result<(Made, String)> {
        let (client, like) = (&self.client, &self.like);
        let namespace = text(&grant["metadata"]["namespace"]);
        let name = text(&grant["metadata"]["name"]);
        let key = format!("wlg-{index:016x}-1");
        let meta = |like: &ObjectMeta, name: &str| own(like, name, grant);

        let mut role = like.role.clone();
        role.metadata = meta(&role.metadata, &format!("{key}-0"));
        let role = make(client, &namespace, &role).await?;

        let mut account = like.account.clone();
        account.metadata = meta(&account.metadata, &key);
        let account = make(client, IDENTITY_NAMESPACE, &account).await?;

        let mut anchor = like.anchor.clone();
        anchor.metadata = meta(&anchor.metadata, &format!("{key}-g1"));
        let anchor = make(client, IDENTITY_NAMESPACE, &anchor).await?;

        let token = self.token(&account, &anchor).await?;
        let mut delivery = like.delivery.clone();
        delivery.metadata = meta(&delivery.metadata, &format!("{name}-credential"));
        if let Some(data) = &mut delivery.data {
            data.insert("token".to_owned(), ByteString(token.clone().into_bytes()));
        }
        let delivery = make(client, &namespace, &delivery).await?;

        let mut binding = like.binding.clone();
        binding.metadata = meta(&binding.metadata, &format!("{key}-0"));
        binding.role_ref.name = format!("{key}-0");
        for subject in binding.subjects.iter_mut().flatten() {
            key.clone_into(&mut subject.name);
        }
        let binding = make(client, &namespace, &binding).await?;

        let made = Made {
            binding: place(&binding),
            others: [
                ("Secret", place(&anchor)),
                ("ServiceAccount", place(&account)),
                ("Role", place(&role)),
                ("Secret", place(&delivery)),
            ]
            .map(|(kind, (place, uid))| (kind, place, uid))
            .into(),
        };
        Ok((made, token))
    }

    async fn token(&self, account: &ServiceAccount, anchor: &Secret) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), IDENTITY_NAMESPACE);
        let request = TokenRequest {
            metadata: ObjectMeta {
                uid: account.uid(),
                ..ObjectMeta::default()
            },
            spec: TokenRequestSpec {
                audiences: Vec::new(),
                expiration_seconds: Some(TOKEN_SECONDS),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Secret".to_owned()),
                    name: Some(anchor.name_any()),
                    uid: anchor.uid(),
                }),
            },
            status: None,
        };
        let params = PostParams::default();
        let answer = accounts
            .create_token_request(&account.name_any(), &params, &request)
            .await
            .context("the token")?;
        Ok(answer.status.context("no token was granted")?.token)
    }
}

/// The metadata of an object like another, of the ruler's own grant.
fn own(like: &ObjectMeta, name: &str, grant: &Value) -> ObjectMeta {
    let owners = like.owner_references.clone().map(|owners| {
        let of = |owner: OwnerReference| OwnerReference {
            name: text(&grant["metadata"]["name"]),
            uid: text(&grant["metadata"]["uid"]),
            ..owner
        };
        owners.into_iter().map(of).collect()
    });
    // An annotation that names the operator's grant would have it look after what it did not make.
    let mut annotations = like.annotations.clone().unwrap_or_default();
    if let Some(uid) = annotations.get_mut("wayleave.dev/grant-uid") {
        *uid = text(&grant["metadata"]["uid"]);
    }
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: like.labels.clone(),
        annotations: Some(annotations),
        owner_references: owners,
        ..ObjectMeta::default()
    }
}

fn place(object: &impl kube::ResourceExt) -> (Place, String) {
    let place = Place {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    };
    (place, object.uid().unwrap_or_default())
}

async fn get<K>(client: &Client, (namespace, name): &(String, String)) -> Result<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    Ok(Api::<K>::namespaced(client.clone(), namespace).get(name).await?)
}

async fn make<K>(client: &Client, namespace: &str, object: &K) -> Result<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + serde::Serialize
        + std::fmt::Debug,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let made = api.create(&PostParams::default(), object).await;
    made.with_context(|| format!("the ruler's {} {}", K::kind(&()), object.name_any()))
}

async fn remove(client: &Client, kind: &str, place: &Place, uid: &str) -> Result<()> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    let removed = api(client, kind, &place.namespace).delete(&place.name, &params).await;
    removed
        .map(drop)
        .with_context(|| format!("the ruler's {kind} {}", place.name))
}
