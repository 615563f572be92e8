//! Laws of the plan, over whole histories: a world applies each step, stops it half-way, or is altered by hand.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::children::Site;
use super::{Child, Issue, Minted, Observed, Plan, Step, issued, plan, rotated, rotation_asked};
use crate::api::conditions::types;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessPolicy, ChildKind, ChildRef, CredentialType, HardExpiry, Instant,
    PartnerIntegration, StaticControls, Summary,
};
use crate::domain::admission::Proofs;
use crate::domain::approval::Confirmation;
use crate::domain::conditions::{self, Desired, find};
use crate::domain::digest::digest;
use crate::domain::fixtures::{GRANT_UID, at, decision, grant, integration, owner, policy, static_grant};
use crate::domain::names;
use crate::domain::ownership::Owners;
use crate::domain::static_credential::Seen;
use crate::domain::verdict::{Access, Facts, Namespace, Verdict, decide};

const IDENTITIES: &str = "wayleave-identities";

struct World {
    now: Instant,
    grant: AccessGrant,
    integration: PartnerIntegration,
    decisions: Vec<AccessDecision>,
    policies: Vec<AccessPolicy>,
    observed: Observed,
    seen: Option<Seen>,
    made: u32,
    uninstalling: Option<&'static str>,
    proved: bool,
    other_rights: Option<&'static str>,
    names: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        Self::of(grant(), policy())
    }

    /// A partner with an identity from before, and a policy that permits that.
    fn of_static_credential() -> Self {
        let mut policy = policy();
        policy.spec.credentials.push(CredentialType::Static);
        policy.spec.static_credentials = Some(StaticControls {
            duration: policy.spec.limits.duration.unwrap(),
            review_interval: policy.spec.limits.review_interval.unwrap(),
            allowed_sources: false,
            replacement: true,
        });
        let mut world = Self::of(static_grant(), policy);
        world.seen = Some(Seen {
            uid: Some("uid-of-legacy".to_owned()),
            finding: Some("what is there".to_owned()),
            ..Seen::default()
        });
        world
    }

    fn of(grant: AccessGrant, policy: AccessPolicy) -> Self {
        let integration = integration();
        let targets = [("payments".to_owned(), "uid-of-payments".to_owned())].into();
        let digest = digest(&integration, &grant, &targets).digest;
        let decisions = vec![decision(
            "one",
            "Approve",
            "dave@corp.example",
            &digest,
            "2026-12-01T00:00:00Z",
        )];
        Self {
            now: at("2026-12-02T00:00:00Z"),
            grant,
            integration,
            decisions,
            policies: vec![policy],
            observed: Observed {
                delivery_known: true,
                ..Observed::default()
            },
            seen: None,
            made: 0,
            uninstalling: None,
            proved: true,
            other_rights: None,
            names: BTreeSet::new(),
        }
    }

    fn look(&self) -> (Verdict, Plan) {
        let (alice, bob) = (owner("alice"), owner("bob"));
        let owners: Owners<'_> = [("alice", &alice), ("bob", &bob)].into();
        let confirmations = self
            .decisions
            .iter()
            .map(|it| (it.metadata.uid.clone().unwrap(), Confirmation::Allowed))
            .collect();
        let decisions: Vec<&AccessDecision> = self.decisions.iter().collect();
        let policies: Vec<&AccessPolicy> = self.policies.iter().collect();
        let payments = Namespace {
            uid: "uid-of-payments".to_owned(),
            labels: [("partners.example/allowed".to_owned(), "true".to_owned())].into(),
            enrolled: true,
            terminating: false,
        };
        let facts = Facts {
            now: self.now,
            grant: &self.grant,
            integration: Some(&self.integration),
            owners: &owners,
            decisions: &decisions,
            confirmations: &confirmations,
            policies: &policies,
            namespaces: &[("payments".to_owned(), payments)].into(),
            absent_key: None,
            cluster_roles: &BTreeMap::new(),
            reserved_namespaces: &BTreeSet::new(),
            delivery_secrets: &BTreeMap::new(),
            earlier_siblings: 0,
            admission_proved: self.proved,
            unreadable_policy: None,
            unread: None,
            proofs: Some(&Proofs::since(at("2020-01-01T00:00:00Z"))),
            other_rights: self.other_rights,
            static_credential: self.seen.as_ref(),
            clock_skew: None,
            uninstalling: self.uninstalling,
        };
        let verdict = decide(&facts);
        let plan = plan(&facts, &verdict, &self.observed, IDENTITIES);
        (verdict, plan)
    }

    fn make(&mut self, kind: ChildKind, namespace: String, name: String, content: String) -> Child {
        self.made += 1;
        let child = Child {
            kind,
            namespace,
            name,
            uid: format!("uid-{}", self.made),
            content,
            foreign_writer: None,
        };
        self.observed.children.push(child.clone());
        child
    }

    /// Applies one step, up to `limit` writes to children: fewer than it has means that the operator died.
    fn turn(&mut self, limit: usize) -> Plan {
        let (verdict, plan) = self.look();
        match plan.step.clone() {
            Step::Rest => self.grant.status = Some(plan.status.clone()),
            Step::Finish => self.observed.finalizer = false,
            Step::Close(children) | Step::Retire(children) => {
                for child in children.iter().take(limit) {
                    self.observed.children.retain(|it| it != child);
                }
                if limit >= children.len() {
                    self.grant.status = Some(plan.status.clone());
                }
            }
            Step::Issue(issue) => {
                self.observed.finalizer = true;
                self.grant.status = Some(plan.status.clone());
                let (grant, expected) = {
                    let site = Site {
                        grant: &self.grant,
                        activation: issue.activation,
                        identities: IDENTITIES,
                    };
                    (self.grant.clone(), site.expected(&[1]))
                };
                let mut wanted = expected.clone();
                wanted.sort_by_key(|it| std::cmp::Reverse(it.kind));
                let mut children = Vec::new();
                for want in wanted.into_iter().take(limit) {
                    if want.kind != ChildKind::DeliverySecret {
                        assert!(
                            self.names
                                .insert(format!("{:?}{}{}", want.kind, want.namespace, want.name)),
                            "a name came back"
                        );
                    }
                    let child = self.make(want.kind, want.namespace, want.name, want.content);
                    children.push(record(&child));
                }
                if limit >= expected.len() {
                    let minted = issue.token.map(|token| self.mint(token.seconds));
                    let status = issued(
                        grant.status.as_ref().unwrap(),
                        &verdict,
                        issue.until,
                        minted.as_ref(),
                        children,
                        self.now,
                    );
                    self.grant.status = Some(status);
                }
            }
            Step::Rotate(rotate) => {
                self.grant.status = Some(plan.status.clone());
                let activation = plan.status.identity.as_ref().unwrap().activation;
                let name = Site {
                    grant: &self.grant,
                    activation,
                    identities: IDENTITIES,
                }
                .anchor(rotate.generation);
                if limit > 0 {
                    assert!(self.names.insert(name.clone()), "a generation came back");
                    let anchor = self.make(ChildKind::Anchor, IDENTITIES.to_owned(), name, String::new());
                    if limit > 1 {
                        let minted = self.mint(rotate.token.seconds);
                        for child in &mut self.observed.children {
                            child.foreign_writer = None;
                        }
                        let status = rotated(
                            &plan.status,
                            &verdict,
                            rotate.until,
                            &minted,
                            record(&anchor),
                            rotate.answers,
                            self.now,
                        );
                        self.grant.status = Some(status);
                    }
                }
            }
        }
        plan
    }

    fn mint(&self, seconds: i64) -> Minted {
        Minted {
            issued_at: self.now,
            expires_at: self.now.plus(seconds),
            credential_id: None,
        }
    }

    /// Turns until nothing is left to do.
    fn settle(&mut self) -> Plan {
        for _ in 0..12 {
            let plan = self.turn(usize::MAX);
            if plan.step == Step::Rest {
                return plan;
            }
        }
        panic!("never at rest: {:?}", self.look().1.step);
    }

    fn is_active(&self) -> bool {
        let status = self.grant.status.as_ref().unwrap();
        let active = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == types::ACTIVE);
        active.is_some_and(|condition| condition.status == "True")
    }

    fn delivered(&self) -> i64 {
        let credential = self.grant.status.as_ref().and_then(|status| status.credential.as_ref());
        credential.map_or(0, |credential| credential.delivered_generation)
    }

    fn of_kind(&self, kind: ChildKind) -> usize {
        self.observed.children.iter().filter(|child| child.kind == kind).count()
    }
}

fn record(child: &Child) -> ChildRef {
    ChildRef {
        kind: child.kind,
        namespace: child.namespace.clone(),
        name: child.name.clone(),
        uid: child.uid.clone(),
    }
}

#[test]
fn a_grant_lives_and_ends() {
    let mut world = World::new();
    world.settle();
    assert!(world.is_active());
    assert_eq!(world.observed.children.len(), 5);
    let Step::Rest = world.look().1.step else {
        panic!("restless")
    };
    world.now = at("2027-01-20T00:00:00Z");
    let Step::Close(children) = world.look().1.step else {
        panic!("not closed")
    };
    assert_eq!(children[0].kind, ChildKind::RoleBinding, "bindings first");
    let rest = world.settle();
    assert_eq!(rest.again_in, 3_600, "what has ended is looked at every hour");
    assert!(!world.is_active() && world.observed.children.is_empty());
    assert!(world.observed.finalizer, "it is held for as long as it is there");
}

#[test]
fn other_rights_are_told_of_an_identity_that_is_there_or_permitted() {
    let told = |world: &mut World| {
        world.other_rights = Some("it may read everything");
        let status = world.settle().status;
        conditions::find(&status.conditions, types::OTHER_RIGHTS).map(|it| it.message.clone())
    };
    let words = Some("it may read everything".to_owned());
    assert_eq!(told(&mut World::new()), words);
    let mut waiting = World::new();
    waiting.decisions.clear();
    assert_eq!(told(&mut waiting), None, "there is no identity yet");
    let mut known = World::of_static_credential();
    known.decisions.clear();
    assert_eq!(told(&mut known), words, "there is one, and it is permitted");
    known.policies.clear();
    assert_eq!(told(&mut known), None, "nobody's business yet");
}

#[test]
fn a_grant_that_has_no_static_credential_any_more_is_told_of_none() {
    let mut world = World::new();
    world.settle();
    let status = world.grant.status.as_mut().unwrap();
    let said = Desired::new(types::STATIC_CREDENTIAL, "True", "Found", "what was there");
    status
        .conditions
        .extend(conditions::merge(&[], vec![said], Some(1), world.now));
    let status = world.settle().status;
    assert!(conditions::find(&status.conditions, types::STATIC_CREDENTIAL).is_none());
}

#[test]
fn the_columns_say_whose_it_is_on_whose_word_and_under_which_policy() {
    let mut world = World::new();
    let said = world.settle().status.summary.unwrap();
    let subject = format!("system:serviceaccount:{IDENTITIES}:{}", names::identity(GRANT_UID, 1));
    assert_eq!(
        said,
        Summary {
            partner: "acme".to_owned(),
            owners: "alice, bob".to_owned(),
            approved_by: "dave@corp.example".to_owned(),
            policies: "read-only-partners".to_owned(),
            subject,
        }
    );
}

#[test]
fn our_finalizer_is_put_on_once() {
    let mut world = World::new();
    let asks = |world: &World| match world.look().1.step {
        Step::Issue(issue) => issue.add_finalizer,
        step => panic!("{step:?}"),
    };
    assert!(asks(&world));
    world.observed.finalizer = true;
    assert!(!asks(&world));
}

#[test]
fn a_deleted_grant_is_let_go_only_when_nothing_is_left() {
    let mut world = World::new();
    world.settle();
    world.grant.metadata.deletion_timestamp = world.grant.metadata.creation_timestamp.clone();
    world.turn(2);
    assert!(matches!(world.look().1.step, Step::Close(_)));
    world.turn(usize::MAX);
    assert!(matches!(world.look().1.step, Step::Finish));
    world.turn(usize::MAX);
    assert!(matches!(world.look().1.step, Step::Rest));
}

#[test]
fn an_uninstallation_lets_a_grant_go_that_stays_and_its_end_lets_it_begin_anew() {
    let mut world = World::new();
    world.settle();
    world.uninstalling = Some("the marker is there");
    let Step::Close(children) = world.look().1.step else {
        panic!("not closed")
    };
    assert_eq!(children[0].kind, ChildKind::RoleBinding, "bindings first");
    world.turn(2);
    assert!(
        matches!(world.look().1.step, Step::Close(_)),
        "held while something is left"
    );
    world.settle();
    assert!(!world.observed.finalizer && world.observed.children.is_empty());
    let ready = &world.grant.status.as_ref().unwrap().conditions[0];
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "Uninstalling")
    );
    world.uninstalling = None;
    world.settle();
    assert!(world.is_active() && world.observed.finalizer);
    assert_eq!(world.grant.status.as_ref().unwrap().activations, 2);
}

#[test]
fn a_request_for_rotation_is_cut_to_what_a_status_holds() {
    assert_eq!(rotation_asked("2026-12-01T00:00:00Z"), "2026-12-01T00:00:00Z");
    assert_eq!(rotation_asked(&"ä".repeat(30_000)), "ä".repeat(256));
}

#[test]
fn a_live_grant_is_told_that_nothing_is_issued_once_a_new_credential_is_due() {
    let mut world = World::new();
    world.settle();
    world.proved = false;
    let (_, Plan { step, status, .. }) = world.look();
    assert!(matches!(step, Step::Rest));
    assert_eq!(Some(&status), world.grant.status.as_ref(), "not worth a write");
    world.now = status.credential.unwrap().rotates_at.unwrap();
    let (_, Plan { step, status, again_in }) = world.look();
    assert!(matches!(step, Step::Rest));
    assert_eq!(again_in, 60, "and not all the time");
    let ready = find(&status.conditions, types::READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Issued"));
    assert!(
        ready.message.contains("no new credential: the admission policies"),
        "{}",
        ready.message
    );
    world.proved = true;
    assert!(matches!(world.look().1.step, Step::Rotate(_)));
}

#[test]
fn a_rotation_on_request_is_answered_once_and_leaves_no_overlap() {
    let mut world = World::new();
    world.settle();
    world.observed.rotate_requested = Some("now".to_owned());
    world.turn(1);
    assert_eq!(
        world.grant.status.as_ref().unwrap().last_handled_rotate_at,
        None,
        "not answered by a claim"
    );
    world.settle();
    let status = world.grant.status.clone().unwrap();
    assert_eq!(status.last_handled_rotate_at.as_deref(), Some("now"));
    assert_eq!(world.of_kind(ChildKind::Anchor), 1);
    assert_eq!(
        status.credential.unwrap().delivered_generation,
        3,
        "the generation that died is never used again"
    );
}

#[test]
fn a_rotation_in_time_keeps_the_old_token_for_its_overlap() {
    let mut world = World::new();
    world.settle();
    world.now = world
        .grant
        .status
        .as_ref()
        .unwrap()
        .credential
        .as_ref()
        .unwrap()
        .rotates_at
        .unwrap();
    let plan = world.settle();
    assert_eq!(world.of_kind(ChildKind::Anchor), 2);
    assert!(plan.again_in <= 60);
    world.now = world
        .grant
        .status
        .as_ref()
        .unwrap()
        .credential
        .as_ref()
        .unwrap()
        .previous
        .as_ref()
        .unwrap()
        .retire_at;
    world.settle();
    assert_eq!(world.of_kind(ChildKind::Anchor), 1);
}

#[test]
fn an_end_that_comes_nearer_than_the_shortest_token_still_shortens_the_one_that_is_there() {
    for required in [true, false] {
        let mut world = World::new();
        if !required {
            world.policies[0].spec.limits.hard_expiry = HardExpiry::Preferred;
        }
        world.settle();
        let credential = |world: &World| world.grant.status.clone().unwrap().credential.unwrap();
        let first = credential(&world);
        assert!(first.hard_expiry);
        world.decisions[0].spec.valid_until = Some(world.now.plus(400));
        world.settle();
        let second = credential(&world);
        assert_eq!(second.generation, first.generation + 1);
        assert!(!second.hard_expiry, "as it is");
        assert_eq!(second.expires_at, Some(world.now.plus(600)));
        world.settle();
        assert_eq!(credential(&world).generation, second.generation, "once");
        // In the last minute nothing can be had any more, and nothing else is said.
        let mut late = World::new();
        late.settle();
        late.decisions[0].spec.valid_until = Some(late.now.plus(50));
        late.settle();
        let last = credential(&late);
        assert_eq!((last.generation, last.hard_expiry), (1, false));
    }
}

#[test]
fn a_token_that_reached_the_end_gets_a_successor_when_the_end_moves() {
    let mut world = World::new();
    world.decisions[0].spec.valid_until = Some(world.now.plus(800));
    world.settle();
    let credential = |world: &World| world.grant.status.clone().unwrap().credential.unwrap();
    let first = credential(&world);
    assert_eq!(first.rotates_at, None, "it reaches the end");
    let mut renewed = world.decisions[0].clone();
    renewed.metadata.name = Some("two".to_owned());
    renewed.metadata.uid = Some("uid-of-two".to_owned());
    renewed.spec.valid_until = None;
    world.decisions.push(renewed);
    world.settle();
    let due = credential(&world).rotates_at.expect("a successor is due");
    assert_eq!(credential(&world).generation, first.generation, "not yet");
    assert!(due < first.expires_at.unwrap());
    world.now = due;
    world.settle();
    assert_eq!(world.of_kind(ChildKind::Anchor), 2, "with an overlap");
    assert!(credential(&world).expires_at > first.expires_at);
}

#[test]
fn what_is_altered_ends_the_activation_and_begins_another_once_a_minute() {
    let mut world = World::new();
    world.settle();
    world
        .observed
        .children
        .retain(|child| child.kind != ChildKind::RoleBinding);
    let plan = world.settle();
    assert!(!world.is_active() && world.observed.children.is_empty());
    assert_eq!(plan.again_in, 60);
    world.now = world.now.plus(60);
    world.settle();
    assert!(world.is_active());
    assert_eq!(
        world
            .grant
            .status
            .as_ref()
            .unwrap()
            .identity
            .as_ref()
            .unwrap()
            .activation,
        2
    );
    let claimed = world.now;
    world.now = claimed.plus(60);
    let altered = |world: &mut World| {
        let role = world
            .observed
            .children
            .iter_mut()
            .find(|child| child.kind == ChildKind::Role)
            .unwrap();
        role.content = "wider".to_owned();
        world.look().1.status.not_before
    };
    assert_eq!(altered(&mut world), None, "a minute after it began");
    world.now = claimed.plus(3_000);
    let said = |world: &World| {
        let plan = world.look().1;
        assert!(matches!(plan.step, Step::Close(_)), "{:?}", plan.step);
        conditions::find(&plan.status.conditions, types::READY)
            .unwrap()
            .message
            .clone()
    };
    assert!(said(&world).contains("was altered"), "{}", said(&world));
    world.settle();
    assert!(world.is_active(), "long after the last: at once");
    assert!(world.observed.children.iter().all(|child| child.content != "wider"));
    world.observed.children[0].uid = "uid-of-another".to_owned();
    assert!(said(&world).contains("was replaced"), "{}", said(&world));
    world.observed.children.remove(0);
    assert!(said(&world).contains("is gone"), "{}", said(&world));
}

#[test]
fn a_foreign_writer_of_the_secret_means_another_token() {
    let mut world = World::new();
    world.settle();
    let secret = world
        .observed
        .children
        .iter_mut()
        .find(|child| child.kind == ChildKind::DeliverySecret)
        .unwrap();
    secret.foreign_writer = Some("kubectl-edit".to_owned());
    let plan = world.settle();
    assert_eq!((world.delivered(), plan.again_in), (1, 60), "at most once a minute");
    world.now = world.now.plus(60);
    world.settle();
    assert_eq!(
        world
            .grant
            .status
            .as_ref()
            .unwrap()
            .credential
            .as_ref()
            .unwrap()
            .delivered_generation,
        2
    );
    assert_eq!(world.of_kind(ChildKind::Anchor), 1);
}

#[test]
fn a_rotation_that_broke_off_after_its_delivery_is_made_again_at_once() {
    let mut world = World::new();
    world.settle();
    let secret = world.observed.children.iter_mut();
    let mut secret = secret.filter(|child| child.kind == ChildKind::DeliverySecret);
    secret.next().unwrap().foreign_writer = Some("kubectl-edit".to_owned());
    world.now = world.now.plus(60);
    world.turn(1);
    // Delivered, and nobody wrote that down: the Secret is ours again, and nothing else asks for a rotation.
    for child in &mut world.observed.children {
        child.foreign_writer = None;
    }
    world.settle();
    assert_eq!(world.delivered(), 3, "the Secret held a token whose anchor is gone");
    assert_eq!(
        world.of_kind(ChildKind::Anchor),
        2,
        "what was in use before has its overlap"
    );
}

/// The answer to the last write of a rotation was lost, and the cache has not heard of it either.
#[test]
fn what_a_status_that_lags_does_not_know_to_be_delivered_stays() {
    let mut world = World::new();
    world.settle();
    let before = world.grant.status.clone();
    world.observed.rotate_requested = Some("now".to_owned());
    let claim = Some(world.look().1.status);
    world.turn(usize::MAX);
    assert_eq!(world.delivered(), 2);
    let written = world.grant.status.clone();
    for stale in [claim, before] {
        world.grant.status = stale;
        let step = world.look().1.step;
        assert!(
            matches!(step, Step::Rotate(_)),
            "its claim is refused as one of an older version: {step:?}"
        );
    }
    world.grant.status = written;
    world.settle();
    assert_eq!((world.delivered(), world.of_kind(ChildKind::Anchor)), (2, 1));
    assert!(world.is_active());
}

#[test]
fn what_an_earlier_activation_left_is_retired_and_the_one_that_stands_stays() {
    let mut world = World::new();
    world.settle();
    let name = crate::domain::names::identity(crate::domain::fixtures::GRANT_UID, 9);
    let late = world.make(ChildKind::ServiceAccount, IDENTITIES.to_owned(), name, String::new());
    assert_eq!(world.look().1.step, Step::Retire(vec![late]));
    world.settle();
    assert!(world.is_active() && world.delivered() == 1);
}

#[test]
fn a_secret_that_lost_its_label_goes_by_its_record() {
    let mut world = World::new();
    world.settle();
    let is_secret = |child: &Child| child.kind == ChildKind::DeliverySecret;
    let secret = world
        .observed
        .children
        .iter()
        .find(|child| is_secret(child))
        .cloned()
        .unwrap();
    world.observed.children.retain(|child| !is_secret(child));
    world.observed.unseen = vec![secret.clone()];
    let Step::Close(children) = world.look().1.step else {
        panic!("the activation ends")
    };
    assert!(children.contains(&secret));
}

#[test]
fn what_is_beyond_reach_is_named_and_holds_nothing_up() {
    let mut world = World::new();
    world.settle();
    world.observed.beyond_reach = vec![world.observed.children.remove(0)];
    world.grant.metadata.deletion_timestamp = world.grant.metadata.creation_timestamp.clone();
    assert!(
        matches!(world.look().1.step, Step::Close(_)),
        "what is in reach goes first"
    );
    world.observed.children.clear();
    let plan = world.look().1;
    assert_eq!(plan.step, Step::Finish);
    assert!(
        plan.status.conditions[0]
            .message
            .contains("left behind where the operator has no rights")
    );
}

#[test]
fn of_a_static_credential_nothing_but_roles_and_bindings_is_made_and_it_stays_told_when_they_are_gone() {
    let mut world = World::of_static_credential();
    world.settle();
    assert!(world.is_active());
    let kinds = |world: &World| -> BTreeSet<ChildKind> { world.observed.children.iter().map(|it| it.kind).collect() };
    assert_eq!(kinds(&world), [ChildKind::RoleBinding, ChildKind::Role].into());
    let status = world.grant.status.clone().unwrap();
    let identity = status.identity.unwrap();
    assert_eq!(
        (identity.namespace.as_str(), identity.service_account.as_str()),
        ("payments", "legacy")
    );
    let credential = status.credential.unwrap();
    assert_eq!(
        (
            credential.secret_name.as_str(),
            credential.generation,
            credential.hard_expiry
        ),
        ("legacy-token", 0, false)
    );
    // It is never rotated, whoever asks and however long it lasts.
    world.observed.rotate_requested = Some("now".to_owned());
    world.now = world.now.plus(86_400 * 30);
    assert_eq!(world.look().1.step, Step::Rest);
    world.now = world.grant.spec.expires_at;
    world.settle();
    assert!(world.observed.children.is_empty() && !world.is_active());
    let said = |world: &World| {
        find(
            &world.grant.status.as_ref().unwrap().conditions,
            types::STATIC_CREDENTIAL,
        )
        .cloned()
    };
    assert_eq!(said(&world).unwrap().message, "what is there");
    // What is yet to be read after a restart is not gone; what is gone is told no more.
    world.seen = None;
    world.settle();
    assert!(said(&world).is_some());
    world.seen = Some(Seen::default());
    world.settle();
    assert_eq!(said(&world), None);
}

#[test]
fn a_binding_of_a_static_credential_that_is_left_behind_is_a_failed_revocation_until_the_grant_goes() {
    let mut world = World::of_static_credential();
    world.settle();
    world.grant.spec.suspend = true;
    world.observed.beyond_reach = std::mem::take(&mut world.observed.children);
    let plan = world.settle();
    let active = find(&plan.status.conditions, types::ACTIVE).unwrap();
    assert_eq!(
        (active.reason.as_str(), active.status.as_str()),
        ("RevocationFailed", "True")
    );
    assert!(
        active
            .message
            .contains("still giving access to a static credential: RoleBinding payments/wlg-")
    );
    assert!(!active.message.contains("of no use"), "{}", active.message);
    world.grant.metadata.deletion_timestamp = world.grant.metadata.creation_timestamp.clone();
    let plan = world.look().1;
    assert_eq!(plan.step, Step::Finish, "its owner reference ends it");
}

#[test]
fn access_by_a_static_credential_ends_with_its_service_account_and_another_of_that_name_needs_another_approval() {
    let mut world = World::of_static_credential();
    world.settle();
    let seen = world.seen.clone();
    world.seen = Some(Seen {
        missing: Some("there is none".to_owned()),
        ..Seen::default()
    });
    world.settle();
    assert!(!world.is_active() && world.observed.children.is_empty());
    world.seen = seen.clone();
    world.settle();
    assert!(!world.is_active(), "not more than once a minute");
    world.now = world.now.plus(60);
    world.settle();
    assert!(world.is_active());
    world.seen = seen.map(|seen| Seen {
        uid: Some("uid-of-another".to_owned()),
        ..seen
    });
    let plan = world.turn(usize::MAX);
    assert!(matches!(plan.step, Step::Close(_)), "{:?}", plan.step);
    let plan = world.settle();
    let active = find(&plan.status.conditions, types::ACTIVE).unwrap();
    assert_eq!(active.reason, "AwaitingApproval");
    assert!(
        active.message.contains("replacement of the ServiceAccount"),
        "{}",
        active.message
    );
    let again = decision(
        "two",
        "Approve",
        "dave@corp.example",
        plan.status.digest.as_ref().unwrap(),
        "2026-12-03T00:00:00Z",
    );
    world.decisions.push(again);
    world.now = at("2026-12-03T00:00:01Z");
    world.settle();
    assert!(world.is_active());
}

#[test]
fn what_can_not_be_read_of_a_static_credential_ends_nothing_and_lets_nothing_begin() {
    let mut world = World::of_static_credential();
    let seen = world.seen.clone();
    world.seen = Some(Seen::unread("it can't be read"));
    world.settle();
    let reason = |world: &World| {
        find(&world.grant.status.as_ref().unwrap().conditions, types::ACTIVE)
            .unwrap()
            .reason
            .clone()
    };
    assert_eq!(reason(&world), "CeilingExceeded");
    world.seen = seen;
    world.settle();
    assert!(world.is_active());
    world.seen = Some(Seen::unread("it can't be read"));
    world.settle();
    assert!(world.is_active());
    let conditions = &world.grant.status.as_ref().unwrap().conditions;
    assert!(
        find(conditions, types::STATIC_CREDENTIAL).is_some(),
        "what was found stays told"
    );
}

#[test]
fn an_unwatched_namespace_is_no_drift() {
    let mut world = World::new();
    world.settle();
    world.observed.delivery_known = false;
    world
        .observed
        .children
        .retain(|child| child.kind != ChildKind::DeliverySecret);
    assert_eq!(world.look().1.step, Step::Rest);
    world.observed.delivery_known = true;
    assert!(matches!(world.look().1.step, Step::Close(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Over any history of waiting, dying half-way, tampering, suspension, revocation and uninstallation: an ended grant's plan never
    /// issues and comes to hold nothing; an active one comes to hold everything; while Wayleave is being uninstalled nothing is
    /// issued, and at rest no finalizer is left; at rest, planning again changes nothing; the next look is never after the next change; no name is used twice (the world asserts that).
    #[test]
    fn the_plan_keeps_its_laws(
        history in prop::collection::vec((0usize..8, 0usize..8, 1i64..400_000), 1..14),
        preferred in any::<bool>(),
        is_static in any::<bool>(),
    ) {
        let mut world = if is_static { World::of_static_credential() } else { World::new() };
        if preferred {
            world.policies[0].spec.limits.hard_expiry = HardExpiry::Preferred;
        }
        for (what, limit, wait) in history {
            match what {
                0 => world.now = world.now.plus(wait),
                1 => { world.observed.children.pop(); }
                2 => world.grant.spec.suspend = !world.grant.spec.suspend,
                3 => world.observed.rotate_requested = Some(wait.to_string()),
                4 => world.now = world.grant.spec.expires_at.plus(-wait % 1_000),
                6 => world.uninstalling = world.uninstalling.xor(Some("the marker is there")),
                5 => if let Some(child) = world.observed.children.first_mut() { child.content.push('x') },
                _ => {}
            }
            let (verdict, plan) = world.look();
            prop_assert!(world.uninstalling.is_none() || verdict.access == Access::Inactive);
            if verdict.access == Access::Inactive {
                prop_assert!(!matches!(plan.step, Step::Issue(_) | Step::Rotate(_)));
            }
            if let Some(next) = verdict.next_change {
                prop_assert!(world.now.plus(plan.again_in) <= next.plus(1).max(world.now.plus(1)));
            }
            prop_assert!(plan.again_in >= 1);
            let mut shuffled = world.observed.clone();
            shuffled.children.reverse();
            std::mem::swap(&mut world.observed, &mut shuffled);
            prop_assert_eq!(&world.look().1, &plan);
            std::mem::swap(&mut world.observed, &mut shuffled);
            world.turn(limit);
        }
        world.settle();
        let (verdict, again) = world.look();
        prop_assert_eq!(&again.step, &Step::Rest);
        prop_assert_eq!(Some(&again.status), world.grant.status.as_ref(), "a second look writes nothing");
        prop_assert!(world.uninstalling.is_none() || !world.observed.finalizer, "nothing is held");
        let bindings = world.of_kind(ChildKind::RoleBinding);
        if verdict.access == Access::Inactive {
            prop_assert!(world.observed.children.is_empty() && !world.is_active());
        } else {
            prop_assert_eq!(bindings == 1, world.is_active());
        }
    }
}

#[test]
fn steps_are_told_apart_in_one_word_each() {
    let issue = Issue {
        activation: 1,
        token: None,
        until: at("2027-01-01T00:00:00Z"),
        add_finalizer: false,
    };
    let steps = [
        (Step::Rest, "rest"),
        (Step::Close(Vec::new()), "close"),
        (Step::Issue(issue), "issue"),
        (Step::Retire(Vec::new()), "retire"),
        (Step::Finish, "finish"),
    ];
    for (step, word) in steps {
        assert_eq!(step.as_str(), word);
    }
}
