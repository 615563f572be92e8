//! Who is let in on whose word, over generated policies, rules and histories, against a slow count.
//!
//! A world is followed through up to three looks of the operator, between which objects come, change and go. ClusterRoles have
//! laws of their own.

mod count;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, OnceLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::{Access, Facts, Namespace, Verdict, decide};
use crate::api::names::LABEL_CLASSIFICATION;
use crate::api::v1alpha1::DataClassification::{self, Confidential, Internal, Restricted};
use crate::api::v1alpha1::Decision::{self, Approve, Deny, Review, Revoke};
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessGrantStatus, AccessOwner, AccessPolicy, ApprovalRequirement, DelegatedRequests,
    Delivery, Identity, Instant, PartnerIntegration, Period, Principal, ReviewedGrant, Rule, SubjectKind,
};
use crate::domain::admission::{Proof, Proofs, SETTLING};
use crate::domain::approval::Confirmation;
use crate::domain::digest::digest;
use crate::domain::fixtures::{GRANT_UID, at, decision, grant, integration, owner, policy};
use crate::domain::ownership::Owners;
use count::made_at;

/// Dates are so many seconds apart: more than the shortest token needs.
const SLOT: i64 = 6 * 3_600;
/// A user name; `adm-…` is another one of the same person.
type User = &'static str;
/// A delegate.
const ROBOT: User = "system:serviceaccount:ci:robot";
// Of each of these lists some are chosen by bits.
const GROUPS: [&str; 2] = ["security", "leads"];
const RESOURCES: [&str; 2] = ["configmaps", "pods"];
const VERBS: [&str; 4] = ["get", "list", "watch", "update"];
const NAMES: [&str; 2] = ["a", "b"];
/// Later than any look.
const NEVER: usize = 9;

/// A decision that somebody made.
#[derive(Clone, Debug)]
struct Made {
    name: usize,
    word: Decision,
    /// Of the integration, not of the grant alone.
    of_all: bool,
    who: User,
    groups: u8,
    written: i64,
    stated: Option<i64>,
    until: Option<i64>,
    /// The content that it is of: that of any look, or one that never stands there.
    content: usize,
    of_this_uid: bool,
    place: Place,
    names_ledger: bool,
    /// The API server's answer about the decider.
    may: Option<bool>,
    /// The looks from which on that answer is known, it is being deleted, and it is gone.
    answered: usize,
    deleting: usize,
    gone: usize,
}

/// What a decision is of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    This,
    AnotherName,
    AnotherNamespace,
}

#[derive(Clone, Copy, Debug)]
struct Words {
    resources: u8,
    verbs: u8,
    names: u8,
}

/// A policy.
#[derive(Clone, Debug)]
struct Limits {
    selects: bool,
    classes: &'static [DataClassification],
    rules: Vec<Words>,
    opens_ledger: bool,
    long_running: bool,
    delegated: bool,
    longest: i64,
    most: Option<i32>,
    self_service: bool,
    /// How many, and of which groups.
    lines: Vec<(i32, u8)>,
}

/// What the operator finds when it looks.
#[derive(Clone, Debug)]
struct Look {
    at: i64,
    content: usize,
    bob: Bob,
    knows_proofs: bool,
}

/// One of the two owners.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bob {
    Stays,
    Inactive,
    /// Another object of the name, made then.
    Anew(i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    First,
    Last,
}

#[derive(Clone, Debug)]
struct World {
    looks: Vec<Look>,
    policies: Vec<Limits>,
    made: Vec<Made>,
    wanted: Vec<Words>,
    reaches_ledger: bool,
    class: DataClassification,
    /// The labels of both namespaces.
    labels: [Option<DataClassification>; 2],
    expires: i64,
    /// The grant, and its integration.
    created: [i64; 2],
    asked: [User; 2],
    contributed: [Option<User>; 2],
    /// Who stands among those at the first look alone, or at the last.
    contributed_once: Option<(User, When)>,
    interval: i64,
    grace: i64,
    /// Two AccessOwners list one user name.
    is_linked: bool,
    /// Since when the admission policies held, and from when to when they did not.
    proved: i64,
    unproved: Option<(i64, i64)>,
    /// At the last look no answer of the API server about deciders is known.
    forgets: bool,
    earlier_siblings: usize,
    /// Turns lists about that have no order.
    turned: usize,
    /// Of each content.
    digests: OnceLock<[String; 3]>,
}

/// Reads parts of a world from bytes; zeros are the most ordinary ones.
struct Dice<'a>(std::slice::Iter<'a, u8>);

impl Dice<'_> {
    fn roll(&mut self, sides: u8) -> i64 {
        self.0.next().map_or(0, |byte| (byte % sides).into())
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        from[self.0.next().map_or(0, |byte| usize::from(*byte)) % N]
    }

    /// One of the others only once in eight times.
    fn mostly<T: Copy, const N: usize>(&mut self, usual: T, others: [T; N]) -> T {
        let byte = self.0.next().map_or(0, |byte| usize::from(*byte));
        if byte % 8 == 7 { others[byte / 8 % N] } else { usual }
    }

    /// What is left of the bytes, in half of all cases: so that half of all parts are quite ordinary.
    fn oddities(mut self) -> Self {
        if self.roll(2) == 0 { Self([].iter()) } else { self }
    }

    fn words(&mut self, resources: u8, verbs: u8) -> Words {
        Words {
            resources: self.mostly(resources, [0b11, 0b10, 0b01]),
            verbs: self.mostly(verbs, [0b0001, 0b0111, 0b1011, 0b0010, 0b1111]),
            names: self.mostly(0, [0b01, 0b11]),
        }
    }

    fn made(mut self, name: usize) -> Made {
        let usual = self.pick([Approve, Approve, Review, Approve]);
        let word = self.mostly(usual, [Deny, Revoke]);
        let of_all = self.pick([false, true]);
        let (written, far) = (self.roll(14), self.roll(6));
        let stated = self.pick([None, None, None, Some(written - far), Some(written + far)]);
        let one = self.pick(["dave", "erin", "frank", "grace"]);
        let other = self.pick([
            "adm-dave",
            "adm-erin",
            "adm-grace",
            "grace-again",
            "alice",
            "carol",
            "adm-carol",
            ROBOT,
        ]);
        let (who, groups) = (self.pick([one, other]), self.pick([0b11, 0b01, 0b10, 0b11, 0]));
        let mut odd = self.oddities();
        Made {
            name,
            word,
            of_all: word == Review || word != Approve && of_all,
            who,
            groups,
            written,
            stated,
            until: odd.mostly(None, [Some(written + 8), Some(written + far)]),
            content: odd.mostly(0, [1, 1, 2]),
            of_this_uid: odd.mostly(true, [false]),
            place: odd.mostly(Place::This, [Place::AnotherName, Place::AnotherNamespace]),
            names_ledger: odd.pick([true, true, true, false]),
            may: odd.mostly(Some(true), [Some(false), None]),
            answered: odd.mostly(0, [1, 2]),
            deleting: odd.mostly(NEVER, [1, 2]),
            gone: odd.mostly(NEVER, [1, 2]),
        }
    }

    fn limits(mut self) -> Limits {
        let mut line = || (self.pick([1, 1, 2, 1, 1, 2, 3]), self.pick([0, 0b11, 0b01, 0b10]));
        let lines = [line(), line(), line()];
        let lines = lines[..self.pick([1, 1, 1, 2, 3])].to_vec();
        let self_service = self.pick([false, false, true]);
        let mut odd = self.oddities();
        let rules = [odd.words(0b11, 0b1111), odd.words(0b11, 0b0011)];
        let all: &[DataClassification] = &[Internal, Confidential, Restricted];
        let classes = [all, all, &all[..2], &all[..1], &all[1..]];
        Limits {
            selects: odd.mostly(true, [false]),
            classes: odd.pick(classes),
            rules: rules[..odd.pick([1, 2])].to_vec(),
            opens_ledger: odd.mostly(true, [false]),
            long_running: odd.pick([true, true, true, false]),
            delegated: odd.pick([true, false]),
            longest: odd.mostly(360, [24]),
            most: odd.pick([None, Some(2), None, Some(1)]),
            self_service,
            lines,
        }
    }

    fn looks(mut self) -> Vec<Look> {
        let mut looks: Vec<Look> = Vec::new();
        for _ in 0..self.pick([1, 2, 1, 2, 3]) {
            let before = looks.last().map(|before| (before.at, before.bob));
            let gap = 1 + self.roll(6);
            let at = before.map_or(8, |(at, _)| at) + gap;
            let anew = Bob::Anew(at - self.roll(4).min(gap - 1));
            let bob = match before {
                Some((_, Bob::Anew(made))) => Bob::Anew(made),
                Some((_, Bob::Inactive)) => self.pick([anew, Bob::Inactive]),
                _ => self.mostly(Bob::Stays, [Bob::Inactive, Bob::Inactive, anew]),
            };
            let (content, knows_proofs) = (self.mostly(0, [1]), self.mostly(true, [false]));
            looks.push(Look {
                at,
                content,
                bob,
                knows_proofs,
            });
        }
        looks
    }

    fn world(mut self, looks: Vec<Look>, mut policies: Vec<Limits>, made: Vec<Made>) -> World {
        policies.truncate(self.pick([1, 2, 1, 2, 3]));
        let asked = [
            self.pick(["carol", "carol", "carol", "grace", "dave"]),
            self.pick(["carol", "adm-carol", "alice"]),
        ];
        let (is_linked, reaches_ledger) = (self.pick([false, true]), self.pick([false, false, true]));
        let (interval, grace) = (self.pick([16, 6, 24, 10]), self.pick([0, 2, 1]));
        let from = 1 + self.roll(14);
        let unproved = self.pick([None, None, None, Some((from, from + 1)), Some((from, from + 3))]);
        let mut odd = self.oddities();
        let wanted = [odd.words(0b01, 0b0011), odd.words(0b01, 0b0001)];
        let proved = odd.mostly(-400, [0, 2, 6]);
        World {
            looks,
            policies,
            made,
            wanted: wanted[..odd.pick([1, 2])].to_vec(),
            reaches_ledger,
            class: odd.mostly(Internal, [Confidential]),
            labels: [0, 1].map(|_| odd.pick([Some(Internal), Some(Internal), Some(Restricted), None])),
            expires: odd.mostly(40, [20, 10]),
            created: [0, 1].map(|_| odd.mostly(-4, [0, 1])),
            asked,
            contributed: [0, 1].map(|_| odd.mostly(None, ["grace-again", "adm-erin", ROBOT].map(Some))),
            contributed_once: odd.mostly(None, [("erin", When::First), ("adm-dave", When::Last)].map(Some)),
            interval,
            grace,
            is_linked,
            proved,
            unproved: unproved.filter(|gap| gap.0 > proved),
            forgets: odd.mostly(false, [true]),
            earlier_siblings: odd.pick([0, 0, 0, 1]),
            turned: 0,
            digests: OnceLock::new(),
        }
    }
}

/// Any world, of up to three looks, three policies and ten decisions.
fn worlds() -> impl Strategy<Value = World> {
    let part = || prop::collection::vec(any::<u8>(), 32);
    let parts = |least, most| prop::collection::vec(part(), least..=most);
    (part(), part(), parts(1, 3), parts(1, 10)).prop_map(|(rest, looks, policies, made)| {
        let looks = Dice(looks.iter()).looks();
        let policies = policies.iter().map(|bytes| Dice(bytes.iter()).limits()).collect();
        let made = made
            .iter()
            .enumerate()
            .map(|(name, bytes)| Dice(bytes.iter()).made(name));
        Dice(rest.iter()).world(looks, policies, made.collect())
    })
}

/// A decision of this name.
fn decisions(name: usize) -> impl Strategy<Value = Made> {
    prop::collection::vec(any::<u8>(), 32).prop_map(move |bytes| Dice(bytes.iter()).made(name))
}

fn chosen<'a>(from: &'a [&'a str], bits: u8) -> impl Iterator<Item = &'a str> {
    from.iter()
        .enumerate()
        .filter(move |(bit, _)| bits & (1 << bit) != 0)
        .map(|(_, word)| *word)
}

fn slot(number: i64) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(|| at("2026-12-01T00:00:00Z"));
    START.plus(number * SLOT)
}

fn stamp(number: i64) -> Option<Time> {
    Some(Time(slot(number).timestamp()))
}

fn principals(users: impl IntoIterator<Item = User>) -> Vec<Principal> {
    users.into_iter().map(Into::into).collect()
}

// The objects.

impl Made {
    fn object(&self, look: usize, digests: &[String; 3]) -> AccessDecision {
        static ONE: LazyLock<AccessDecision> =
            LazyLock::new(|| decision("one", "Approve", "dave", "sha256:0", "2026-12-01T00:00:00Z"));
        let mut object = ONE.clone();
        let (meta, spec) = (&mut object.metadata, &mut object.spec);
        let uid = if self.of_this_uid { GRANT_UID } else { "another" };
        meta.name = Some(format!("d{}", self.name));
        meta.uid = Some(format!("uid-of-d{}", self.name));
        meta.creation_timestamp = stamp(self.written);
        meta.deletion_timestamp = if look >= self.deleting { stamp(30) } else { None };
        spec.decision = self.word;
        spec.decided_by = Some(self.who.into());
        spec.decided_by_groups = chosen(&GROUPS, self.groups).map(Into::into).collect();
        spec.decided_at = self.stated.map(slot);
        spec.valid_until = self.until.map(slot).filter(|_| matches!(self.word, Approve | Review));
        spec.digest = Some(digests[self.content].as_str().into());
        spec.subject.uid = Some(uid.into());
        if self.of_all {
            spec.subject.kind = SubjectKind::PartnerIntegration;
            spec.subject.name = "acme-billing".into();
            spec.subject.uid = None;
        }
        if self.word == Review {
            spec.grants = Some(vec![ReviewedGrant {
                name: "acme-billing-reader".into(),
                uid: uid.into(),
                digest: spec.digest.take().unwrap(),
            }]);
        }
        if self.names_ledger {
            spec.target_namespaces.push("ledger".into());
        }
        match self.place {
            Place::This => {}
            Place::AnotherName => spec.subject.name = "another".into(),
            Place::AnotherNamespace => meta.namespace = Some("elsewhere".to_owned()),
        }
        object
    }
}

impl Words {
    fn rule(self) -> Rule {
        Rule {
            api_groups: vec!["".into()],
            resources: chosen(&RESOURCES, self.resources).map(Into::into).collect(),
            verbs: chosen(&VERBS, self.verbs).map(Into::into).collect(),
            resource_names: chosen(&NAMES, self.names).map(Into::into).collect(),
        }
    }
}

impl World {
    fn turn<T>(&self, mut list: Vec<T>) -> Vec<T> {
        if !list.is_empty() {
            let by = self.turned % list.len();
            list.rotate_left(by);
        }
        if self.turned % 2 == 1 {
            list.reverse();
        }
        list
    }

    fn policy(&self, index: usize) -> AccessPolicy {
        static ONE: LazyLock<AccessPolicy> = LazyLock::new(policy);
        let limits = &self.policies[index];
        let mut object = ONE.clone();
        object.metadata.name = Some(format!("p{index}"));
        let spec = &mut object.spec;
        if !limits.selects {
            spec.namespace_selector.match_labels = [("other".to_owned(), "yes".to_owned())].into();
        }
        spec.data_classifications = limits.classes.to_vec();
        spec.access.rules = limits.rules.iter().map(|words| words.rule()).collect();
        spec.access.target_namespaces = limits.opens_ledger.then(|| crate::api::v1alpha1::LabelMatch {
            match_labels: [("ledger".to_owned(), "yes".to_owned())].into(),
        });
        spec.access.long_running = limits.long_running;
        if limits.delegated {
            spec.requires.delegated_requests = DelegatedRequests::Allow;
        }
        spec.limits.duration = Some(Period::from_seconds(limits.longest * SLOT));
        spec.limits.active_grants_per_integration = limits.most;
        spec.self_service = limits.self_service;
        let lines = limits.lines.iter().map(|&(count, groups)| ApprovalRequirement {
            count,
            groups: self.turn(chosen(&GROUPS, groups).map(Into::into).collect()),
        });
        spec.requires.approvals = self.turn(lines.collect());
        object
    }

    /// The user names of each AccessOwner.
    fn usernames(&self) -> [(&'static str, Vec<User>); 7] {
        let again = if self.is_linked {
            vec!["adm-grace", "grace-again"]
        } else {
            vec!["grace-again"]
        };
        [
            ("alice", vec!["alice"]),
            ("bob", Vec::new()),
            ("carol", vec!["carol", "adm-carol"]),
            ("dave", vec!["dave", "adm-dave"]),
            ("erin", vec!["erin", "adm-erin"]),
            ("grace", vec!["grace", "adm-grace"]),
            ("grace-again", again),
        ]
    }

    fn owners(&self, look: &Look) -> Vec<AccessOwner> {
        static ONE: LazyLock<AccessOwner> = LazyLock::new(|| owner("one"));
        let all = self.usernames().into_iter().map(|(name, users)| {
            let mut object = ONE.clone();
            object.metadata.name = Some(name.to_owned());
            object.metadata.uid = Some(format!("uid-of-{name}"));
            object.spec.usernames = self.turn(principals(users));
            match look.bob {
                Bob::Inactive if name == "bob" => object.spec.active = false,
                Bob::Anew(made) if name == "bob" => {
                    object.metadata.uid = Some("uid-of-another-bob".to_owned());
                    object.metadata.creation_timestamp = stamp(made);
                }
                _ => {}
            }
            object
        });
        all.collect()
    }

    fn contributors(&self, of: usize, look: usize) -> Vec<User> {
        let once = self.contributed_once.filter(|(_, when)| match when {
            When::First => look == 0,
            When::Last => look + 1 == self.looks.len(),
        });
        self.contributed[of].into_iter().chain(once.map(|it| it.0)).collect()
    }

    fn integration(&self, look: usize) -> PartnerIntegration {
        static ONE: LazyLock<PartnerIntegration> = LazyLock::new(integration);
        let mut object = ONE.clone();
        object.metadata.creation_timestamp = stamp(self.created[1]);
        object.spec.data_classification = self.class;
        object.spec.review.interval = Period::from_seconds(self.interval * SLOT);
        object.spec.review.grace = Some(Period::from_seconds(self.grace * SLOT));
        object.spec.requested_by = Some(self.asked[1].into());
        object.spec.contributors = self.turn(principals(self.contributors(1, look)));
        object
    }

    fn grant(&self, look: usize, content: usize) -> AccessGrant {
        static ONE: LazyLock<AccessGrant> = LazyLock::new(grant);
        let mut object = ONE.clone();
        object.metadata.creation_timestamp = stamp(self.created[0]);
        let spec = &mut object.spec;
        spec.ticket = Some(["CHG-0", "CHG-1", "CHG-2"][content].into());
        spec.expires_at = slot(self.expires);
        spec.requested_by = Some(self.asked[0].into());
        spec.contributors = self.turn(principals(self.contributors(0, look)));
        spec.access[0].rules = Some(self.wanted.iter().map(|words| words.rule()).collect());
        if self.reaches_ledger {
            spec.access[0].namespaces = vec!["payments".into(), "ledger".into()];
            if let Some(token) = &mut spec.credential.token {
                token.delivery = Delivery::Private;
            }
        }
        object
    }

    fn namespaces(&self) -> BTreeMap<String, Namespace> {
        let of = |(index, (name, label)): (usize, (&str, &str))| {
            let class = self.labels[index].map(|class| (LABEL_CLASSIFICATION.to_owned(), class.as_str().to_owned()));
            let labels = [(label.to_owned(), if index == 0 { "true" } else { "yes" }.to_owned())];
            let namespace = Namespace {
                uid: format!("uid-of-{name}"),
                labels: labels.into_iter().chain(class).collect(),
                enrolled: true,
                terminating: false,
            };
            (name.to_owned(), namespace)
        };
        let both = [("payments", "partners.example/allowed"), ("ledger", "ledger")];
        both.into_iter().enumerate().map(of).collect()
    }

    fn proofs(&self) -> Proofs {
        let mut proofs = Proofs::default();
        let mut take = |fingerprint, since: Instant, before| {
            proofs.take(&Proof {
                at: since,
                refused: true,
                fingerprint,
                dated: since.plus(-SETTLING),
                seen: since.plus(-SETTLING),
                before,
            });
        };
        take("one", slot(self.proved), None);
        if let Some((from, to)) = self.unproved {
            take("two", slot(to), Some(("one", slot(from))));
        }
        proofs
    }

    fn digest(&self, content: usize) -> String {
        let (grant, namespaces) = (self.grant(0, content), self.namespaces());
        let targets = grant.target_namespaces().into_iter();
        let uids = targets.map(|name| (name.clone(), namespaces[&name].uid.clone()));
        digest(&self.integration(0), &grant, &uids.collect()).digest
    }

    /// Follows the world to its last look, and remembers between them what status does.
    fn verdict(&self) -> Verdict {
        let namespaces = self.namespaces();
        let proofs = self.proofs();
        let policies: Vec<AccessPolicy> = (0..self.policies.len()).map(|index| self.policy(index)).collect();
        let policies = self.turn(policies.iter().collect());
        let digests = self
            .digests
            .get_or_init(|| [0, 1, 2].map(|content| self.digest(content)));
        let mut last = None;
        for (index, look) in self.looks.iter().enumerate() {
            let there: Vec<&Made> = self
                .made
                .iter()
                .filter(|it| it.written <= look.at && index < it.gone)
                .collect();
            let decisions: Vec<AccessDecision> = there.iter().map(|it| it.object(index, digests)).collect();
            let forgets = self.forgets && index + 1 == self.looks.len();
            let answers = there
                .iter()
                .zip(&decisions)
                .filter(|(made, _)| index >= made.answered && !forgets);
            let answers = answers.filter_map(|(made, object)| {
                let answer = match made.may? {
                    true => Confirmation::Allowed,
                    false => Confirmation::Refused("no".to_owned()),
                };
                Some((object.metadata.uid.clone()?, answer))
            });
            let owners = self.owners(look);
            let owners: Owners<'_> = owners
                .iter()
                .map(|it| (it.metadata.name.as_deref().unwrap(), it))
                .collect();
            let mut grant = self.grant(index, look.content);
            grant.status = last.map(remembered);
            last = Some(decide(&Facts {
                now: slot(look.at),
                grant: &grant,
                integration: Some(&self.integration(index)),
                owners: &owners,
                decisions: &self.turn(decisions.iter().collect()),
                confirmations: &answers.collect(),
                policies: &policies,
                namespaces: &namespaces,
                absent_key: None,
                cluster_roles: &BTreeMap::new(),
                reserved_namespaces: &BTreeSet::new(),
                delivery_secrets: &BTreeMap::new(),
                earlier_siblings: self.earlier_siblings,
                admission_proved: true,
                unreadable_policy: None,
                unread: None,
                proofs: look.knows_proofs.then_some(&proofs),
                other_rights: None,
                static_credential: None,
                clock_skew: None,
                uninstalling: None,
            }));
        }
        last.unwrap()
    }

    fn is_active(&self) -> bool {
        self.verdict().access != Access::Inactive
    }
}

/// What status holds of a verdict once the operator has done as it says.
fn remembered(verdict: Verdict) -> AccessGrantStatus {
    let mut status = verdict.kept.status;
    status.identity = (verdict.access != Access::Inactive).then(|| Identity {
        namespace: "wayleave-identities".to_owned(),
        service_account: "wlg-0-1".to_owned(),
        activation: 1,
        digest: String::new(),
        owner_uids: Vec::new(),
        claimed_at: slot(0),
        activated_at: Some(slot(0)),
    });
    status
}

// The laws.

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8_000))]

    #[test]
    fn access_is_there_exactly_where_the_slow_count_gives_it(world in worlds()) {
        let verdict = world.verdict();
        prop_assert_eq!(verdict.access != Access::Inactive, world.may_be_active(), "{}", verdict.message);
        let last = world.looks.len() - 1;
        for counted in &verdict.kept.status.approvals {
            let own = world.made.iter().find(|it| it.who == counted.by).unwrap();
            prop_assert!(!world.is_barred(own.who, last), "{} counts", counted.by);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_500))]

    #[test]
    fn one_more_deny_or_revoke_never_gives_access(
        mut world in worlds(), first in decisions(98), other in decisions(99), words in [any::<bool>(), any::<bool>()],
    ) {
        let [first, other] = [(first, words[0]), (other, words[1])].map(|(one, denies)| Made {
            word: if denies { Deny } else { Revoke },
            of_all: one.groups == 0,
            ..one
        });
        // One that a delegate dates back counts from when it was written all the same.
        world.made.push(Made { stated: Some(first.written - 9), ..first });
        let before = world.is_active();
        world.made.push(other);
        prop_assert!(before || !world.is_active());
    }

    #[test]
    fn an_approval_or_review_taken_away_or_weakened_never_gives_access(
        mut world in worlds(), which in any::<prop::sample::Index>(), how in 0..7, less in 0..6_i64,
    ) {
        let before = world.is_active();
        let last = world.looks.len() - 1;
        let given: Vec<usize> = (0..world.made.len()).filter(|it| matches!(world.made[*it].word, Approve | Review)).collect();
        if !given.is_empty() {
            let which = given[which.index(given.len())];
            let one = &mut world.made[which];
            match how {
                0 => drop(world.made.remove(which)),
                1 => one.gone = one.gone.min(last),
                2 => one.deleting = one.deleting.min(last),
                3 => one.groups = 0,
                4 => one.may = Some(false),
                5 => one.of_this_uid = false,
                _ => one.until = Some(one.until.unwrap_or(made_at(one) + less) - less),
            }
            prop_assert!(before || !world.is_active());
        }
    }

    #[test]
    fn the_order_of_decisions_policies_lines_groups_and_names_changes_nothing(mut world in worlds(), turned in 1..9_usize) {
        let before = world.verdict();
        world.turned = turned;
        let after = world.verdict();
        prop_assert_eq!((&after.access, after.reason, &after.message), (&before.access, before.reason, &before.message));
        prop_assert_eq!((&after.to_confirm, &after.not_counted), (&before.to_confirm, &before.not_counted));
        prop_assert_eq!(&after.kept.status.approvals, &before.kept.status.approvals);
    }

    #[test]
    fn it_is_of_no_matter_under_which_name_one_decides_nor_what_those_say_who_asked(mut world in worlds(), others: u16) {
        let before = world.is_active();
        for (index, one) in world.made.iter_mut().enumerate() {
            let other = match one.who {
                "adm-grace" | "grace-again" if world.is_linked => "grace",
                "dave" => "adm-dave",
                "adm-dave" => "dave",
                "erin" => "adm-erin",
                "adm-erin" => "erin",
                "carol" => "adm-carol",
                "grace" => "adm-grace",
                same => same,
            };
            if others & (1 << index) != 0 {
                one.who = other;
            }
        }
        prop_assert_eq!(world.is_active(), before);
        let all = world.clone();
        let is_barred = |one: &Made| matches!(one.word, Approve | Review) && all.is_barred(one.who, 0);
        // At the last look somebody may be added: what was renewed on their word before stays so.
        if world.looks.len() > 1 {
            world.made.retain(|one| !is_barred(one));
            prop_assert_eq!(world.is_active(), before);
        }
    }

    #[test]
    fn a_line_more_or_one_person_more_in_a_line_never_gives_access(
        mut world in worlds(), which in any::<prop::sample::Index>(), count in 1..3, groups in prop::option::of(0..4_u8),
    ) {
        let before = world.is_active();
        let which = which.index(world.policies.len());
        let lines = &mut world.policies[which].lines;
        match groups {
            Some(groups) => lines.push((count, groups)),
            None => lines[0].0 += count,
        }
        prop_assert!(before || !world.is_active());
    }
}

/// Laws of what is active would be empty words if nothing ever were; and those of what is not, if everything were.
#[test]
fn generated_worlds_are_active_often_enough() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut any = || worlds().new_tree(&mut runner).unwrap().current();
    let worlds: Vec<World> = (0..1_000).map(|_| any()).collect();
    let active: Vec<&World> = worlds.iter().filter(|it| it.is_active()).collect();
    let asks_for_two = |it: &Limits| it.lines.iter().any(|line| line.0 > 1);
    let found = [
        active.len(),
        active.iter().filter(|it| it.count().no.is_some()).count(),
        active.iter().filter(|it| !it.count().renewed.is_empty()).count(),
        active
            .iter()
            .filter(|it| it.reaches_ledger && it.looks.len() > 1)
            .count(),
        active.iter().filter(|it| it.policies.iter().any(asks_for_two)).count(),
    ];
    assert!(found.iter().all(|it| (10..700).contains(it)), "{found:?}");
}
