//! Compact pictures of the objects, and the real objects that the operator's own functions are asked about.
//!
//! What was asked once is not worked out again: the functions are pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use wayleave::api::conditions::{Reason, types};
use wayleave::api::names::{ANNOTATION_LAST_NO, FINALIZER};
use wayleave::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessGrantStatus, AccessOwner, AccessPolicy, ChildKind, ChildRef, Instant,
    PartnerIntegration,
};
use wayleave::domain::admission::Proofs;
use wayleave::domain::approval::Confirmation;
use wayleave::domain::closing::{Known, deadline, must_close};
use wayleave::domain::conditions;
use wayleave::domain::digest::digest;
use wayleave::domain::names;
use wayleave::domain::ownership::Owners;
use wayleave::domain::verdict::{Access, Facts, Namespace, Verdict, decide};
use wayleave::plan::children::{Site, evidence};
use wayleave::plan::{Minted, Observed, Step, issued, plan, rotated};

use crate::fixtures;

pub(crate) const IDENTITIES: &str = "wayleave-identities";
const OWN: &str = "payments";
/// What every second counts from.
const START: &str = "2026-12-02T00:00:00Z";

/// Seconds since the beginning.
pub(crate) type Second = u32;

/// What the grant says about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Terms {
    /// When it expires.
    pub(crate) expires: Second,
    /// Its credentials end by themselves.
    pub(crate) hard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Word {
    Approve,
    Deny,
    Revoke,
}

/// An AccessDecision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DecisionSeen {
    pub(crate) at: Second,
    pub(crate) word: Word,
    /// Of which incarnation of the grant.
    pub(crate) grant: u8,
    /// Of which of its specs.
    pub(crate) variant: u8,
}

/// The one AccessOwner that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OwnerSeen {
    /// Which person's object.
    pub(crate) uid: u8,
    pub(crate) created: Second,
}

/// The AccessGrant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GrantSeen {
    pub(crate) version: u8,
    pub(crate) uid: u8,
    pub(crate) created: Second,
    pub(crate) variant: u8,
    pub(crate) suspend: bool,
    pub(crate) deleting: bool,
    pub(crate) finalizer: bool,
    pub(crate) rotate: u8,
    pub(crate) status: Status,
}

/// Which object: its place and its UID in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChildId {
    pub(crate) kind: ChildKind,
    /// The incarnation of the grant.
    pub(crate) grant: u8,
    pub(crate) activation: u8,
    /// Of an anchor.
    pub(crate) generation: u8,
    /// How many had the name before.
    pub(crate) again: u8,
    pub(crate) foreign: bool,
}

impl ChildId {
    /// Kind and name: a delivery Secret's is that of the grant, all others belong to one activation.
    pub(crate) fn place(&self) -> (ChildKind, u8, u8, u8) {
        match self.kind {
            ChildKind::DeliverySecret => (self.kind, 0, 0, 0),
            kind => (kind, self.grant, self.activation, self.generation),
        }
    }

    fn uid(&self) -> String {
        let Self {
            kind,
            grant,
            activation,
            generation,
            again,
            foreign,
        } = self;
        format!(
            "{}.{grant}.{activation}.{generation}.{again}.{}",
            *kind as u8,
            u8::from(*foreign)
        )
    }

    fn parse(uid: &str) -> Self {
        let parts: Vec<u8> = uid.split('.').map(|part| part.parse().unwrap()).collect();
        let kinds = [
            ChildKind::RoleBinding,
            ChildKind::Anchor,
            ChildKind::ServiceAccount,
            ChildKind::Role,
            ChildKind::DeliverySecret,
        ];
        Self {
            kind: kinds[usize::from(parts[0])],
            grant: parts[1],
            activation: parts[2],
            generation: parts[3],
            again: parts[4],
            foreign: parts[5] == 1,
        }
    }

    pub(crate) fn of(recorded: &ChildRef) -> Self {
        Self::parse(&recorded.uid)
    }

    fn namespace(&self) -> &'static str {
        match self.kind {
            ChildKind::Anchor | ChildKind::ServiceAccount => IDENTITIES,
            ChildKind::RoleBinding | ChildKind::Role | ChildKind::DeliverySecret => OWN,
        }
    }

    fn name(&self) -> String {
        let (uid, activation) = (grant_uid(self.grant), i64::from(self.activation));
        match self.kind {
            ChildKind::ServiceAccount => names::identity(&uid, activation),
            ChildKind::Anchor => names::anchor(&uid, activation, i64::from(self.generation)),
            ChildKind::Role | ChildKind::RoleBinding => names::access(&uid, activation, 0),
            ChildKind::DeliverySecret => fixtures::grant().secret_name(),
        }
    }

    pub(crate) fn reference(&self) -> ChildRef {
        ChildRef {
            kind: self.kind,
            namespace: self.namespace().to_owned(),
            name: self.name(),
            uid: self.uid(),
        }
    }
}

/// An object made for the grant, or in the place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Child {
    pub(crate) id: ChildId,
    /// Of a Role: which spec's rules it holds.
    pub(crate) variant: u8,
    /// Of a binding: the latest no that its maker knew, as it says itself.
    pub(crate) last_no: Option<Second>,
    /// And as it was.
    pub(crate) knew: Option<Second>,
    /// Of a delivery Secret: whose token it holds, by its index.
    pub(crate) holds: Option<u8>,
}

/// A status, kept once and told by what it holds.
#[derive(Clone)]
pub(crate) struct Status(Arc<(u64, Option<AccessGrantStatus>)>);

static STATUSES: LazyLock<Mutex<HashMap<String, Status>>> = LazyLock::new(Mutex::default);

impl Status {
    /// Words and times of conditions decide nothing: they are left out.
    pub(crate) fn of(status: Option<AccessGrantStatus>) -> Self {
        let status = status.map(|mut status| {
            for condition in &mut status.conditions {
                condition.message.clear();
                condition.last_transition_time = Time(instant(0).timestamp());
            }
            status.summary = None;
            status
        });
        let text = serde_json::to_string(&status).unwrap();
        let mut statuses = STATUSES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = statuses.get(&text) {
            return known.clone();
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let kept = Self(Arc::new((hasher.finish(), status)));
        statuses.insert(text, kept.clone());
        kept
    }

    pub(crate) fn get(&self) -> Option<&AccessGrantStatus> {
        self.0.1.as_ref()
    }

    /// The activation that stands, if one does.
    pub(crate) fn live(&self) -> Option<u8> {
        let identity = self.get()?.identity.as_ref()?;
        identity
            .activated_at
            .map(|_| u8::try_from(identity.activation).unwrap())
    }

    /// The last attempt was refused for good.
    pub(crate) fn was_refused(&self) -> bool {
        let active = self
            .get()
            .and_then(|status| conditions::find(&status.conditions, types::ACTIVE));
        active.is_some_and(|active| active.reason == Reason::NameConflict.as_str())
    }

    /// What is said after an attempt that a foreign object stood in the way of.
    pub(crate) fn refused(&self) -> Self {
        let mut status = self.get().cloned().unwrap_or_default();
        status.identity = None;
        status.credential = None;
        status.children = Vec::new();
        let desired = conditions::of_grant(Reason::NameConflict, "");
        status.conditions = conditions::merge(&status.conditions, desired, status.observed_generation, instant(0));
        Self::of(Some(status))
    }

    /// What is said where something was left behind.
    pub(crate) fn with_children_of(&self, other: &Self) -> Self {
        let mut status = self.get().cloned().unwrap_or_default();
        status.children = other.get().map(|it| it.children.clone()).unwrap_or_default();
        Self::of(Some(status))
    }

    /// What evidence on a binding says of the latest no.
    fn last_no(&self, grant: &GrantSeen, terms: Terms) -> Option<Second> {
        let status = self.get().cloned().unwrap_or_default();
        let notes = evidence(&grant.object(terms), &INTEGRATION, &status);
        notes.get(ANNOTATION_LAST_NO).map(|text| second(text.parse().unwrap()))
    }
}

impl PartialEq for Status {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Status {}

impl Hash for Status {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.0.hash(state);
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(status) = self.get() else {
            return f.write_str("none");
        };
        let active = conditions::find(&status.conditions, types::ACTIVE);
        let reason = active.map_or("", |active| active.reason.as_str());
        let identity = status
            .identity
            .as_ref()
            .map(|it| (it.activation, it.activated_at.is_some()));
        let credential = status
            .credential
            .as_ref()
            .map(|it| (it.generation, it.delivered_generation));
        write!(
            f,
            "{reason} identity {identity:?} of {} credential {credential:?} approvals {} children {}",
            status.activations,
            status.approvals.len(),
            status.children.len()
        )
    }
}

pub(crate) fn instant(second: Second) -> Instant {
    fixtures::at(START).plus(i64::from(second))
}

pub(crate) fn second(instant: Instant) -> Second {
    // What lies before the beginning is all one.
    u32::try_from(instant.seconds_since(fixtures::at(START))).unwrap_or(0)
}

fn grant_uid(uid: u8) -> String {
    format!("5d0c6a7e-0000-4000-8000-00000000000{uid}")
}

static INTEGRATION: LazyLock<PartnerIntegration> = LazyLock::new(fixtures::integration);
static GRANT: LazyLock<AccessGrant> = LazyLock::new(fixtures::grant);
static ALICE: LazyLock<AccessOwner> = LazyLock::new(|| fixtures::owner("alice"));
static BOB: LazyLock<AccessOwner> = LazyLock::new(|| fixtures::owner("bob"));
static PROOFS: LazyLock<Proofs> = LazyLock::new(|| Proofs::since(fixtures::at("2020-01-01T00:00:00Z")));

fn policy(hard: bool) -> AccessPolicy {
    let mut policy = fixtures::policy();
    if !hard {
        policy.spec.limits.hard_expiry = wayleave::api::v1alpha1::HardExpiry::Preferred;
    }
    policy
}

static HARD: LazyLock<AccessPolicy> = LazyLock::new(|| policy(true));
static SOFT: LazyLock<AccessPolicy> = LazyLock::new(|| policy(false));

impl GrantSeen {
    fn object(&self, terms: Terms) -> AccessGrant {
        let mut grant = GRANT.clone();
        let created = Time(instant(self.created).timestamp());
        grant.metadata.uid = Some(grant_uid(self.uid));
        grant.metadata.deletion_timestamp = self.deleting.then(|| created.clone());
        grant.metadata.creation_timestamp = Some(created);
        grant.metadata.generation = Some(i64::from(self.variant) + 1);
        grant.metadata.finalizers = self.finalizer.then(|| vec![FINALIZER.to_owned()]);
        grant.spec.suspend = self.suspend;
        grant.spec.expires_at = instant(terms.expires);
        if let Some(token) = &mut grant.spec.credential.token {
            token.lifetime = serde_json::from_value("15m".into()).unwrap();
        }
        if self.variant > 0 {
            let rules = grant.spec.access[0].rules.iter_mut().flatten();
            rules.for_each(|rule| rule.verbs.push("list".into()));
        }
        grant.status = self.status.get().cloned();
        grant
    }
}

/// The digest of one of the grant's specs.
fn digest_of(variant: u8, terms: Terms) -> String {
    static DIGESTS: LazyLock<Memo<(u8, Terms), String>> = LazyLock::new(Memo::default);
    let digest = DIGESTS.get((variant, terms), |_| {
        let grant = GrantSeen {
            version: 0,
            uid: 1,
            created: 0,
            variant,
            suspend: false,
            deleting: false,
            finalizer: false,
            rotate: 0,
            status: Status::of(None),
        };
        let targets = [(OWN.to_owned(), "uid-of-payments".to_owned())].into();
        digest(&INTEGRATION, &grant.object(terms), &targets).digest
    });
    (*digest).clone()
}

impl DecisionSeen {
    fn object(&self, terms: Terms) -> AccessDecision {
        let word = format!("{:?}", self.word);
        let name = format!("{}-{}", word.to_lowercase(), self.at);
        let made = instant(self.at).to_string();
        let digest = digest_of(self.variant, terms);
        let mut decision = fixtures::decision(&name, &word, "dave@corp.example", &digest, &made);
        decision.spec.subject.uid = Some(wayleave::api::v1alpha1::Uid(grant_uid(self.grant)));
        decision
    }
}

impl OwnerSeen {
    fn object(&self) -> AccessOwner {
        let mut owner = BOB.clone();
        owner.metadata.uid = Some(owner_uid(self.uid));
        owner.metadata.creation_timestamp = Some(Time(instant(self.created).timestamp()));
        owner
    }
}

fn owner_uid(uid: u8) -> String {
    format!("uid-of-bob-{uid}")
}

/// What the operator knows when it looks at the grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) terms: Terms,
    pub(crate) now: Second,
    pub(crate) grant: GrantSeen,
    pub(crate) decisions: Vec<DecisionSeen>,
    pub(crate) owner: Option<OwnerSeen>,
    /// What is ours in the cache.
    pub(crate) children: Vec<Child>,
}

/// A step of the plan, as far as the shell needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Rest,
    Finish,
    Close(Vec<ChildId>),
    Retire(Vec<ChildId>),
    Issue {
        activation: u8,
        seconds: Second,
        until: Second,
        finalizer: bool,
    },
    Rotate {
        generation: u8,
        seconds: Second,
        until: Second,
        answers: Option<String>,
    },
}

/// What the operator makes of a view.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) active: bool,
    pub(crate) next: Next,
    /// The status that goes with the step: of an issue or a rotation, the claim.
    pub(crate) status: Status,
    pub(crate) last_no: Option<Second>,
    verdict: Verdict,
}

/// What was worked out before.
struct Memo<K, V>(Mutex<HashMap<K, Arc<V>>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, V> Memo<K, V> {
    fn get(&self, key: K, work_out: impl FnOnce(&K) -> V) -> Arc<V> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let found = Arc::new(work_out(&key));
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(key).or_insert(found))
        })
    }
}

/// Asks the operator's own `decide` and `plan`.
pub(crate) fn judge(view: &View) -> Arc<Judged> {
    static JUDGED: LazyLock<Memo<View, Judged>> = LazyLock::new(Memo::default);
    JUDGED.get(view.clone(), judge_anew)
}

fn judge_anew(view: &View) -> Judged {
    let grant = view.grant.object(view.terms);
    let bob = view.owner.map(|owner| owner.object());
    let mut owners: Owners<'_> = [("alice", &*ALICE)].into();
    owners.extend(bob.as_ref().map(|bob| ("bob", bob)));
    let decisions: Vec<AccessDecision> = view.decisions.iter().map(|it| it.object(view.terms)).collect();
    let decisions: Vec<&AccessDecision> = decisions.iter().collect();
    let confirmations = decisions
        .iter()
        .map(|it| (it.metadata.uid.clone().unwrap(), Confirmation::Allowed))
        .collect();
    let payments = Namespace {
        uid: "uid-of-payments".to_owned(),
        labels: [("partners.example/allowed".to_owned(), "true".to_owned())].into(),
        enrolled: true,
        terminating: false,
    };
    let policy: &AccessPolicy = if view.terms.hard { &HARD } else { &SOFT };
    let facts = Facts {
        now: instant(view.now),
        grant: &grant,
        integration: Some(&INTEGRATION),
        owners: &owners,
        decisions: &decisions,
        confirmations: &confirmations,
        policies: &[policy],
        namespaces: &[(OWN.to_owned(), payments)].into(),
        absent_key: None,
        cluster_roles: &BTreeMap::new(),
        reserved_namespaces: &BTreeSet::new(),
        delivery_secrets: &BTreeMap::new(),
        earlier_siblings: 0,
        admission_proved: true,
        unreadable_policy: None,
        unread: None,
        proofs: Some(&PROOFS),
        other_rights: None,
        static_credential: None,
        uninstalling: None,
        clock_skew: None,
    };
    let verdict = decide(&facts);
    let observed = observed(view, &grant);
    let plan = plan(&facts, &verdict, &observed, IDENTITIES);
    let small = |number: i64| u8::try_from(number).unwrap();
    let seconds = |number: i64| Second::try_from(number).unwrap();
    let ids = |children: Vec<wayleave::plan::Child>| children.iter().map(|it| ChildId::parse(&it.uid)).collect();
    let next = match plan.step {
        Step::Rest => Next::Rest,
        Step::Finish => Next::Finish,
        Step::Close(children) => Next::Close(ids(children)),
        Step::Retire(children) => Next::Retire(ids(children)),
        Step::Issue(issue) => Next::Issue {
            activation: small(issue.activation),
            seconds: seconds(issue.token.map_or(0, |token| token.seconds)),
            until: second(issue.until),
            finalizer: issue.add_finalizer,
        },
        Step::Rotate(rotate) => Next::Rotate {
            generation: small(rotate.generation),
            seconds: seconds(rotate.token.seconds),
            until: second(rotate.until),
            answers: rotate.answers,
        },
    };
    let status = Status::of(Some(plan.status));
    Judged {
        active: verdict.access != Access::Inactive,
        next,
        last_no: status.last_no(&view.grant, view.terms),
        status,
        verdict,
    }
}

fn observed(view: &View, grant: &AccessGrant) -> Observed {
    let site = |activation| Site {
        grant,
        activation,
        identities: IDENTITIES,
    };
    let content = |child: &Child| {
        // What a Role holds is known by the spec that it was made for.
        let made_for = GrantSeen {
            variant: child.variant,
            ..view.grant.clone()
        };
        let made_for = made_for.object(view.terms);
        let site = Site {
            grant: &made_for,
            ..site(i64::from(child.id.activation))
        };
        let expected = site.expected(&[i64::from(child.id.generation)]).into_iter();
        let mut same = expected
            .filter(|want| want.kind == child.id.kind)
            .map(|want| want.content);
        same.next_back().unwrap_or_default()
    };
    let child = |child: &Child| wayleave::plan::Child {
        kind: child.id.kind,
        namespace: child.id.namespace().to_owned(),
        name: child.id.name(),
        uid: child.id.uid(),
        content: content(child),
        foreign_writer: None,
    };
    let recorded = grant.status.iter().flat_map(|status| &status.children);
    let unseen = recorded
        .filter(|it| it.kind == ChildKind::DeliverySecret && !view.children.iter().any(|seen| seen.id.uid() == it.uid));
    Observed {
        children: view.children.iter().map(child).collect(),
        unseen: unseen.cloned().map(wayleave::plan::Child::from).collect(),
        beyond_reach: Vec::new(),
        delivery_known: true,
        finalizer: view.grant.finalizer,
        rotate_requested: (view.grant.rotate > 0).then(|| view.grant.rotate.to_string()),
    }
}

/// The status after everything was made, or another token was delivered.
pub(crate) fn outcome(
    view: &View,
    claim: &Status,
    made: &[ChildId],
    minted: (Second, Second),
    now: Second,
    activation: bool,
) -> Status {
    type Key = (View, Status, Vec<ChildId>, (Second, Second), Second, bool);
    static OUTCOMES: LazyLock<Memo<Key, Status>> = LazyLock::new(Memo::default);
    let key = (view.clone(), claim.clone(), made.to_vec(), minted, now, activation);
    let found = OUTCOMES.get(key, |_| {
        let judged = judge(view);
        let claimed = claim.get().cloned().unwrap_or_default();
        let minted = Minted {
            issued_at: instant(minted.0),
            expires_at: instant(minted.1),
            credential_id: None,
        };
        let mut children: Vec<ChildRef> = made.iter().map(ChildId::reference).collect();
        Status::of(Some(match &judged.next {
            Next::Rotate { until, answers, .. } if !activation => rotated(
                &claimed,
                &judged.verdict,
                instant(*until),
                &minted,
                children.remove(0),
                answers.clone(),
                instant(now),
            ),
            Next::Issue { until, .. } => issued(
                &claimed,
                &judged.verdict,
                instant(*until),
                Some(&minted),
                children,
                instant(now),
            ),
            other => unreachable!("no outcome of {other:?}"),
        }))
    });
    (*found).clone()
}

/// What the closing lane of a replica knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Closing {
    pub(crate) terms: Terms,
    pub(crate) now: Second,
    pub(crate) grant: GrantSeen,
    pub(crate) decisions: Vec<DecisionSeen>,
    pub(crate) owner: Option<OwnerSeen>,
    /// Owners that were seen deleted.
    pub(crate) deleted_owners: Vec<u8>,
    /// What the binding says.
    pub(crate) last_no: Option<Second>,
}

/// Asks the closing lane's own `must_close`.
pub(crate) fn closes(closing: &Closing) -> bool {
    static CLOSED: LazyLock<Memo<Closing, bool>> = LazyLock::new(Memo::default);
    *CLOSED.get(closing.clone(), |closing| {
        let grant = closing.grant.object(closing.terms);
        let bob = closing.owner.map(|owner| owner.object());
        let mut owners: Owners<'_> = [("alice", &*ALICE)].into();
        owners.extend(bob.as_ref().map(|bob| ("bob", bob)));
        let decisions: Vec<AccessDecision> = closing.decisions.iter().map(|it| it.object(closing.terms)).collect();
        let decisions: Vec<&AccessDecision> = decisions.iter().collect();
        let deleted_owners: HashSet<String> = closing.deleted_owners.iter().map(|uid| owner_uid(*uid)).collect();
        let known = Known {
            grant: &grant,
            integration: Some(&INTEGRATION),
            decisions: &decisions,
            owners: &owners,
            deleted_owners: &deleted_owners,
            uninstalling: false,
        };
        let closes = must_close(&known, closing.last_no.map(instant), instant(closing.now)).is_some();
        // The lane looks again when its deadline says so: nothing that a date ends may be passed over.
        assert!(closes || deadline(&known) > instant(closing.now), "{closing:?}");
        closes
    })
}
