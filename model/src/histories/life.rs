//! One grant and everything around it, changed step by step.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use wayleave::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessOwner, AccessPolicy, ChildKind, ChildRef, Decision, HardExpiry, Instant,
    PartnerIntegration, SubjectKind, Uid,
};
use wayleave::domain::admission::Proofs;
use wayleave::domain::approval::Confirmation;
use wayleave::domain::digest::digest;
use wayleave::domain::ownership::Owners;
use wayleave::domain::verdict::{Facts, Namespace, Verdict, decide};
use wayleave::plan::children::Site;
use wayleave::plan::{Child, Minted, Observed, Plan, Step, issued, plan, rotated};

use crate::fixtures::{self, at};
use crate::objects::IDENTITIES;

/// What may happen to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    Wait,
    WaitForAnEnd,
    LocalClockJumps,
    Approve,
    ApproveWhatIsToCome,
    ApproveByTheRequester,
    Deny,
    Revoke,
    RevokeTheIntegration,
    Withdraw,
    OwnerLeaves,
    OwnerReturns,
    OwnerRests,
    OwnerHasALastDay,
    IntegrationGoesOrComes,
    SuspendOrResume,
    SuspendOrResumeIntegration,
    ChangeTicket,
    ChangeAccess,
    ChangeExpiry,
    ChangeAgreement,
    ChangeReview,
    AskForRotation,
    PolicyGoesOrComes,
    PolicyHardens,
    NamespaceEnrols,
    AdmissionUnproved,
    ChildVanishes,
    ChildIsAltered,
    SecretIsWritten,
    ChildIsReplaced,
    Delete,
}

use Happening::*;

pub(super) static DECISIONS: &[Happening] = &[
    Wait,
    WaitForAnEnd,
    Approve,
    Approve,
    ApproveWhatIsToCome,
    ApproveByTheRequester,
    Deny,
    Revoke,
    RevokeTheIntegration,
    Withdraw,
    ChangeTicket,
    ChildVanishes,
];
pub(super) static OWNERS: &[Happening] = &[
    Wait,
    WaitForAnEnd,
    Approve,
    Approve,
    Revoke,
    OwnerLeaves,
    OwnerReturns,
    OwnerRests,
    OwnerHasALastDay,
    IntegrationGoesOrComes,
    ChangeTicket,
    ChangeAccess,
    Delete,
];
pub(super) static CLOCKS: &[Happening] = &[
    Wait,
    Wait,
    WaitForAnEnd,
    LocalClockJumps,
    LocalClockJumps,
    Approve,
    Revoke,
    AskForRotation,
    ChangeExpiry,
    ChangeAgreement,
    ChangeReview,
    OwnerHasALastDay,
    PolicyHardens,
];
pub(super) static EVERYTHING: &[Happening] = &[
    Wait,
    WaitForAnEnd,
    LocalClockJumps,
    Approve,
    Approve,
    ApproveWhatIsToCome,
    Deny,
    Revoke,
    Withdraw,
    OwnerLeaves,
    OwnerReturns,
    IntegrationGoesOrComes,
    SuspendOrResume,
    SuspendOrResumeIntegration,
    ChangeAccess,
    ChangeExpiry,
    AskForRotation,
    PolicyGoesOrComes,
    PolicyHardens,
    NamespaceEnrols,
    AdmissionUnproved,
    ChildVanishes,
    ChildIsAltered,
    SecretIsWritten,
    ChildIsReplaced,
    Delete,
];

static INTEGRATION: LazyLock<PartnerIntegration> = LazyLock::new(fixtures::integration);
static GRANT: LazyLock<AccessGrant> = LazyLock::new(fixtures::grant);
/// What it permits is only what the grant may ask for: a wider ceiling takes longer to compare with.
static POLICY: LazyLock<AccessPolicy> = LazyLock::new(|| {
    let mut policy = fixtures::policy();
    for rule in &mut policy.spec.access.rules {
        rule.api_groups.truncate(1);
        rule.resources.truncate(1);
    }
    policy
});
static DECISION: LazyLock<AccessDecision> = LazyLock::new(|| {
    fixtures::decision(
        "one",
        "Approve",
        "dave@corp.example",
        "sha256:0",
        "2026-12-02T00:00:00Z",
    )
});
static PROOFS: LazyLock<Proofs> = LazyLock::new(|| Proofs::since(at("2020-01-01T00:00:00Z")));
const DAY: i64 = 86_400;

/// A token that was minted, and for whom.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) account: String,
    pub(super) anchor: String,
    pub(super) issued: Instant,
    pub(super) expires: Instant,
    /// When access was to end, where it ends by itself.
    pub(super) until: Option<Instant>,
}

/// The grant's life so far.
pub(super) struct Life {
    /// The API server's time, which never goes back.
    pub(super) server: Instant,
    /// How far local time is ahead of it.
    pub(super) ahead: i64,
    pub(super) grant: AccessGrant,
    pub(super) integration: Option<PartnerIntegration>,
    pub(super) owners: BTreeMap<&'static str, AccessOwner>,
    pub(super) deleted_owners: HashSet<String>,
    pub(super) decisions: Vec<AccessDecision>,
    pub(super) policies: Vec<AccessPolicy>,
    pub(super) enrolled: bool,
    pub(super) proved: bool,
    pub(super) observed: Observed,
    /// Of each binding, the latest Deny or Revoke that its maker knew.
    pub(super) last_no: BTreeMap<String, Option<Instant>>,
    pub(super) tokens: Vec<Token>,
    /// The token in the delivery Secret.
    pub(super) delivered: Option<usize>,
    pub(super) generations: BTreeSet<(i64, i64)>,
    pub(super) names: BTreeSet<(ChildKind, String)>,
    pub(super) foreign: BTreeSet<String>,
    /// Integrations that are not there for the moment.
    away: Option<PartnerIntegration>,
    made: u32,
}

impl Life {
    pub(super) fn new() -> Self {
        let mut life = Self {
            server: at("2026-12-02T00:00:00Z"),
            ahead: 0,
            grant: GRANT.clone(),
            integration: Some(INTEGRATION.clone()),
            owners: ["alice", "bob"].map(|name| (name, fixtures::owner(name))).into(),
            deleted_owners: HashSet::new(),
            decisions: Vec::new(),
            policies: vec![POLICY.clone()],
            enrolled: true,
            proved: true,
            observed: Observed {
                delivery_known: true,
                ..Observed::default()
            },
            last_no: BTreeMap::new(),
            tokens: Vec::new(),
            delivered: None,
            generations: BTreeSet::new(),
            names: BTreeSet::new(),
            foreign: BTreeSet::new(),
            away: None,
            made: 0,
        };
        life.decide(Decision::Approve, "dave@corp.example");
        life
    }

    pub(super) fn now(&self) -> Instant {
        self.server.plus(self.ahead)
    }

    fn number(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    /// What an approval would be of. What was worked out once is kept: of all that it covers these alone change here.
    fn digest(&self) -> String {
        type Covered = (Option<String>, usize, Instant, Option<Instant>);
        thread_local! {
            static DIGESTS: RefCell<HashMap<Covered, String>> = RefCell::default();
        }
        let integration = self.integration.as_ref().unwrap_or(&INTEGRATION);
        let spec = &self.grant.spec;
        let verbs = spec.access[0].rules.iter().flatten().map(|rule| rule.verbs.len()).sum();
        let ticket = spec.ticket.as_ref().map(|ticket| ticket.0.clone());
        let covered = (ticket, verbs, spec.expires_at, integration.spec.agreement.ends_at);
        DIGESTS.with_borrow_mut(|digests| {
            let found = digests.entry(covered).or_insert_with(|| {
                let targets = [("payments".to_owned(), "uid-of-payments".to_owned())].into();
                digest(integration, &self.grant, &targets).digest
            });
            found.clone()
        })
    }

    /// Somebody decides, in a second of its own or in that of the decision before.
    fn decide(&mut self, word: Decision, by: &str) {
        let mut decision = DECISION.clone();
        let name = format!("decision-{}", self.number());
        decision.metadata.uid = Some(format!("uid-of-{name}"));
        decision.metadata.name = Some(name);
        decision.metadata.creation_timestamp = Some(Time(self.server.timestamp()));
        decision.spec.decision = word;
        decision.spec.decided_by = Some(by.into());
        decision.spec.digest = (word == Decision::Approve).then(|| self.digest().as_str().into());
        self.decisions.push(decision);
    }

    pub(super) fn happens(&mut self, happening: Happening, how: u32) {
        let (low, wide) = (i64::from(how % 7), i64::from(how));
        let owner = if how.is_multiple_of(2) { "alice" } else { "bob" };
        // Several things can happen within one second.
        self.server = self.server.plus(low.min(2));
        let day = |days: i64| at("2026-12-02T00:00:00Z").plus(days * DAY);
        match happening {
            Wait => {
                self.server = self
                    .server
                    .plus(1 + wide % [60, 700, 4_000, 40_000, 900_000][how as usize % 5])
            }
            WaitForAnEnd => {
                let end = self.grant.status.as_ref().and_then(|status| status.active_until);
                let end = end.unwrap_or(self.grant.spec.expires_at).plus(wide % 1_600 - 800);
                self.server = self.server.max(end);
            }
            LocalClockJumps => {
                self.ahead = [0, 0, 1, -29, 31, -60, 3_600, -3_600, 90_000, -300_000_000][how as usize % 10]
            }
            Approve => self.decide(
                Decision::Approve,
                if how.is_multiple_of(3) {
                    "erin@corp.example"
                } else {
                    "dave@corp.example"
                },
            ),
            ApproveWhatIsToCome => {
                let before = self.grant.spec.ticket.replace("CHG-2".into());
                self.decide(Decision::Approve, "dave@corp.example");
                self.grant.spec.ticket = before;
            }
            ApproveByTheRequester => self.decide(Decision::Approve, "carol@corp.example"),
            Deny => self.decide(Decision::Deny, "erin@corp.example"),
            Revoke => self.decide(Decision::Revoke, "erin@corp.example"),
            RevokeTheIntegration => {
                self.decide(Decision::Revoke, "erin@corp.example");
                if let Some(decision) = self.decisions.last_mut() {
                    decision.spec.subject.kind = SubjectKind::PartnerIntegration;
                    decision.spec.subject.name = "acme-billing".into();
                    decision.spec.subject.uid = INTEGRATION.metadata.uid.clone().map(Uid);
                }
            }
            Withdraw => {
                if let Some(place) = self.decisions.iter().position(laws_approve) {
                    self.decisions.remove(place);
                }
            }
            OwnerLeaves => {
                if let Some(gone) = self.owners.remove(owner) {
                    self.deleted_owners.extend(gone.metadata.uid);
                }
            }
            OwnerReturns => {
                if !self.owners.contains_key(owner) {
                    let mut anew = fixtures::owner(owner);
                    anew.metadata.uid = Some(format!("uid-of-{owner}-{}", self.number()));
                    anew.metadata.creation_timestamp = Some(Time(self.server.timestamp()));
                    self.owners.insert(owner, anew);
                }
            }
            // It can't be undone.
            OwnerRests => {
                if let Some(owner) = self.owners.get_mut(owner).filter(|_| how.is_multiple_of(4)) {
                    owner.spec.active = false;
                }
            }
            OwnerHasALastDay => {
                let end = self.server.plus(wide % 10_000 - 300);
                if let Some(owner) = self.owners.get_mut(owner) {
                    owner.spec.until = (!how.is_multiple_of(5)).then_some(end);
                }
            }
            IntegrationGoesOrComes => match self.integration.take() {
                Some(there) => self.away = Some(there),
                None => self.integration = self.away.take(),
            },
            SuspendOrResume => self.grant.spec.suspend = !self.grant.spec.suspend,
            SuspendOrResumeIntegration => {
                if let Some(integration) = &mut self.integration {
                    integration.spec.suspend = !integration.spec.suspend;
                }
            }
            ChangeTicket => {
                self.grant.spec.ticket = Some(if how.is_multiple_of(2) { "CHG-2" } else { "CHG-4711" }.into())
            }
            ChangeAccess => {
                let verbs = if how.is_multiple_of(2) {
                    vec!["get".into(), "list".into()]
                } else {
                    vec!["get".into()]
                };
                let rules = self.grant.spec.access[0].rules.iter_mut().flatten();
                rules.for_each(|rule| rule.verbs.clone_from(&verbs));
            }
            ChangeExpiry => self.grant.spec.expires_at = day(1 + wide % 60),
            ChangeAgreement => {
                if let Some(integration) = &mut self.integration {
                    integration.spec.agreement.ends_at = (!how.is_multiple_of(3)).then(|| day(wide % 60));
                }
            }
            ChangeReview => {
                if let Some(integration) = &mut self.integration {
                    let interval = ["1h", "1d", "30d", "90d"][how as usize % 4];
                    integration.spec.review.interval = interval.parse().unwrap();
                }
            }
            AskForRotation => self.observed.rotate_requested = Some(how.to_string()),
            PolicyGoesOrComes => {
                if self.policies.pop().is_none() {
                    self.policies.push(POLICY.clone());
                }
            }
            PolicyHardens => {
                let to = if how.is_multiple_of(2) {
                    HardExpiry::Preferred
                } else {
                    HardExpiry::Required
                };
                self.policies
                    .iter_mut()
                    .for_each(|policy| policy.spec.limits.hard_expiry = to);
            }
            NamespaceEnrols => self.enrolled = !self.enrolled,
            AdmissionUnproved => self.proved = !self.proved,
            ChildVanishes => {
                if !self.observed.children.is_empty() {
                    let place = how as usize % self.observed.children.len();
                    self.observed.children.remove(place);
                }
            }
            ChildIsAltered => {
                let roles = self.observed.children.iter_mut();
                let mut roles = roles.filter(|it| matches!(it.kind, ChildKind::Role | ChildKind::RoleBinding));
                if let Some(child) = roles.nth(how as usize % 2) {
                    child.content.push('x');
                }
            }
            SecretIsWritten => {
                let mut secrets = self.observed.children.iter_mut();
                if let Some(secret) = secrets.find(|it| it.kind == ChildKind::DeliverySecret) {
                    secret.foreign_writer = Some("kubectl-edit".to_owned());
                }
            }
            ChildIsReplaced => {
                // What stands in its place is somebody else's: the index doesn't tell of it.
                if let Some(place) = (how as usize).checked_rem(self.observed.children.len()) {
                    self.foreign.insert(self.observed.children[place].uid.clone());
                    self.observed.children.remove(place);
                }
            }
            Delete => {
                if how.is_multiple_of(3) && self.grant.metadata.deletion_timestamp.is_none() {
                    self.grant.metadata.deletion_timestamp = Some(Time(self.server.timestamp()));
                }
            }
        }
    }

    /// Asks the core.
    pub(super) fn look(&self) -> (Verdict, Plan) {
        self.with_facts(|facts| {
            let verdict = decide(facts);
            let plan = plan(facts, &verdict, &self.observed, IDENTITIES);
            (verdict, plan)
        })
    }

    fn with_facts<T>(&self, with: impl FnOnce(&Facts<'_>) -> T) -> T {
        let owners: Owners<'_> = self.owners.iter().map(|(name, owner)| (*name, owner)).collect();
        let confirmations = self.decisions.iter();
        let confirmations = confirmations
            .map(|it| (it.metadata.uid.clone().unwrap(), Confirmation::Allowed))
            .collect();
        let decisions: Vec<&AccessDecision> = self.decisions.iter().collect();
        let policies: Vec<&AccessPolicy> = self.policies.iter().collect();
        let payments = Namespace {
            uid: "uid-of-payments".to_owned(),
            labels: [("partners.example/allowed".to_owned(), "true".to_owned())].into(),
            enrolled: self.enrolled,
            terminating: false,
        };
        with(&Facts {
            now: self.now(),
            grant: &self.grant,
            integration: self.integration.as_ref(),
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
            proofs: Some(&PROOFS),
            other_rights: None,
            static_credential: None,
            uninstalling: None,
            clock_skew: (self.ahead.abs() > 30).then_some(self.ahead),
        })
    }

    /// One look and what follows, up to so many writes: with fewer than it takes, the process dies.
    pub(super) fn turn(&mut self, limit: usize) -> Result<(), String> {
        let (verdict, plan) = self.look();
        self.carry_out(limit, &verdict, &plan)
    }

    pub(super) fn carry_out(&mut self, limit: usize, verdict: &Verdict, plan: &Plan) -> Result<(), String> {
        self.holds(verdict, plan)?;
        match plan.step.clone() {
            Step::Rest => self.grant.status = Some(plan.status.clone()),
            Step::Finish => self.observed.finalizer = false,
            Step::Close(children) | Step::Retire(children) => {
                for child in children.iter().take(limit) {
                    self.observed.children.retain(|it| it.uid != child.uid);
                    self.observed.unseen.retain(|it| it.uid != child.uid);
                }
                if limit >= children.len() {
                    self.grant.status = Some(plan.status.clone());
                }
            }
            Step::Issue(issue) => {
                let token = issue.token.ok_or("no token for a grant of tokens")?;
                self.observed.finalizer = true;
                self.grant.status = Some(plan.status.clone());
                let site = Site {
                    grant: &self.grant,
                    activation: issue.activation,
                    identities: IDENTITIES,
                };
                let mut wanted = site.expected(&[1]);
                wanted.sort_by_key(|it| std::cmp::Reverse(it.kind));
                // In the order of the shell: the identity, roles, the anchor, the delivery, and the bindings last.
                let rank = |kind| match kind {
                    ChildKind::Role => 0,
                    ChildKind::ServiceAccount => 1,
                    ChildKind::Anchor => 2,
                    ChildKind::DeliverySecret => 3,
                    ChildKind::RoleBinding => 4,
                };
                wanted.sort_by_key(|it| rank(it.kind));
                let complete = limit > wanted.len();
                let mut children: Vec<Child> = Vec::new();
                for want in wanted.into_iter().take(limit) {
                    self.is_new(want.kind, &want.name)?;
                    let child = self.make(want.kind, want.namespace, want.name, want.content);
                    children.push(child);
                    if want.kind == ChildKind::DeliverySecret {
                        let uid_of = |kind| children.iter().find(|it| it.kind == kind).map(|it| it.uid.clone());
                        let (account, anchor) = (uid_of(ChildKind::ServiceAccount), uid_of(ChildKind::Anchor));
                        let until = token.hard.then_some(issue.until);
                        self.mint(account, anchor, token.seconds, until);
                        self.deliver(issue.activation, 1)?;
                    }
                    if want.kind == ChildKind::RoleBinding {
                        let uid = children.last().map(|it| it.uid.clone()).unwrap_or_default();
                        self.last_no
                            .insert(uid, plan.status.denied_at.max(plan.status.revoked_at));
                    }
                }
                if complete {
                    let minted = self.minted(token.seconds);
                    let children = children.iter().map(record).collect();
                    let status = issued(&plan.status, verdict, issue.until, Some(&minted), children, self.now());
                    self.grant.status = Some(status);
                }
            }
            Step::Rotate(rotate) => {
                self.grant.status = Some(plan.status.clone());
                let activation = plan.status.identity.as_ref().map_or(0, |identity| identity.activation);
                let site = Site {
                    grant: &self.grant,
                    activation,
                    identities: IDENTITIES,
                };
                let name = site.anchor(rotate.generation);
                if limit > 0 {
                    self.is_new(ChildKind::Anchor, &name)?;
                    let anchor = self.make(ChildKind::Anchor, IDENTITIES.to_owned(), name, String::new());
                    let recorded = plan.status.children.iter();
                    let mut recorded = recorded.filter(|it| it.kind == ChildKind::ServiceAccount);
                    let account = recorded.next().map(|it| it.uid.clone());
                    let until = rotate.token.hard.then_some(rotate.until);
                    self.mint(account, Some(anchor.uid.clone()), rotate.token.seconds, until);
                    if limit > 1 {
                        self.deliver(activation, rotate.generation)?;
                        self.observed
                            .children
                            .iter_mut()
                            .for_each(|child| child.foreign_writer = None);
                    }
                    if limit > 2 {
                        let minted = self.minted(rotate.token.seconds);
                        let status = rotated(
                            &plan.status,
                            verdict,
                            rotate.until,
                            &minted,
                            record(&anchor),
                            rotate.answers,
                            self.now(),
                        );
                        self.grant.status = Some(status);
                    }
                }
            }
        }
        self.see_what_is_recorded();
        Ok(())
    }

    /// A recorded delivery Secret that nobody sees is told of by its record.
    fn see_what_is_recorded(&mut self) {
        let recorded = self.grant.status.iter().flat_map(|status| &status.children);
        let recorded = recorded.filter(|it| it.kind == ChildKind::DeliverySecret);
        let children = &self.observed.children;
        let unseen = recorded.filter(|it| !children.iter().any(|child| child.uid == it.uid));
        self.observed.unseen = unseen.cloned().map(Child::from).collect();
    }

    fn make(&mut self, kind: ChildKind, namespace: String, name: String, content: String) -> Child {
        let uid = format!("uid-{}", self.number());
        // A delivery Secret that is in the way would be a conflict; here it was taken away by hand before.
        self.observed
            .children
            .retain(|it| !(it.kind == kind && it.namespace == namespace && it.name == name));
        let child = Child {
            kind,
            namespace,
            name,
            uid,
            content,
            foreign_writer: None,
        };
        self.observed.children.push(child.clone());
        child
    }

    fn mint(&mut self, account: Option<String>, anchor: Option<String>, seconds: i64, until: Option<Instant>) {
        self.tokens.push(Token {
            account: account.unwrap_or_default(),
            anchor: anchor.unwrap_or_default(),
            issued: self.now(),
            expires: self.minted(seconds).expires_at,
            until,
        });
    }

    /// The shell asks for less where the server's clock is ahead.
    fn minted(&self, seconds: i64) -> Minted {
        Minted {
            issued_at: self.now(),
            expires_at: self.now().plus(seconds),
            credential_id: None,
        }
    }
}

fn laws_approve(decision: &AccessDecision) -> bool {
    super::laws::is_approval(decision)
}

fn record(child: &Child) -> ChildRef {
    ChildRef {
        kind: child.kind,
        namespace: child.namespace.clone(),
        name: child.name.clone(),
        uid: child.uid.clone(),
    }
}
