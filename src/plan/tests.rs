//! Laws of the plan, over whole histories: a world applies each step, stops it half-way, or is altered by hand.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::children::Site;
use super::{Child, Minted, Observed, Plan, Step, issued, plan, rotated, rotation_asked};
use crate::api::conditions::types;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessPolicy, ChildKind, ChildRef, HardExpiry, Instant, PartnerIntegration,
};
use crate::domain::admission::Proofs;
use crate::domain::approval::Confirmation;
use crate::domain::digest::digest;
use crate::domain::fixtures::{at, decision, grant, integration, owner, policy};
use crate::domain::ownership::Owners;
use crate::domain::verdict::{Access, Facts, Namespace, Verdict, decide};

const IDENTITIES: &str = "wayleave-identities";

struct World {
    now: Instant,
    grant: AccessGrant,
    integration: PartnerIntegration,
    decisions: Vec<AccessDecision>,
    policies: Vec<AccessPolicy>,
    observed: Observed,
    made: u32,
    names: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        let (grant, integration) = (grant(), integration());
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
            policies: vec![policy()],
            observed: Observed {
                delivery_known: true,
                ..Observed::default()
            },
            made: 0,
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
            cluster_roles: &BTreeMap::new(),
            reserved_namespaces: &BTreeSet::new(),
            delivery_secrets: &BTreeMap::new(),
            earlier_siblings: 0,
            admission_proved: true,
            proofs: Some(&Proofs::since(at("2020-01-01T00:00:00Z"))),
            other_rights: None,
            clock_skew: None,
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
                    let minted = self.mint(issue.token.seconds);
                    let status = issued(
                        grant.status.as_ref().unwrap(),
                        &verdict,
                        issue.until,
                        &minted,
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
    world.settle();
    assert!(!world.is_active() && world.observed.children.is_empty());
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
fn a_request_for_rotation_is_cut_to_what_a_status_holds() {
    assert_eq!(rotation_asked("2026-12-01T00:00:00Z"), "2026-12-01T00:00:00Z");
    assert_eq!(rotation_asked(&"ä".repeat(30_000)), "ä".repeat(256));
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
    world.now = world.now.plus(3_000);
    let role = world
        .observed
        .children
        .iter_mut()
        .find(|child| child.kind == ChildKind::Role)
        .unwrap();
    role.content = "wider".to_owned();
    world.settle();
    assert!(world.is_active(), "long after the last: at once");
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

    /// Over any history of waiting, dying half-way, tampering, suspension and revocation: an ended grant's plan never
    /// issues and comes to hold nothing; an active one comes to hold everything; at rest, planning again changes nothing;
    /// the next look is never after the next change; no name is used twice (the world asserts that).
    #[test]
    fn the_plan_keeps_its_laws(history in prop::collection::vec((0usize..7, 0usize..8, 1i64..400_000), 1..14), preferred in any::<bool>()) {
        let mut world = World::new();
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
                5 => if let Some(child) = world.observed.children.first_mut() { child.content.push('x') },
                _ => {}
            }
            let (verdict, plan) = world.look();
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
        let bindings = world.of_kind(ChildKind::RoleBinding);
        if verdict.access == Access::Inactive {
            prop_assert!(world.observed.children.is_empty() && !world.is_active());
        } else {
            prop_assert_eq!(bindings == 1, world.is_active());
        }
    }
}
