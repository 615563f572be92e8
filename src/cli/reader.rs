//! Reads from the cluster, by the caller's own rights, what a grant is judged by. What may not be read is noted, and the
//! rest is read all the same.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::documents::Key;
use super::failure;
use super::world::{self, Missing, World};
use crate::api::names::LABEL_ENROLMENT;
use crate::api::v1alpha1::{AccessDecision, AccessGrant, AccessOwner, AccessPolicy, PartnerIntegration};
use crate::domain::permission;
use crate::domain::verdict::Namespace;

/// HTTP status of a forbidden request.
const FORBIDDEN: u16 = 403;

/// Fills a world with what it lacks.
pub struct Reader {
    client: Client,
    /// Enrolment ClusterRoles, once they were read.
    enrolments: Option<Vec<String>>,
}

/// A kind that lives in the cluster itself.
trait OfCluster: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + DeserializeOwned + Clone {}
impl<K> OfCluster for K where
    K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + DeserializeOwned + Clone
{
}

/// The result; what the API server forbids becomes none, with its words.
fn allowed<T>(result: kube::Result<T>, doing: &str) -> anyhow::Result<Result<T, String>> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(error) if matches!(&error, kube::Error::Api(status) if status.code == FORBIDDEN) => {
            Ok(Err(format!("{doing}: {}", failure::of_client(&error).message)))
        }
        Err(error) => Err(error).with_context(|| doing.to_owned()),
    }
}

impl Reader {
    /// A reader with the caller's client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            enrolments: None,
        }
    }

    /// Policies and owners that are not in the world yet.
    ///
    /// # Errors
    /// When they can't be read for another reason than that they may not be.
    pub async fn cluster_wide(&self, world: &mut World) -> anyhow::Result<()> {
        match self.all::<AccessPolicy>("listing policies").await? {
            Ok(found) => add(&mut world.policies, found),
            Err(why) => world.lacks(Missing::Policies, "", why),
        }
        match self.all::<AccessOwner>("listing owners").await? {
            Ok(found) => add(&mut world.owners, found),
            Err(why) => world.lacks(Missing::Owners, "", why),
        }
        Ok(())
    }

    /// The other grants and the decisions of a namespace.
    ///
    /// # Errors
    /// When they can't be read for another reason than that they may not be.
    pub async fn namespace_wide(&self, world: &mut World, namespace: &str) -> anyhow::Result<()> {
        let params = ListParams::default();
        let grants: Api<AccessGrant> = Api::namespaced(self.client.clone(), namespace);
        let doing = format!("listing grants of namespace {namespace}");
        match allowed(grants.list(&params).await, &doing)? {
            Ok(found) => add_namespaced(&mut world.grants, found.items),
            Err(why) => world.lacks(Missing::Siblings, namespace, why),
        }
        let decisions: Api<AccessDecision> = Api::namespaced(self.client.clone(), namespace);
        let doing = format!("listing decisions of namespace {namespace}");
        match allowed(decisions.list(&params).await, &doing)? {
            Ok(found) => add_namespaced(&mut world.decisions, found.items),
            Err(why) => world.lacks(Missing::Decisions, namespace, why),
        }
        Ok(())
    }

    /// Everything else that a grant is judged by: integration, namespaces with their enrolment, ClusterRoles.
    ///
    /// # Errors
    /// When something can't be read for another reason than that it may not be; the integration, for that too.
    pub async fn of_grant(&mut self, world: &mut World, grant: &AccessGrant) -> anyhow::Result<()> {
        let key = world::integration_key(grant);
        if !world.integrations.contains_key(&key)
            && let Some(found) = self.integration(&key).await?
        {
            world.integrations.insert(key, found);
        }
        for name in world::reached(grant) {
            self.namespace(world, &name).await?;
        }
        for name in grant.cluster_roles() {
            if world.cluster_roles.contains_key(&name) {
                continue;
            }
            match self.one::<ClusterRole>(&name, "ClusterRole").await? {
                Ok(Some(found)) => drop(world.cluster_roles.insert(name, world::resolved(&found))),
                Ok(None) => {}
                Err(why) => world.lacks(Missing::ClusterRole, &name, why),
            }
        }
        if permission::may_reach_secrets(grant, &world.cluster_roles) {
            self.deliveries(world, grant).await?;
        }
        Ok(())
    }

    /// The grants of the other namespaces that a grant reaches: their Secrets are out of its reach.
    async fn deliveries(&self, world: &mut World, grant: &AccessGrant) -> anyhow::Result<()> {
        let mut beyond = world::reached(grant);
        beyond.remove(&world::key(grant).0);
        for namespace in beyond {
            let grants: Api<AccessGrant> = Api::namespaced(self.client.clone(), &namespace);
            let doing = format!("listing grants of namespace {namespace}");
            match allowed(grants.list(&ListParams::default()).await, &doing)? {
                Ok(found) => add_namespaced(&mut world.grants, found.items),
                Err(why) => world.lacks(Missing::Deliveries, &namespace, why),
            }
        }
        Ok(())
    }

    /// An integration, where it exists.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn integration(&self, (namespace, name): &Key) -> anyhow::Result<Option<PartnerIntegration>> {
        let api: Api<PartnerIntegration> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await;
        found.with_context(|| format!("reading integration {namespace}/{name}"))
    }

    /// Those of some integrations that exist.
    ///
    /// # Errors
    /// When one can't be read for another reason than that it may not be.
    pub async fn standing_integrations(
        &self,
        world: &mut World,
        keys: impl Iterator<Item = &Key>,
    ) -> anyhow::Result<()> {
        for key in keys {
            let (namespace, name) = key;
            let api: Api<PartnerIntegration> = Api::namespaced(self.client.clone(), namespace);
            let doing = format!("reading integration {namespace}/{name}");
            match allowed(api.get_opt(name).await, &doing)? {
                Ok(Some(found)) => drop(world.integrations.insert(key.clone(), found)),
                Ok(None) => {}
                Err(why) => world.lacks(Missing::StandingIntegration, name, why),
            }
        }
        Ok(())
    }

    /// The UID of a namespace, where it exists and may be read.
    ///
    /// # Errors
    /// When it can't be read for another reason than that it may not be.
    pub async fn namespace_uid(&self, name: &str) -> anyhow::Result<Result<Option<String>, String>> {
        let found = self.one::<KubeNamespace>(name, "namespace").await?;
        Ok(found.map(|found| found.and_then(|it| it.metadata.uid)))
    }

    async fn namespace(&mut self, world: &mut World, name: &str) -> anyhow::Result<()> {
        let from_file = world.namespaces.get(name).cloned();
        let found = match self.one::<KubeNamespace>(name, "namespace").await? {
            Ok(Some(found)) => Some(found),
            Ok(None) => None,
            Err(why) => {
                if from_file.is_none() {
                    world.lacks(Missing::Namespace, name, why);
                }
                None
            }
        };
        let mut namespace = match (from_file, &found) {
            (Some(namespace), _) => namespace,
            (None, Some(found)) => Namespace {
                labels: found.labels().clone(),
                ..Namespace::default()
            },
            (None, None) => return Ok(()),
        };
        if let Some(found) = &found {
            namespace.uid = found.uid().unwrap_or_default();
            namespace.terminating = found.metadata.deletion_timestamp.is_some();
        }
        namespace.enrolled = self.enrolled(world, name).await?;
        world.namespaces.insert(name.to_owned(), namespace);
        Ok(())
    }

    /// Whether a binding there gives a ServiceAccount an enrolment ClusterRole; where that may not be read, what the
    /// operator says by the status of grants there.
    async fn enrolled(&mut self, world: &mut World, namespace: &str) -> anyhow::Result<bool> {
        let bindings: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        let doing = format!("listing role bindings of namespace {namespace}");
        let bindings = allowed(bindings.list(&ListParams::default()).await, &doing)?;
        let roles = self.enrolment_roles().await?;
        let why = match (bindings, roles) {
            (Ok(bindings), Ok(roles)) => {
                let enrols = |it: &RoleBinding| {
                    let mut subjects = it.subjects.iter().flatten();
                    it.role_ref.kind == "ClusterRole"
                        && it.metadata.deletion_timestamp.is_none()
                        && roles.contains(&it.role_ref.name)
                        && subjects.any(|subject| subject.kind == "ServiceAccount")
                };
                return Ok(bindings.iter().any(enrols));
            }
            (Err(why), _) | (_, Err(why)) => why,
        };
        let said = world.enrolled_by_status(namespace);
        if said.is_none() {
            world.lacks(Missing::Enrolment, namespace, why);
        }
        Ok(said.unwrap_or(true))
    }

    async fn enrolment_roles(&mut self) -> anyhow::Result<Result<Vec<String>, String>> {
        if let Some(known) = &self.enrolments {
            return Ok(Ok(known.clone()));
        }
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let labelled = ListParams::default().labels(LABEL_ENROLMENT);
        let found = allowed(api.list(&labelled).await, "listing enrolment ClusterRoles")?;
        Ok(found.map(|found| {
            let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
            self.enrolments = Some(names.clone());
            names
        }))
    }

    async fn all<K: OfCluster + std::fmt::Debug>(&self, doing: &str) -> anyhow::Result<Result<Vec<K>, String>> {
        let found = Api::<K>::all(self.client.clone()).list(&ListParams::default()).await;
        Ok(allowed(found, doing)?.map(|found| found.items))
    }

    async fn one<K: OfCluster + std::fmt::Debug>(
        &self,
        name: &str,
        kind: &str,
    ) -> anyhow::Result<Result<Option<K>, String>> {
        let found = Api::<K>::all(self.client.clone()).get_opt(name).await;
        allowed(found, &format!("reading {kind} {name}"))
    }
}

/// Adds what is not there yet: what a file holds goes before what the cluster has.
fn add<K: ResourceExt>(into: &mut BTreeMap<String, K>, found: Vec<K>) {
    for object in found {
        into.entry(object.name_any()).or_insert(object);
    }
}

fn add_namespaced<K: ResourceExt>(into: &mut BTreeMap<Key, K>, found: Vec<K>) {
    for object in found {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        into.entry(key).or_insert(object);
    }
}
