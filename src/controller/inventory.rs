//! ServiceAccounts and static tokens that others made, in enrolled namespaces where policies permit a grant of a static credential.
//! Only read: metadata alone, of Secrets too, and of that what is told.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::cache::Cache;
use super::lock;
use super::watches::{self, events};
use crate::api::conditions::types;
use crate::api::v1alpha1::{AccessGrant, Instant};
use crate::domain::conditions::find;
use crate::domain::static_credential::{
    ANNOTATION_ACCOUNT, ANNOTATION_ACCOUNT_UID, Account, Found, LABEL_INVALID_SINCE, LABEL_LAST_USED, Others, Seen,
    StaticToken,
};

/// Token Secrets alone are read: the field that selects them.
const TOKENS: &str = "type=kubernetes.io/service-account-token";
/// What is read of a namespace.
const KINDS: [&str; 2] = ["serviceaccounts", "tokens"];

/// See the module: what is followed, by namespace.
#[derive(Default)]
pub(crate) struct Inventory(Mutex<HashMap<String, Followed>>);

struct Followed {
    accounts: Store<PartialObjectMeta<ServiceAccount>>,
    tokens: Store<PartialObjectMeta<Secret>>,
    /// End with this value.
    _watches: JoinSet<()>,
}

impl Inventory {
    /// The namespaces that are followed.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        lock(&self.0).keys().cloned().collect()
    }
}

/// Whether a grant gives reason to look: its credential is a static one, and policies permit it, or did when something was found.
fn is_looked_for(grant: &AccessGrant) -> bool {
    let Some(status) = grant.status.as_ref().filter(|_| grant.static_credential().is_some()) else {
        return false;
    };
    !status.policies.is_empty() || find(&status.conditions, types::STATIC_CREDENTIAL).is_some()
}

impl Cache {
    /// What is there of a grant's static credential, which is followed from now on; none where that is yet to be read, or not
    /// looked for.
    pub(crate) fn static_credential(self: &Arc<Self>, client: &Client, grant: &AccessGrant) -> Option<Seen> {
        let namespace = grant.namespace().unwrap_or_default();
        if !is_looked_for(grant) || self.enrolments.of(&namespace).is_empty() {
            return None;
        }
        let declared = grant.static_credential()?;
        let (account, tokens) = self.follow_static(client, &namespace, &declared.service_account_name.0);
        let trouble = KINDS.iter().find_map(|what| self.trouble_of(&source(what, &namespace)));
        if let Some(words) = trouble {
            let hint = "static credentials need the value ceiling.staticCredentials of the chart";
            return Some(Seen::unread(&format!("in namespace {namespace} {words}; {hint}")));
        }
        if !KINDS.iter().all(|what| self.index.is_known(&source(what, &namespace))) {
            return None;
        }
        let grants = self.grants.state();
        let grants = grants.iter().filter_map(|it| it.0.as_ref().ok());
        let found = Found {
            account,
            tokens,
            others: Others::of(grant, grants),
        };
        Seen::of(grant, &found)
    }

    /// The ServiceAccount and its tokens, as far as they are known.
    fn follow_static(
        self: &Arc<Self>,
        client: &Client,
        namespace: &str,
        name: &str,
    ) -> (Option<Account>, Vec<StaticToken>) {
        let mut all = lock(&self.inventory.0);
        let followed = all.entry(namespace.to_owned()).or_insert_with(|| {
            let mut watches = JoinSet::new();
            let accounts = Api::namespaced(client.clone(), namespace);
            let plain = watches::config();
            let accounts = self.keep_static(&mut watches, KINDS[0], namespace, accounts, plain);
            let tokens = Api::namespaced(client.clone(), namespace);
            let of_type = watches::config().fields(TOKENS);
            let tokens = self.keep_static(&mut watches, KINDS[1], namespace, tokens, of_type);
            Followed {
                accounts,
                tokens,
                _watches: watches,
            }
        });
        let account = followed.accounts.get(&ObjectRef::new(name).within(namespace));
        let account = account.map(|account| Account {
            uid: account.uid().unwrap_or_default(),
            made: made(account.as_ref()),
        });
        let uid = account.as_ref().map(|account| account.uid.clone());
        // The token of an account that is gone stays for a moment, and is of no use to another of its name.
        let is_its_own = |secret: &PartialObjectMeta<Secret>| {
            let said = |key: &str| secret.annotations().get(key);
            said(ANNOTATION_ACCOUNT).is_some_and(|it| it == name)
                && (uid.is_none() || said(ANNOTATION_ACCOUNT_UID) == uid.as_ref())
        };
        let tokens = followed.tokens.state();
        let tokens = tokens.iter().filter(|secret| is_its_own(secret));
        let tokens = tokens.map(|secret| StaticToken {
            name: secret.name_any(),
            made: made(secret.as_ref()),
            last_used: secret.labels().get(LABEL_LAST_USED).cloned(),
            is_invalid: secret.labels().contains_key(LABEL_INVALID_SINCE),
        });
        (account, tokens.collect())
    }

    /// Keeps the objects of one kind in a namespace from now on.
    fn keep_static<K>(
        self: &Arc<Self>,
        watches: &mut JoinSet<()>,
        what: &'static str,
        namespace: &str,
        api: Api<K>,
        config: watcher::Config,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let writer = Writer::default();
        let store = writer.as_reader();
        watches.spawn(keep(what, namespace.to_owned(), api, config, Arc::clone(self), writer));
        store
    }

    /// Follows no namespace any more that gives no reason to.
    pub(crate) fn unfollow_static(&self) {
        let grants = self.grants.state();
        let grants = grants.iter().filter_map(|it| it.0.as_ref().ok());
        let needed: BTreeSet<String> = grants
            .filter(|grant| is_looked_for(grant))
            .filter_map(ResourceExt::namespace)
            .filter(|namespace| !self.enrolments.of(namespace).is_empty())
            .collect();
        let mut all = lock(&self.inventory.0);
        let surplus: Vec<String> = all.keys().filter(|it| !needed.contains(*it)).cloned().collect();
        for namespace in surplus {
            all.remove(&namespace);
            for what in KINDS {
                self.forget_source(&source(what, &namespace));
            }
        }
    }
}

/// Keeps a store of one namespace; each change is told to the grants there.
async fn keep<K>(
    what: &'static str,
    namespace: String,
    api: Api<K>,
    config: watcher::Config,
    cache: Arc<Cache>,
    mut writer: Writer<K>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let source = source(what, &namespace);
    // What tenants write there is none of ours, and can be long.
    let prune = |object: &mut K| {
        object.managed_fields_mut().clear();
        let annotations = [ANNOTATION_ACCOUNT, ANNOTATION_ACCOUNT_UID];
        object
            .annotations_mut()
            .retain(|key, _| annotations.contains(&key.as_str()));
        let labels = [LABEL_LAST_USED, LABEL_INVALID_SINCE];
        object.labels_mut().retain(|key, _| labels.contains(&key.as_str()));
    };
    let mut events = Box::pin(events(&source, &cache, api, config, prune));
    while let Some(event) = events.next().await {
        writer.apply_watcher_event(&event);
        match event {
            watcher::Event::InitDone => cache.synced(&source, 0),
            watcher::Event::Apply(_) | watcher::Event::Delete(_) => {}
            watcher::Event::Init | watcher::Event::InitApply(_) => continue,
        }
        cache.enqueue_static_in(&namespace);
    }
}

/// The source by which the cache knows that a namespace was listed, or can't be.
fn source(what: &str, namespace: &str) -> String {
    format!("static {what}/{namespace}")
}

fn made(object: &impl ResourceExt) -> Option<Instant> {
    object.creation_timestamp().map(|at| Instant::new(at.0))
}
