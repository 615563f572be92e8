//! Chooses the one next step.

use super::children::{Expected, Site};
use super::{Child, Issue, LOOK_AGAIN, Observed, Plan, REACTIVATE_AFTER, Rotate, Step, summary};
use crate::api::conditions::{FOUND, Reason, types};
use crate::api::v1alpha1::{AccessGrantStatus, ChildKind, CredentialStatus, Identity, Instant, PreviousCredential};
use crate::domain::conditions::{self, Desired};
use crate::domain::digest::CREDENTIAL;
use crate::domain::verdict::{Access, Facts, Verdict};
use crate::domain::{lifetime, names, ownership};

/// The next step towards what the verdict says, from what is there. The order of children doesn't matter.
#[must_use]
pub fn plan(facts: &Facts<'_>, verdict: &Verdict, observed: &Observed, identities: &str) -> Plan {
    let planner = Planner {
        facts,
        verdict,
        observed,
        identities,
    };
    match &verdict.access {
        Access::Inactive => planner.close_down(),
        Access::Active {
            until,
            hard_expiry,
            hold,
            ..
        } => {
            let hold = hold.as_ref();
            let live = verdict
                .kept
                .status
                .identity
                .as_ref()
                .filter(|identity| identity.activated_at.is_some());
            match live {
                Some(identity) => planner.keep(identity, *until, *hard_expiry, hold),
                None => planner.begin(*until, *hard_expiry),
            }
        }
    }
}

struct Planner<'a> {
    facts: &'a Facts<'a>,
    verdict: &'a Verdict,
    observed: &'a Observed,
    identities: &'a str,
}

impl Planner<'_> {
    /// Nothing is minted, delivered or rotated: the credential is somebody else's.
    fn is_static(&self) -> bool {
        self.facts.grant.static_credential().is_some()
    }

    fn close_down(&self) -> Plan {
        let mut status = self.verdict.kept.status.clone();
        if self.verdict.reason == Reason::IdentityMissing {
            // Whoever makes and deletes what it is for must not keep us busy.
            status.not_before = self.not_before(&status).or(status.not_before);
        }
        forget_access(&mut status);
        let deleting = self.facts.grant.metadata.deletion_timestamp.is_some();
        // A grant that stays is let go too: by the time it is deleted nobody may be there to do so.
        let still_working = self.still_working();
        let drained = self.facts.uninstalling.is_some() && still_working.is_none();
        let let_go = (deleting || drained) && self.observed.finalizer;
        let leftovers = self.leftovers();
        let step = match (leftovers.is_empty(), let_go) {
            (false, _) => Step::Close(leftovers),
            (true, true) => Step::Finish,
            (true, false) => Step::Rest,
        };
        let (mut reason, mut message) = (self.verdict.reason, self.verdict.message.clone());
        if let Some(left) = still_working {
            // Of a grant that is deleted the garbage collector takes them: they lie in its namespace.
            reason = if deleting { reason } else { Reason::RevocationFailed };
            message = format!("{message}; {left}");
        }
        if let Some(residue) = self.residue() {
            message = format!("{message}; {residue}");
        }
        self.done(step, status, reason, &message)
    }

    /// No activation stands: what an interrupted one left goes first.
    fn begin(&self, until: Instant, hard_expiry: bool) -> Plan {
        let mut status = self.verdict.kept.status.clone();
        let leftovers = self.leftovers();
        if !leftovers.is_empty() {
            forget_access(&mut status);
            return self.done(
                Step::Close(leftovers),
                status,
                Reason::Issuing,
                "what an interrupted activation left is taken away",
            );
        }
        if let Some(not_before) = status.not_before.filter(|at| self.facts.now < *at) {
            forget_access(&mut status);
            let words = format!("the last activation ended before its time: a new one begins at {not_before}");
            return self.done(Step::Rest, status, Reason::Issuing, &words);
        }
        let grant = self.facts.grant;
        let is_static = self.is_static();
        let lifetime = grant.token().lifetime.as_seconds();
        let token = lifetime::ask(self.facts.now, until, lifetime, hard_expiry).filter(|_| !is_static);
        if token.is_none() && !(is_static && lifetime::may_issue(self.facts.now, until)) {
            forget_access(&mut status);
            return self.done(
                Step::Rest,
                status,
                Reason::TooShort,
                "too little time is left for a credential",
            );
        }
        let activation = status.activations.max(0) + 1;
        let site = Site {
            grant,
            activation,
            identities: self.identities,
        };
        let (secret_namespace, secret_name) = site.delivery();
        let (namespace, service_account) = site.identity();
        status.activations = activation;
        status.children = Vec::new();
        status.not_before = None;
        status.identity = Some(Identity {
            namespace,
            service_account,
            activation,
            digest: status.digest.clone().unwrap_or_default(),
            owner_uids: self
                .facts
                .integration
                .map(|it| ownership::uids(it, self.facts.owners))
                .unwrap_or_default(),
            claimed_at: self.facts.now,
            activated_at: None,
        });
        status.credential = Some(CredentialStatus {
            generation: i64::from(!is_static),
            delivered_generation: 0,
            secret_namespace,
            secret_name,
            issued_at: None,
            expires_at: None,
            rotates_at: None,
            credential_id: None,
            spec_hash: status.digest_sections.get(CREDENTIAL).cloned().unwrap_or_default(),
            hard_expiry: token.is_some_and(|token| token.hard),
            previous: None,
        });
        let issue = Issue {
            activation,
            token,
            until,
            add_finalizer: !self.observed.finalizer,
        };
        self.done(Step::Issue(issue), status, Reason::Issuing, "access is being made")
    }

    /// An activation stands: it is left alone, rotated, or ended when it is not what it should be.
    fn keep(&self, identity: &Identity, until: Instant, hard_expiry: bool, hold: Option<&(Reason, String)>) -> Plan {
        let mut status = self.verdict.kept.status.clone();
        // The end may have moved since the token was issued, as it does when an approval is renewed.
        if let Some(credential) = &mut status.credential
            && let (Some(issued), Some(expires)) = (credential.issued_at, credential.expires_at)
        {
            credential.rotates_at = lifetime::rotates_at(issued, expires, until);
            // Said of one that isn't any more only while another token can take its place.
            credential.hard_expiry = lifetime::is_hard(expires, until)
                || credential.hard_expiry && lifetime::may_issue(self.facts.now, until);
        }
        let Some(credential) = status.credential.clone() else {
            return self.end_activation(status, "the credential is not on record", false);
        };
        let site = Site {
            grant: self.facts.grant,
            activation: identity.activation,
            identities: self.identities,
        };
        let delivered = credential.delivered_generation;
        let expected = site.expected(&[delivered]);
        let changed = status.digest.as_deref() != Some(identity.digest.as_str());
        if let Some(drift) = self.drift(&expected) {
            return self.end_activation(status, &drift, !changed);
        }
        if site.delivery() != (credential.secret_namespace.clone(), credential.secret_name.clone()) {
            return self.end_activation(status, "the credential is to be delivered elsewhere", false);
        }
        let retired = self.retired(&site, &credential, &expected);
        if !retired.is_empty() {
            // Not worth a write of status: its `previous` has a date, and the next credential replaces it.
            return self.done(Step::Retire(retired), status, Reason::Issued, &self.verdict.message);
        }
        match (self.why_rotate(&credential, until), hold) {
            (Some(asked), None) => self.rotate(status, credential, until, hard_expiry, asked),
            // Said once a new one is due: a passing trouble is no reason to write to every live grant.
            (Some(_), Some((_, words))) => {
                let message = format!("{}; no new credential: {words}", self.verdict.message);
                self.done(Step::Rest, status, Reason::Issued, &message)
            }
            (None, _) => self.done(Step::Rest, status, Reason::Issued, &self.verdict.message),
        }
    }

    fn rotate(
        &self,
        mut status: AccessGrantStatus,
        credential: CredentialStatus,
        until: Instant,
        hard_expiry: bool,
        at_once: bool,
    ) -> Plan {
        let lifetime = self.facts.grant.token().lifetime.as_seconds();
        let ask = |hard_expiry| lifetime::ask(self.facts.now, until, lifetime, hard_expiry);
        // Where the end came nearer than the shortest token, that is still better than the longer one that is there.
        let softer = || ask(false).filter(|_| outlives(&credential, until));
        let Some(token) = ask(hard_expiry).or_else(softer) else {
            return self.done(Step::Rest, status, Reason::Issued, &self.verdict.message);
        };
        let now = self.facts.now;
        let retire_at = match (at_once, credential.issued_at, credential.expires_at) {
            (false, Some(issued), Some(expires)) => lifetime::retires_at(now, issued, expires).min(until),
            _ => now,
        };
        let generation = credential.generation + 1;
        let uid = self.facts.grant.metadata.uid.as_deref().unwrap_or_default();
        let activation = status.identity.as_ref().map_or(0, |identity| identity.activation);
        let delivered = names::anchor(uid, activation, credential.delivered_generation);
        status
            .children
            .retain(|child| child.kind != ChildKind::Anchor || child.name == delivered);
        let previous = PreviousCredential {
            generation: credential.delivered_generation,
            retire_at,
        };
        status.credential = Some(CredentialStatus {
            generation,
            previous: Some(previous),
            ..credential
        });
        let answers = self.observed.rotate_requested.clone();
        let rotate = Rotate {
            answers,
            generation,
            token,
            until,
            retire_at,
        };
        self.done(Step::Rotate(rotate), status, Reason::Rotating, &self.verdict.message)
    }

    /// Whether a rotation is due; true for one that leaves no overlap.
    fn why_rotate(&self, credential: &CredentialStatus, until: Instant) -> Option<bool> {
        if self.is_static() {
            return None;
        }
        let status = &self.verdict.kept.status;
        let asked =
            self.observed.rotate_requested.is_some() && self.observed.rotate_requested != status.last_handled_rotate_at;
        let respecified = Some(&credential.spec_hash) != status.digest_sections.get(CREDENTIAL);
        let outlives = credential.hard_expiry && outlives(credential, until);
        let tampered = self
            .tampered_until_replaced(credential)
            .is_some_and(|due| due <= self.facts.now);
        if asked || respecified || outlives || tampered {
            return Some(true);
        }
        // One that was interrupted may have delivered a token that status doesn't know of, and whose anchor goes.
        let interrupted = credential.generation > credential.delivered_generation;
        let due = credential.rotates_at.is_some_and(|due| due <= self.facts.now);
        (interrupted || due).then_some(false)
    }

    /// Somebody else wrote into the delivery Secret: when it is replaced, at most once a minute.
    fn tampered_until_replaced(&self, credential: &CredentialStatus) -> Option<Instant> {
        let is_tampered = |child: &Child| child.kind == ChildKind::DeliverySecret && child.foreign_writer.is_some();
        let earliest = credential
            .issued_at
            .map_or(self.facts.now, |issued| issued.plus(REACTIVATE_AFTER));
        self.observed.children.iter().any(is_tampered).then_some(earliest)
    }

    /// Anchors of generations that are neither delivered nor in their overlap, and what is of no activation that stands.
    ///
    /// Not those of the generation that was claimed last, and of later ones: status is written after the delivery, and what we
    /// have of it may be older. A rotation that really broke off is made again first, under another claim, and then its
    /// anchor goes.
    fn retired(&self, site: &Site<'_>, credential: &CredentialStatus, expected: &[Expected]) -> Vec<Child> {
        let overlapping = credential
            .previous
            .as_ref()
            .filter(|previous| self.facts.now < previous.retire_at);
        let kept = [
            Some(credential.delivered_generation),
            overlapping.map(|previous| previous.generation),
        ];
        let uid = self.facts.grant.metadata.uid.as_deref().unwrap_or_default();
        let is_kept = |child: &Child| {
            if child.kind == ChildKind::Anchor {
                let generation = names::generation_of(&child.name, uid, site.activation);
                return generation.is_some_and(|it| it >= credential.generation || kept.contains(&Some(it)));
            }
            let place = (child.kind, &child.namespace, &child.name);
            expected
                .iter()
                .any(|want| (want.kind, &want.namespace, &want.name) == place)
        };
        let mut all = self.sorted();
        all.retain(|child| !is_kept(child));
        all
    }

    /// What is missing or altered, in words; what is too much is retired.
    fn drift(&self, expected: &[Expected]) -> Option<String> {
        let found = &self.observed.children;
        for want in expected {
            let same = |child: &&Child| {
                child.kind == want.kind && child.namespace == want.namespace && child.name == want.name
            };
            let what = format!("{} {}/{}", want.kind, want.namespace, want.name);
            match found.iter().find(same) {
                None if want.kind == ChildKind::DeliverySecret && !self.observed.delivery_known => {}
                None => return Some(format!("{what} is gone")),
                Some(child) if child.content != want.content => return Some(format!("{what} was altered")),
                Some(child) if !self.is_recorded(child) => return Some(format!("{what} was replaced")),
                Some(_) => {}
            }
        }
        None
    }

    fn is_recorded(&self, child: &Child) -> bool {
        self.verdict
            .kept
            .status
            .children
            .iter()
            .any(|known| known.uid == child.uid)
    }

    /// Takes everything of the activation away; a new one follows after a fresh look, after drift not more than once a minute.
    fn end_activation(&self, mut status: AccessGrantStatus, why: &str, drifted: bool) -> Plan {
        let earliest = self.not_before(&status);
        forget_access(&mut status);
        status.not_before = earliest.filter(|_| drifted);
        let words = format!("{why}: the activation ends and a new one begins");
        let mut plan = self.done(Step::Close(self.leftovers()), status, Reason::Issuing, &words);
        plan.again_in = 1;
        plan
    }

    /// When the next activation may begin, where that is yet to come: at most once a minute.
    fn not_before(&self, status: &AccessGrantStatus) -> Option<Instant> {
        let claimed_at = status.identity.as_ref().map(|identity| identity.claimed_at);
        let earliest = claimed_at.map(|claimed| claimed.plus(REACTIVATE_AFTER));
        earliest.filter(|at| self.facts.now < *at)
    }

    fn done(&self, step: Step, mut status: AccessGrantStatus, reason: Reason, message: &str) -> Plan {
        let generation = self.facts.grant.metadata.generation;
        let mut desired = conditions::of_grant(reason, message);
        desired.push(self.verdict.approved.clone());
        let is_static = self.is_static();
        // Of an identity from before as soon as it may be used: before that it is nobody's business who else binds it.
        let is_concerned = status.identity.is_some() || is_static && !status.policies.is_empty();
        if let Some(words) = self.facts.other_rights.filter(|_| is_concerned) {
            desired.push(Desired::new(types::OTHER_RIGHTS, "True", FOUND, words));
        }
        let roles = self
            .verdict
            .roles_changed
            .as_ref()
            .filter(|_| status.identity.is_some());
        desired.extend(roles.map(|words| Desired::new(types::ROLES_CHANGED, "True", FOUND, words)));
        match self.facts.static_credential {
            Some(seen) if seen.unread.is_none() => {
                let finding = seen.finding.as_ref();
                desired.extend(finding.map(|words| Desired::new(types::STATIC_CREDENTIAL, "True", FOUND, words)));
            }
            // What is yet to be read is not gone.
            _ if is_static => {
                let said = conditions::findings(&status.conditions);
                desired.extend(said.filter(|it| it.type_ == types::STATIC_CREDENTIAL));
            }
            _ => {}
        }
        status.conditions = conditions::merge(&status.conditions, desired, generation, self.facts.now);
        status.observed_generation = generation;
        status.summary = Some(summary::of(self.facts, &status));
        let again_in = self.again_in(&status);
        Plan { step, status, again_in }
    }

    /// Until the next instant at which anything is due; a live grant is looked at every minute anyway.
    fn again_in(&self, status: &AccessGrantStatus) -> i64 {
        let credential = status.credential.as_ref();
        let retirement = credential
            .and_then(|credential| credential.previous.as_ref())
            .map(|previous| previous.retire_at);
        let rotation = credential.and_then(|credential| credential.rotates_at);
        let tampered = credential.and_then(|credential| self.tampered_until_replaced(credential));
        let due = [
            self.verdict.next_change,
            rotation,
            retirement,
            tampered,
            status.not_before,
        ];
        let due = due
            .into_iter()
            .flatten()
            .map(|at| at.seconds_since(self.facts.now))
            .filter(|left| *left > 0)
            .min();
        let longest = if status.identity.is_some() {
            LOOK_AGAIN
        } else {
            LOOK_AGAIN * 60
        };
        due.map_or(longest, |left| left.min(longest)).max(1)
    }

    /// Everything that is to go, in order.
    fn leftovers(&self) -> Vec<Child> {
        let mut all = self.sorted();
        all.extend(self.observed.unseen.iter().cloned());
        all.sort();
        all
    }

    /// Bindings of a static credential that can't be taken away, in words: its holder goes on using them.
    fn still_working(&self) -> Option<String> {
        let is_working = |child: &Child| child.kind == ChildKind::RoleBinding && names::is_static_access(&child.name);
        let left = self.beyond_reach(is_working)?;
        Some(format!(
            "left behind where the operator has no rights, and still giving access to a static credential: {left}; delete it, or enrol the namespace again"
        ))
    }

    /// What else can't be taken away, in words. It names an identity that is gone, whose name never comes back.
    fn residue(&self) -> Option<String> {
        let left = self.beyond_reach(|child| !names::is_static_access(&child.name))?;
        Some(format!(
            "left behind where the operator has no rights, of no use without the identity, which is gone: {left}"
        ))
    }

    fn beyond_reach(&self, is_meant: impl Fn(&Child) -> bool) -> Option<String> {
        let meant = self.observed.beyond_reach.iter().filter(|child| is_meant(child));
        let left: Vec<String> = meant
            .map(|child| format!("{} {}/{}", child.kind, child.namespace, child.name))
            .collect();
        (!left.is_empty()).then(|| left.join(", "))
    }

    fn sorted(&self) -> Vec<Child> {
        let mut children = self.observed.children.clone();
        children.sort();
        children
    }
}

/// Whether a token works on after the end of access, or may.
fn outlives(credential: &CredentialStatus, until: Instant) -> bool {
    let expires = credential.expires_at;
    expires.is_none_or(|expires| !lifetime::is_hard(expires, until))
}

fn forget_access(status: &mut AccessGrantStatus) {
    status.identity = None;
    status.credential = None;
    status.children = Vec::new();
}
