//! ServiceAccounts and static tokens that others made, in the namespaces where grants are of static credentials. Only read:
//! metadata alone, of Secrets too.

use std::collections::HashMap;
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

use super::cache::Cache;
use super::lock;
use super::watches::events;
use crate::api::v1alpha1::{AccessGrant, Instant};
use crate::domain::static_credential::{ANNOTATION_ACCOUNT, Account, Found, LABEL_LAST_USED, Seen, StaticToken};

/// Token Secrets alone are read: the field that selects them.
const TOKENS: &str = "type=kubernetes.io/service-account-token";

/// See the module: what is followed, by namespace.
#[derive(Default)]
pub(crate) struct Inventory(Mutex<HashMap<String, Followed>>);

#[derive(Clone)]
struct Followed {
    accounts: Store<PartialObjectMeta<ServiceAccount>>,
    tokens: Store<PartialObjectMeta<Secret>>,
}

impl Cache {
    /// What is there of a grant's static credential, which is followed from now on; none where that is yet to be read, or the
    /// grant has another kind of credential.
    pub(crate) fn static_credential(self: &Arc<Self>, client: &Client, grant: &AccessGrant) -> Option<Seen> {
        let spec = grant.static_credential()?;
        let namespace = grant.namespace().unwrap_or_default();
        let followed = self.follow_static(client, &namespace);
        let is_known = |what| self.index.is_known(&source(what, &namespace));
        if !is_known("serviceaccounts") || !is_known("tokens") {
            return None;
        }
        let account = ObjectRef::new(&spec.service_account_name.0).within(&namespace);
        let is_of_account = |secret: &PartialObjectMeta<Secret>| {
            secret.annotations().get(ANNOTATION_ACCOUNT) == Some(&spec.service_account_name.0)
        };
        let tokens = followed.tokens.state();
        let found = Found {
            account: followed.accounts.get(&account).map(|account| Account {
                uid: account.uid().unwrap_or_default(),
                made: made(account.as_ref()),
            }),
            tokens: tokens
                .iter()
                .filter(|secret| is_of_account(secret))
                .map(|secret| StaticToken {
                    name: secret.name_any(),
                    made: made(secret.as_ref()),
                    last_used: secret.labels().get(LABEL_LAST_USED).cloned(),
                })
                .collect(),
        };
        Seen::of(grant, &found)
    }

    fn follow_static(self: &Arc<Self>, client: &Client, namespace: &str) -> Followed {
        let mut all = lock(&self.inventory.0);
        if let Some(followed) = all.get(namespace) {
            return followed.clone();
        }
        let (accounts, tokens) = (Writer::default(), Writer::default());
        let followed = Followed {
            accounts: accounts.as_reader(),
            tokens: tokens.as_reader(),
        };
        all.insert(namespace.to_owned(), followed.clone());
        drop(all);
        let api = Api::<PartialObjectMeta<ServiceAccount>>::namespaced(client.clone(), namespace);
        let plain = watcher::Config::default();
        tokio::spawn(keep(
            "serviceaccounts",
            namespace.to_owned(),
            api,
            plain,
            Arc::clone(self),
            accounts,
        ));
        let api = Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace);
        let of_type = watcher::Config::default().fields(TOKENS);
        tokio::spawn(keep(
            "tokens",
            namespace.to_owned(),
            api,
            of_type,
            Arc::clone(self),
            tokens,
        ));
        followed
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
    let prune = |object: &mut K| object.managed_fields_mut().clear();
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

/// The source by which the index knows that a namespace was listed.
fn source(what: &str, namespace: &str) -> String {
    format!("static {what}/{namespace}")
}

fn made(object: &impl ResourceExt) -> Option<Instant> {
    object.creation_timestamp().map(|at| Instant::new(at.0))
}
