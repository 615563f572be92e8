//! The admission policies as they stand, and the record of when they were seen to hold. Does I/O.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::apply::{Error, Result, call, post};
use super::now;
use super::watches::{self, Patience};
use crate::api::names::{ADMISSION_POLICIES, LABEL_COMPONENT, PROOFS};
use crate::api::v1alpha1::Instant;
use crate::domain::admission::Proofs;

/// Our policies and their bindings, as the chart labels them.
const OURS: &str = "app.kubernetes.io/name=wayleave";
/// The key of the record.
const KEY: &str = "proofs.json";

/// The objects of a kind, by name.
type Known = BTreeMap<String, Piece>;

/// A policy or a binding as it is.
#[derive(Clone, Debug)]
struct Piece {
    /// What tells two states apart.
    state: String,
    /// When it was written.
    at: Instant,
    /// Which policy of the chart it is, or binds.
    component: Option<String>,
    /// As the chart has it, as far as can be told: a policy is there, a binding refuses what its policy says, everywhere.
    enforces: bool,
}

/// What a policy or a binding says of itself.
trait Enforcing {
    fn enforces(&self) -> bool;
}

impl Enforcing for PartialObjectMeta<ValidatingAdmissionPolicy> {
    fn enforces(&self) -> bool {
        true
    }
}

impl Enforcing for ValidatingAdmissionPolicyBinding {
    fn enforces(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| {
            let actions = spec.validation_actions.iter().flatten();
            spec.policy_name == self.metadata.name
                && spec.match_resources.is_none()
                && actions.into_iter().any(|action| action == "Deny")
        })
    }
}

/// Our policies and their bindings, by watching them.
pub(crate) struct Pack {
    policies: Listed,
    bindings: Listed,
    /// When they were first seen as they are.
    seen: Instant,
    ended: Ended,
}

/// How long policies were what they were when they were last proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ended {
    /// They still are.
    #[default]
    NotYet,
    /// Until then, when a watch told of the first change since.
    At(Instant),
    /// That they are no longer came to light by a listing.
    Unknown,
}

/// The policies as they stand.
#[derive(Debug)]
pub(crate) struct Standing {
    /// What tells them from others, and from changed ones.
    pub(crate) fingerprint: String,
    /// The latest date on one of them.
    pub(crate) dated: Instant,
    /// When they were first seen as they are: a write can leave no date.
    pub(crate) seen: Instant,
    /// How long they were what they were when they were last proved.
    pub(crate) ended: Ended,
    /// Those of the chart that are not there, or not enforced.
    pub(crate) missing: Vec<&'static str>,
}

#[derive(Default)]
struct Listed {
    known: Known,
    listing: Known,
    complete: bool,
}

/// A change as a watch told of it.
pub(crate) enum Change {
    Policy(Box<watcher::Event<PartialObjectMeta<ValidatingAdmissionPolicy>>>),
    Binding(Box<watcher::Event<ValidatingAdmissionPolicyBinding>>),
}

impl Pack {
    /// None is known yet.
    pub(crate) fn new() -> Self {
        Self {
            policies: Listed::default(),
            bindings: Listed::default(),
            seen: now(),
            ended: Ended::NotYet,
        }
    }

    /// They are what they were when they stood so.
    pub(crate) fn is(&self, standing: &Standing) -> bool {
        self.standing()
            .is_some_and(|now| now.fingerprint == standing.fingerprint)
    }

    /// They were proved as they are.
    pub(crate) fn proved(&mut self) {
        self.ended = Ended::NotYet;
    }

    /// Takes a change in, as soon as it is told; says whether any of them is other than it was known.
    pub(crate) fn take(&mut self, change: Change) -> bool {
        let news = match change {
            Change::Policy(event) => self.policies.take(*event),
            Change::Binding(event) => self.bindings.take(*event),
        };
        let Some(news) = news else { return false };
        self.seen = now();
        self.ended = match (self.ended, news) {
            (Ended::NotYet, News::Told) => Ended::At(self.seen),
            (_, News::Listed) => Ended::Unknown,
            (ended, News::Told) => ended,
        };
        true
    }

    /// How they stand; none before all were listed.
    pub(crate) fn standing(&self) -> Option<Standing> {
        if !(self.policies.complete && self.bindings.complete) {
            return None;
        }
        let mut dated = Instant::new(jiff::Timestamp::UNIX_EPOCH);
        let mut hash = Sha256::new();
        for (kind, listed) in [("policy", &self.policies), ("binding", &self.bindings)] {
            for (name, piece) in &listed.known {
                dated = dated.max(piece.at);
                // Names hold no blanks.
                hash.update(format!("{kind} {name} {}\n", piece.state));
            }
        }
        let is_enforced = |name: &&str| self.policies.enforce(name) && self.bindings.enforce(name);
        let missing = ADMISSION_POLICIES.into_iter().filter(|name| !is_enforced(name));
        Some(Standing {
            fingerprint: hex::encode(hash.finalize()),
            dated,
            seen: self.seen,
            ended: self.ended,
            missing: missing.collect(),
        })
    }
}

impl Listed {
    fn enforce(&self, component: &str) -> bool {
        let is_it = |piece: &Piece| piece.enforces && piece.component.as_deref() == Some(component);
        self.known.values().any(is_it)
    }

    /// Takes an event in; says whether anything is other than it was known, and how that came to light.
    fn take<K: Resource + Enforcing>(&mut self, event: watcher::Event<K>) -> Option<News> {
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(object) => drop(self.listing.insert(object.name_any(), piece(&object))),
            watcher::Event::InitDone => {
                let before = std::mem::replace(&mut self.known, std::mem::take(&mut self.listing));
                let was_complete = std::mem::replace(&mut self.complete, true);
                return (was_complete && !is_same(&before, &self.known)).then_some(News::Listed);
            }
            watcher::Event::Apply(object) => {
                let after = piece(&object);
                let state = after.state.clone();
                let before = self.known.insert(object.name_any(), after);
                return (before.map(|piece| piece.state) != Some(state)).then_some(News::Told);
            }
            watcher::Event::Delete(object) => {
                let before = self.known.remove(&object.name_any());
                return before.is_some().then_some(News::Told);
            }
        }
        None
    }
}

/// How a change came to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// A watch told of it when it was made.
    Told,
    /// A listing shows that it was made some time since the last.
    Listed,
}

/// The same objects in the same states, whatever their dates.
fn is_same(one: &Known, other: &Known) -> bool {
    let states = |known: &Known| -> Vec<(String, String)> {
        let states = known.iter().map(|(name, piece)| (name.clone(), piece.state.clone()));
        states.collect()
    };
    states(one) == states(other)
}

/// The generation changes with the spec; what has none is told by its version. What is written leaves a date with the
/// manager that wrote it, unless it only took something away.
fn piece(object: &(impl Resource + Enforcing)) -> Piece {
    let meta = object.meta();
    let managers = meta.managed_fields.iter().flatten();
    let dates = managers
        .filter(|entry| entry.subresource.is_none())
        .map(|entry| entry.time.as_ref());
    let dates = dates
        .chain([meta.creation_timestamp.as_ref()])
        .flatten()
        .map(|time| Instant::new(time.0));
    let written = dates.max().unwrap_or_else(now);
    let version = || meta.resource_version.clone().unwrap_or_default();
    let state = meta
        .generation
        .map_or_else(version, |generation| generation.to_string());
    Piece {
        state: format!("{} {state}", meta.uid.as_deref().unwrap_or_default()),
        at: written,
        component: meta
            .labels
            .as_ref()
            .and_then(|labels| labels.get(LABEL_COMPONENT))
            .cloned(),
        enforces: object.enforces(),
    }
}

/// What becomes of our policies and their bindings, for ever.
pub(crate) fn changes(client: &Client) -> impl Stream<Item = Change> + Send + use<> {
    let policies =
        events::<PartialObjectMeta<ValidatingAdmissionPolicy>>(client).map(|event| Change::Policy(Box::new(event)));
    let bindings = events::<ValidatingAdmissionPolicyBinding>(client).map(|event| Change::Binding(Box::new(event)));
    futures::stream::select(policies, bindings)
}

fn events<K>(client: &Client) -> BoxStream<'static, watcher::Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let config = watches::config().labels(OURS);
    watcher(Api::<K>::all(client.clone()), config)
        .backoff(Patience::default())
        .inspect_err(|error| tracing::warn!(%error, "watching the admission policies failed"))
        .filter_map(|event| async { event.ok() })
        .boxed()
}

/// Reads the record, lets `change` it, and writes it back where anything changed.
///
/// # Errors
/// When it can't be read or written; somebody else's write in between is a conflict.
pub(crate) async fn record(client: &Client, namespace: &str, change: impl FnOnce(&mut Proofs)) -> Result<Arc<Proofs>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = call("reading when the admission policies held", api.get_opt(PROOFS)).await?;
    let text = found.as_ref().and_then(|map| map.data.as_ref()?.get(KEY)).cloned();
    let before: Proofs = match (&found, text) {
        (None, _) => Proofs::default(),
        (Some(_), text) => text
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_else(Proofs::unknown),
    };
    let mut after = before.clone();
    change(&mut after);
    if after != before || found.is_none() {
        let text =
            serde_json::to_string(&after).map_err(|_| Error::Incomplete("the proofs can't be written as JSON"))?;
        let data = Some([(KEY.to_owned(), text)].into());
        let what = "writing when the admission policies held";
        match found {
            None => {
                let metadata = ObjectMeta {
                    name: Some(PROOFS.to_owned()),
                    ..ObjectMeta::default()
                };
                let map = ConfigMap {
                    metadata,
                    data,
                    ..ConfigMap::default()
                };
                call(what, api.create(&post(), &map)).await?;
            }
            Some(mut map) => {
                map.data = data;
                map.metadata.managed_fields = None;
                call(what, api.replace(PROOFS, &post(), &map)).await?;
            }
        }
    }
    Ok(Arc::new(after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::admissionregistration::v1::{MatchResources, ValidatingAdmissionPolicyBindingSpec};

    fn policy(name: &str, generation: i64) -> PartialObjectMeta<ValidatingAdmissionPolicy> {
        let mut policy = PartialObjectMeta::<ValidatingAdmissionPolicy>::default();
        policy.metadata.name = Some(name.to_owned());
        policy.metadata.uid = Some(format!("uid-of-{name}"));
        policy.metadata.generation = Some(generation);
        policy
    }

    fn binding(component: &str, of: &str, actions: &[&str]) -> ValidatingAdmissionPolicyBinding {
        let mut binding = ValidatingAdmissionPolicyBinding::default();
        binding.metadata.name = Some(format!("wayleave-{component}"));
        binding.metadata.labels = Some([(LABEL_COMPONENT.to_owned(), component.to_owned())].into());
        binding.spec = Some(ValidatingAdmissionPolicyBindingSpec {
            policy_name: Some(format!("wayleave-{of}")),
            validation_actions: Some(actions.iter().map(|action| (*action).to_owned()).collect()),
            ..ValidatingAdmissionPolicyBindingSpec::default()
        });
        binding
    }

    #[test]
    fn a_policy_that_is_not_there_or_does_not_refuse_is_missed() {
        let mut pack = Pack::new();
        (pack.policies.complete, pack.bindings.complete) = (true, true);
        for component in ADMISSION_POLICIES {
            let mut policy = policy(&format!("wayleave-{component}"), 1);
            policy.metadata.labels = Some([(LABEL_COMPONENT.to_owned(), component.to_owned())].into());
            pack.policies.take(watcher::Event::Apply(policy));
            let binding = binding(component, component, &["Deny"]);
            pack.bindings.take(watcher::Event::Apply(binding));
        }
        let missing = |pack: &Pack| pack.standing().unwrap().missing;
        assert_eq!(missing(&pack), [""; 0]);
        let mut narrowed = binding("requests", "requests", &["Deny"]);
        narrowed.spec.as_mut().unwrap().match_resources = Some(MatchResources::default());
        let weak = [
            binding("requests", "requests", &["Audit", "Warn"]),
            binding("requests", "another", &["Deny"]),
            narrowed,
        ];
        for weak in weak {
            pack.bindings.take(watcher::Event::Apply(weak));
            assert_eq!(missing(&pack), ["requests"]);
        }
        let whole = binding("requests", "requests", &["Deny", "Audit"]);
        pack.bindings.take(watcher::Event::Apply(whole));
        assert_eq!(missing(&pack), [""; 0]);
        pack.policies.take(watcher::Event::Delete(policy("wayleave-tokens", 1)));
        assert_eq!(missing(&pack), ["tokens"]);
    }

    #[test]
    fn the_fingerprint_is_of_all_that_was_listed_and_changes_with_each() {
        let mut pack = Pack::new();
        let print = |pack: &Pack| pack.standing().map(|standing| standing.fingerprint);
        pack.bindings.complete = true;
        pack.policies
            .take(watcher::Event::<PartialObjectMeta<ValidatingAdmissionPolicy>>::Init);
        pack.policies.take(watcher::Event::InitApply(policy("a", 1)));
        assert_eq!(print(&pack), None, "the listing is not complete");
        let listed = watcher::Event::<PartialObjectMeta<ValidatingAdmissionPolicy>>::InitDone;
        assert_eq!(pack.policies.take(listed), None, "the first listing is no change");
        let first = print(&pack).unwrap();
        assert_eq!(pack.policies.take(watcher::Event::Apply(policy("a", 1))), None);
        assert_eq!(print(&pack).unwrap(), first, "status alone");
        assert_eq!(
            pack.policies.take(watcher::Event::Apply(policy("a", 2))),
            Some(News::Told)
        );
        let second = print(&pack).unwrap();
        assert_ne!(second, first);
        assert_eq!(
            pack.policies.take(watcher::Event::Delete(policy("a", 2))),
            Some(News::Told)
        );
        assert!(![first, second].contains(&print(&pack).unwrap()));
        pack.policies.take(watcher::Event::InitApply(policy("b", 1)));
        let listed = watcher::Event::<PartialObjectMeta<ValidatingAdmissionPolicy>>::InitDone;
        assert_eq!(pack.policies.take(listed), Some(News::Listed));
    }
}
