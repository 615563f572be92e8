//! The laws, judged from what is there and not from what the core says about itself.

use std::collections::BTreeSet;

use wayleave::api::conditions::Reason;
use wayleave::api::v1alpha1::{AccessDecision, ChildKind, Decision, Instant, SubjectKind};
use wayleave::domain::closing::{Known, deadline, must_close};
use wayleave::domain::lifetime;
use wayleave::domain::ownership::Owners;
use wayleave::domain::verdict::{Access, Verdict};
use wayleave::plan::children::Site;
use wayleave::plan::{Child, Plan, Step};

use super::life::Life;
use crate::objects::IDENTITIES;

type Judged = Result<(), String>;

fn law(holds: bool, words: impl FnOnce() -> String) -> Judged {
    if holds { Ok(()) } else { Err(words()) }
}

pub(super) fn is_approval(decision: &AccessDecision) -> bool {
    decision.spec.decision == Decision::Approve
}

fn made(decision: &AccessDecision) -> Option<Instant> {
    let created = decision.metadata.creation_timestamp.as_ref();
    created.map(|time| Instant::new(time.0))
}

impl Life {
    /// What must hold of every answer, before it is acted on.
    pub(super) fn holds(&self, verdict: &Verdict, plan: &Plan) -> Judged {
        let active = verdict.access != Access::Inactive;
        let mints = matches!(plan.step, Step::Issue(_) | Step::Rotate(_));
        if active {
            self.is_entitled(verdict)?;
        }
        law(active || !mints, || format!("an ended grant gets {:?}", plan.step))?;
        let doubtful = !self.proved || self.ahead.abs() > 30;
        law(!(mints && doubtful), || "I10 issued in spite of doubt".to_owned())?;
        law(plan.again_in >= 1, || "no pause".to_owned())?;
        if let Some(next) = verdict.next_change {
            let latest = next.seconds_since(self.now()).max(1);
            law(plan.again_in <= latest, || format!("{} is slept through", next))?;
        }
        self.touches_nothing_else(&plan.step)?;
        self.tokens_end_in_time(verdict, plan)?;
        self.closing_agrees(verdict)
    }

    /// I1, I3 and I9 by themselves: an approval in force by somebody else, both owners, the dates and a policy.
    fn is_entitled(&self, verdict: &Verdict) -> Judged {
        let now = self.now();
        let integration = self.integration.as_ref().ok_or("I10 active without an integration")?;
        let no = self.latest_no();
        let digest = verdict.kept.status.digest.as_deref().unwrap_or_default();
        let counts = |it: &&AccessDecision| {
            let spec = &it.spec;
            is_approval(it)
                && made(it) > no
                && spec.digest.as_ref().is_some_and(|approved| approved.0 == digest)
                && spec.decided_by.as_ref().is_some_and(|by| by.0 != "carol@corp.example")
        };
        law(self.decisions.iter().any(|it| counts(&it)), || {
            "I1 active without an approval".to_owned()
        })?;
        law(self.owners.len() == 2, || "I3 active without an owner".to_owned())?;
        let is_there =
            |it: &wayleave::api::v1alpha1::AccessOwner| it.spec.active && it.spec.until.is_none_or(|until| now < until);
        law(self.owners.values().all(is_there), || {
            "I3 active with an owner who left".to_owned()
        })?;
        let ends = [Some(self.grant.spec.expires_at), integration.spec.agreement.ends_at];
        law(ends.into_iter().flatten().all(|end| now < end), || {
            "I2 active after an end".to_owned()
        })?;
        law(!self.policies.is_empty(), || "I9 active without a policy".to_owned())?;
        let is_on = !self.grant.spec.suspend && !integration.spec.suspend && self.enrolled;
        law(is_on && self.grant.metadata.deletion_timestamp.is_none(), || {
            "active though stopped".to_owned()
        })
    }

    /// The latest Deny or Revoke, those included that are remembered alone.
    fn latest_no(&self) -> Option<Instant> {
        let noes = self
            .decisions
            .iter()
            .filter(|it| !is_approval(it))
            .filter_map(made)
            .max();
        let status = self.grant.status.as_ref();
        noes.max(status.and_then(|it| it.denied_at.max(it.revoked_at)))
    }

    /// I5 and I11: what is taken away is ours, and what is made lies where the grant lies.
    fn touches_nothing_else(&self, step: &Step) -> Judged {
        match step {
            Step::Close(children) | Step::Retire(children) => {
                let known: BTreeSet<&str> = self
                    .observed
                    .children
                    .iter()
                    .chain(&self.observed.unseen)
                    .map(|it| it.uid.as_str())
                    .collect();
                let is_ours = children.iter().all(|it| known.contains(it.uid.as_str()));
                law(is_ours, || "I5 something foreign is taken away".to_owned())?;
                let bindings = children.iter().rposition(|it| it.kind == ChildKind::RoleBinding);
                let others = children.iter().position(|it| it.kind != ChildKind::RoleBinding);
                law(bindings < others || others.is_none() || bindings.is_none(), || {
                    "bindings go first".to_owned()
                })
            }
            _ => Ok(()),
        }
    }

    /// I2: a token that ends by itself does so before every end that is known.
    fn tokens_end_in_time(&self, verdict: &Verdict, plan: &Plan) -> Judged {
        let (token, until) = match &plan.step {
            Step::Issue(issue) => (issue.token, issue.until),
            Step::Rotate(rotate) => (Some(rotate.token), rotate.until),
            _ => return Ok(()),
        };
        let Some(token) = token else {
            return Err("no token for a grant of tokens".to_owned());
        };
        let Access::Active { until: latest, .. } = verdict.access else {
            return Err("minted for nobody".to_owned());
        };
        let leaves = self.owners.values().filter_map(|owner| owner.spec.until);
        let agreement = self.integration.as_ref().and_then(|it| it.spec.agreement.ends_at);
        let ends = leaves.chain(agreement).chain([self.grant.spec.expires_at, latest]);
        let dead = self.now().plus(token.seconds + 70);
        law(ends.into_iter().all(|end| until <= end), || {
            "an end is passed over".to_owned()
        })?;
        law(!token.hard || dead <= until, || {
            format!("I2 a token works until {dead}, after {until}")
        })
    }

    /// The closing lane and the verdict, given the same facts: neither contradicts the other.
    fn closing_agrees(&self, verdict: &Verdict) -> Judged {
        let owners: Owners<'_> = self.owners.iter().map(|(name, owner)| (*name, owner)).collect();
        let decisions: Vec<&AccessDecision> = self.decisions.iter().filter(|it| self.is_about(it)).collect();
        let known = Known {
            grant: &self.grant,
            integration: self.integration.as_ref(),
            decisions: &decisions,
            owners: &owners,
            deleted_owners: &self.deleted_owners,
            uninstalling: false,
        };
        let bindings = self.observed.children.iter();
        let live = self.grant.status.as_ref().and_then(|it| it.identity.as_ref());
        let is_live = live.is_some_and(|it| it.activated_at.is_some());
        for binding in bindings.filter(|it| it.kind == ChildKind::RoleBinding) {
            let last_no = self.last_no.get(&binding.uid).copied().flatten();
            let closes = must_close(&known, last_no, self.now());
            law(closes.is_some() || deadline(&known) > self.now(), || {
                "a deadline is passed over".to_owned()
            })?;
            let is_outdated = decisions.iter().any(|it| !is_approval(it) && made(it) > last_no);
            match verdict.access {
                // A binding from before a no goes, though approval came after it: another activation follows.
                Access::Active { .. } if is_live && !is_outdated && self.was_noted(verdict) => {
                    law(closes.is_none(), || format!("closed for {closes:?}, and active"))?;
                }
                Access::Active { .. } => {}
                Access::Inactive
                    if self.is_positive(verdict.reason, is_outdated) && is_live && self.was_noted(verdict) =>
                {
                    law(closes.is_some(), || {
                        format!("not closed, and ended for {:?}", verdict.reason)
                    })?;
                }
                Access::Inactive => {}
            }
        }
        Ok(())
    }

    /// Status says what the verdict would have it remember, dates included: both lanes go by the same facts.
    fn was_noted(&self, verdict: &Verdict) -> bool {
        let Some(status) = &self.grant.status else { return false };
        let kept = &verdict.kept.status;
        match verdict.access {
            Access::Active { .. } => status.active_until == kept.active_until && status.approvals == kept.approvals,
            Access::Inactive => status.departed_owners == kept.departed_owners && status.active_until.is_some(),
        }
    }

    fn is_about(&self, decision: &AccessDecision) -> bool {
        let subject = &decision.spec.subject;
        match subject.kind {
            SubjectKind::AccessGrant => Some(&subject.name.0) == self.grant.metadata.name.as_ref(),
            SubjectKind::PartnerIntegration => subject.name == self.grant.spec.integration_ref.name,
        }
    }

    /// I8 and I11 of what is made.
    pub(super) fn is_new(&mut self, kind: ChildKind, name: &str) -> Judged {
        let is_new = kind == ChildKind::DeliverySecret || self.names.insert((kind, name.to_owned()));
        law(is_new, || format!("I8 {kind} {name} comes back"))
    }

    pub(super) fn deliver(&mut self, activation: i64, generation: i64) -> Judged {
        self.delivered = Some(self.tokens.len() - 1);
        let is_new = self.generations.insert((activation, generation));
        law(is_new, || {
            format!("I8 generation {generation} of {activation} is delivered twice")
        })
    }

    /// Turns until a look changes nothing: L2 is that there is such a look.
    fn settle(&mut self) -> Result<(Verdict, Plan), String> {
        for _ in 0..16 {
            let (verdict, plan) = self.look();
            let is_said = Some(&plan.status) == self.grant.status.as_ref();
            if plan.step == Step::Rest && is_said {
                return Ok((verdict, plan));
            }
            self.carry_out(usize::MAX, &verdict, &plan)?;
        }
        Err(format!("L2 never at rest: {:?}", self.look().1.step))
    }

    /// What is there is what should be, once nothing goes on from outside.
    pub(super) fn comes_to_rest(&mut self) -> Judged {
        let (mut verdict, mut plan) = self.settle()?;
        if let Some(not_before) = plan.status.not_before {
            // What drifted is made anew after a while.
            self.server = self.server.max(not_before.plus(-self.ahead));
            (verdict, plan) = self.settle()?;
        }
        let children = &self.observed.children;
        let bound = children.iter().any(|it| it.kind == ChildKind::RoleBinding);
        let identity = plan.status.identity.as_ref();
        match verdict.access {
            Access::Inactive => law(children.is_empty() && identity.is_none(), || {
                "I6 something is left".to_owned()
            }),
            Access::Active {
                until,
                hold: None,
                hard_expiry,
                ..
            } => {
                // Without an identity it waits for its time, or for more of it.
                let Some(identity) = identity else {
                    return law(!bound, || "a binding without an identity".to_owned());
                };
                law(bound, || "active, and not bound".to_owned())?;
                let site = Site {
                    grant: &self.grant,
                    activation: identity.activation,
                    identities: IDENTITIES,
                };
                let expected = site.expected(&[]);
                let is_expected = |child: &Child| {
                    let mut same = expected
                        .iter()
                        .filter(|want| (want.kind, &want.name) == (child.kind, &child.name));
                    child.kind == ChildKind::Anchor || same.any(|want| want.content == child.content)
                };
                law(children.iter().all(is_expected), || {
                    "I4 more than what is approved now".to_owned()
                })?;
                let places = children.iter().map(|it| it.namespace.as_str());
                let own = self.grant.metadata.namespace.as_deref().unwrap_or_default();
                law(places.into_iter().all(|it| [own, IDENTITIES].contains(&it)), || {
                    "I11 elsewhere".to_owned()
                })?;
                if let Some(credential) = &plan.status.credential
                    && let Some(expires) = credential.expires_at.filter(|_| credential.hard_expiry)
                {
                    law(lifetime::is_hard(expires, until), || {
                        format!("I2 a token until {expires} is said to end by itself before {until}")
                    })?;
                }
                self.has_time_left(until, hard_expiry)
            }
            Access::Active { .. } => law(bound == identity.is_some(), || "held, and half there".to_owned()),
        }
    }

    /// L3: what is delivered works, for long enough; but for the end of access, when nothing can be made any more.
    fn has_time_left(&self, until: Instant, hard: bool) -> Judged {
        let lifetime = self.grant.token().lifetime.as_seconds();
        if lifetime::ask(self.now(), until, lifetime, hard).is_none() {
            return Ok(());
        }
        let token = self.delivered.map(|index| &self.tokens[index]);
        let token = token.ok_or("L3 nothing was delivered")?;
        let is_there = |uid: &str| self.observed.children.iter().any(|it| it.uid == uid);
        law(is_there(&token.anchor) && is_there(&token.account), || {
            "L3 what was delivered is dead".to_owned()
        })?;
        let left = token.expires.seconds_since(self.now());
        let life = token.expires.seconds_since(token.issued);
        let is_last = until.seconds_since(token.expires) <= lifetime::FADE + 5;
        law(left >= life / 3 || left >= lifetime::SHORTEST || is_last, || {
            let access = until.seconds_since(self.now());
            format!("L3 {left} s are left, of {life} s, and {access} s of access")
        })
    }

    /// L1: whatever happened, in the end nothing is left, and status is final.
    pub(super) fn comes_to_an_end(&mut self) -> Judged {
        self.ahead = 0;
        self.server = self.server.max(self.grant.spec.expires_at);
        self.settle()?;
        let status = self.grant.status.clone().unwrap_or_default();
        let is_final = status.identity.is_none() && status.credential.is_none() && status.children.is_empty();
        law(is_final && self.observed.children.is_empty(), || {
            "L1 something is left".to_owned()
        })?;
        let is_there = |uid: &str| self.observed.children.iter().any(|it| it.uid == uid);
        law(!self.tokens.iter().any(|it| is_there(&it.anchor)), || {
            "I6 a token lives on".to_owned()
        })?;
        let hard = self
            .tokens
            .iter()
            .filter_map(|it| it.until.map(|until| (it.expires, until)));
        law(
            hard.into_iter().all(|(expires, until)| expires.plus(70) <= until),
            || "I2 outlived".to_owned(),
        )
    }

    /// Whether a reason is something that is there, and not something that is missing. A no that the binding's maker knew
    /// stands again where the approval after it counts no more: that is missing.
    fn is_positive(&self, reason: Reason, is_outdated: bool) -> bool {
        match reason {
            Reason::Revoked | Reason::Denied => is_outdated,
            Reason::Deleting
            | Reason::Suspended
            | Reason::IntegrationSuspended
            | Reason::Expired
            | Reason::AgreementEnded
            | Reason::OwnerRemoved => true,
            _ => false,
        }
    }
}
