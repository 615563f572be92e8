//! One replica: its caches, its closing lane, and its issuing lane, which makes one write after the other as
//! `src/controller` does. Between any two of them anything may happen.

use std::sync::Arc;

use wayleave::api::v1alpha1::ChildKind;
use wayleave::domain::lifetime;

use crate::Broken;
use crate::objects::{
    Child, ChildId, Closing, DecisionSeen, GrantSeen, Judged, Next, OwnerSeen, Second, Status, Terms, View, closes,
    instant, judge, outcome,
};
use crate::server::{Event, Refused, Server, Source};

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// What the API server said.
    Heard,
    /// It was carried out, and nobody heard.
    Lost,
}

/// What an issue has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Another activation: are the decisions that were looked at those of the API server?
    FreshDecisions,
    /// And the owners?
    FreshOwners,
    Finalizer,
    Claim,
    Account,
    Role,
    Anchor,
    Token,
    Delivery,
    Binding,
    Status,
}

/// What the issuing lane is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    /// A status alone.
    Write { basis: GrantSeen, status: Status },
    /// The last finalizer.
    Finish { basis: GrantSeen },
    /// Taking away, then a status.
    Close(Taking),
    /// Making everything, or another token.
    Make {
        view: Arc<View>,
        basis: GrantSeen,
        stage: Stage,
        made: Vec<ChildId>,
        token: Option<u8>,
        /// What the delivery Secret held before the claim, as far as is known.
        held: Option<u8>,
        issued_at: Second,
    },
    /// What failed is taken away again.
    Undo { left: Vec<ChildId>, refused: bool },
    /// The grant is read, and it is said that a foreign object is in the way.
    Read,
}

/// Children that are taken away, one after another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Taking {
    pub(crate) basis: GrantSeen,
    left: Vec<ChildId>,
    /// Activations whose bindings are among them.
    pub(crate) bound: Vec<(u8, u8)>,
    /// Something else than a binding was taken away.
    pub(crate) begun: bool,
    failed: bool,
    /// What is written at last, if anything is.
    then: Option<Status>,
}

impl Taking {
    fn new(basis: GrantSeen, left: Vec<ChildId>, then: Option<Status>) -> Self {
        let bindings = left.iter().filter(|it| it.kind == ChildKind::RoleBinding);
        Self {
            basis,
            bound: bindings.map(|it| (it.grant, it.activation)).collect(),
            left,
            begun: false,
            failed: false,
            then,
        }
    }

    /// A closing that says nothing in status.
    pub(crate) fn sweep(left: Vec<ChildId>) -> Self {
        Self::new(crate::world::new_grant(0, 0, 0), left, None)
    }
}

/// A replica of the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Replica {
    pub(crate) up: bool,
    /// It believes that it leads.
    pub(crate) leads: bool,
    pub(crate) swept: bool,
    pub(crate) grant: Option<GrantSeen>,
    /// The latest answer to a write of its own.
    pub(crate) written: Option<GrantSeen>,
    pub(crate) decisions: Vec<DecisionSeen>,
    pub(crate) owner: Option<OwnerSeen>,
    pub(crate) deleted_owners: Vec<u8>,
    pub(crate) children: Vec<Child>,
    /// What it saw go itself: a watch may still tell of it.
    gone: Vec<ChildId>,
    pub(crate) queues: [Vec<Event>; 5],
    pub(crate) job: Option<Job>,
}

impl Replica {
    /// A replica that has just listed everything.
    pub(crate) fn started(server: &Server) -> Self {
        Self {
            up: true,
            grant: server.grant.clone(),
            decisions: server.decisions.clone(),
            owner: server.owner,
            children: server.children.clone(),
            ..Self::default()
        }
    }

    pub(crate) fn is_current(&self) -> bool {
        self.queues.iter().all(Vec::is_empty)
    }

    /// The watch tells of the next event of a source.
    pub(crate) fn hear(&mut self, source: Source) {
        let event = self.queues[source as usize].remove(0);
        match event {
            Event::Grant(grant) => self.grant = grant,
            Event::Decided(decision) => {
                self.decisions.push(decision);
                self.decisions.sort();
            }
            Event::Withdrawn(decision) => self.decisions.retain(|it| *it != decision),
            Event::Owner(owner) => {
                let before = self.owner.filter(|before| Some(before.uid) != owner.map(|it| it.uid));
                if let Some(gone) = before {
                    self.deleted_owners.push(gone.uid);
                }
                self.owner = owner;
            }
            Event::Made(child) => self.put(child),
            Event::Gone(id) => {
                self.gone.retain(|it| *it != id);
                self.children.retain(|it| it.id != id);
            }
        }
        self.forget_written();
    }

    fn put(&mut self, child: Child) {
        if !self.gone.contains(&child.id) {
            self.children.retain(|it| it.id.place() != child.id.place());
            self.children.push(child);
            self.children.sort();
        }
    }

    fn saw_go(&mut self, id: &ChildId) {
        if self.children.iter().any(|it| it.id == *id) {
            self.children.retain(|it| it.id != *id);
            self.gone.push(*id);
            self.gone.sort();
        }
    }

    fn forget_written(&mut self) {
        let seen = self.grant.as_ref().map(|it| (it.uid, it.version));
        if self
            .written
            .as_ref()
            .is_some_and(|ours| seen.is_none_or(|seen| seen >= (ours.uid, ours.version) || seen.0 != ours.uid))
        {
            self.written = None;
        }
    }

    /// The grant as the issuing lane sees it: its own latest write is never behind.
    fn newest(&self) -> Option<&GrantSeen> {
        self.written.as_ref().or(self.grant.as_ref())
    }

    fn remember(&mut self, written: Option<GrantSeen>) {
        self.written = written;
        self.forget_written();
    }

    /// What the issuing lane would judge by now.
    pub(crate) fn view(&self, terms: Terms, now: Second) -> Option<View> {
        // What the cache doesn't hold is not reconciled.
        self.grant.as_ref()?;
        let grant = self.newest()?.clone();
        let recorded = grant.status.get().map(|status| status.children.clone());
        let recorded = recorded.unwrap_or_default();
        let is_ours = |child: &&Child| {
            let annotated = child.id.grant == grant.uid && !child.id.foreign;
            annotated || recorded.contains(&child.id.reference())
        };
        Some(View {
            terms,
            now,
            decisions: self.decisions.clone(),
            owner: self.owner,
            children: self.children.iter().filter(is_ours).copied().collect(),
            grant: GrantSeen { version: 0, ..grant },
        })
    }

    /// Bindings that the closing lane takes away now.
    pub(crate) fn due(&self, terms: Terms, now: Second) -> Vec<ChildId> {
        let Some(grant) = self.grant.as_ref().filter(|_| self.up) else {
            return Vec::new();
        };
        let is_binding = |it: &&Child| {
            let id = &it.id;
            id.kind == ChildKind::RoleBinding && id.grant == grant.uid && !id.foreign
        };
        let bindings = self.children.iter().filter(is_binding);
        let is_due = |binding: &&Child| {
            closes(&Closing {
                terms,
                now,
                grant: GrantSeen {
                    version: 0,
                    ..grant.clone()
                },
                decisions: self.decisions.clone(),
                owner: self.owner,
                deleted_owners: self.deleted_owners.clone(),
                last_no: binding.last_no,
            })
        };
        bindings.filter(is_due).map(|it| it.id).collect()
    }

    /// The closing lane takes a binding away.
    pub(crate) fn close(&mut self, server: &mut Server, binding: &ChildId) {
        // What is gone, or another one by now, is as good as deleted.
        let _ = server.delete(binding, true);
        self.saw_go(binding);
    }

    /// Looks at the grant: the job that follows, if any does.
    pub(crate) fn look(&self, terms: Terms, now: Second, broken: Option<Broken>) -> Option<Job> {
        let view = self.view(terms, now)?;
        let basis = self.newest()?.clone();
        let judged = judge(&view);
        if broken == Some(Broken::BindingPutBack)
            && judged.active
            && let Some(missing) = self.missing_binding(&basis)
        {
            return Some(Job::Make {
                view: Arc::new(view),
                basis,
                stage: Stage::Binding,
                made: vec![missing],
                token: None,
                held: None,
                issued_at: now,
            });
        }
        let status = (judged.status != basis.status).then(|| judged.status.clone());
        match &judged.next {
            Next::Rest => status.map(|status| Job::Write { basis, status }),
            Next::Finish => Some(Job::Finish { basis }),
            Next::Close(children) | Next::Retire(children) => {
                let mut left = children.clone();
                match broken {
                    Some(Broken::AnchorsFirst) => left.sort_by_key(|it| it.kind != ChildKind::Anchor),
                    Some(Broken::AnchorsLeft) => left.retain(|it| it.kind != ChildKind::Anchor),
                    _ => {}
                }
                Some(Job::Close(Taking::new(basis, left, status)))
            }
            Next::Issue { activation, .. } => {
                let fresh = *activation > 1 && broken != Some(Broken::NoFreshRead);
                self.swept.then(|| Job::Make {
                    view: Arc::new(view),
                    basis,
                    stage: if fresh { Stage::FreshDecisions } else { Stage::Finalizer },
                    made: Vec::new(),
                    token: None,
                    held: None,
                    issued_at: now,
                })
            }
            Next::Rotate { .. } => Some(Job::Make {
                view: Arc::new(view),
                basis,
                stage: Stage::Claim,
                made: Vec::new(),
                token: None,
                held: None,
                issued_at: now,
            }),
        }
    }

    /// The activation that is being made.
    pub(crate) fn making(&self) -> Option<(u8, u8)> {
        let Some(Job::Make { view, .. }) = &self.job else {
            return None;
        };
        match judge(view).next {
            Next::Issue { activation, .. } => Some((view.grant.uid, activation)),
            _ => None,
        }
    }

    /// What is under way makes no more activations and generations than this.
    pub(crate) fn is_within(&self, (activations, generations): (u8, u8)) -> bool {
        let Some(Job::Make { view, .. }) = &self.job else {
            return true;
        };
        match judge(view).next {
            Next::Issue { activation, .. } => activation <= activations,
            Next::Rotate { generation, .. } => generation <= generations,
            _ => true,
        }
    }

    /// A binding of the live activation that is not in the cache.
    fn missing_binding(&self, grant: &GrantSeen) -> Option<ChildId> {
        let activation = grant.status.live()?;
        let id = child_id(ChildKind::RoleBinding, grant.uid, activation, 0);
        (!self.children.iter().any(|it| it.id.place() == id.place())).then_some(id)
    }

    /// Before anything is issued, what is there of a grant that has ended is taken away; none where nothing is.
    pub(crate) fn sweep(&self, terms: Terms, now: Second) -> Option<Vec<ChildId>> {
        let found = match self.view(terms, now) {
            Some(view) if judge(&view).active => Vec::new(),
            Some(view) => view.children.iter().map(|it| it.id).collect(),
            // The API server is asked whether the grant is there: what it left is ours to take.
            None => {
                let ours = self.children.iter().filter(|it| !it.id.foreign);
                ours.map(|it| it.id).collect()
            }
        };
        (!found.is_empty()).then_some(found)
    }

    /// Makes the next call of the job; the answer may be lost.
    pub(crate) fn step(&mut self, server: &mut Server, now: Second, answer: Answer, broken: Option<Broken>) {
        let Some(job) = self.job.take() else { return };
        self.job = match job {
            Job::Write { basis, status } => {
                let written = server.write(&basis, false, |grant| grant.status = status);
                if let (Ok(written), Answer::Heard) = (written, answer) {
                    self.remember(written);
                }
                None
            }
            Job::Finish { basis } => {
                // An answer that is lost is asked for again.
                let _ = server.write(&basis, false, |grant| grant.finalizer = false);
                None
            }
            Job::Close(closing) => self.close_one(server, answer, broken, closing),
            Job::Make {
                view,
                basis,
                stage,
                made,
                token,
                held,
                issued_at,
            } => {
                let making = Making {
                    judged: judge(&view),
                    view,
                    basis,
                    stage,
                    made,
                    token,
                    held,
                    issued_at,
                    broken,
                };
                making.step(self, server, now, answer)
            }
            Job::Undo { mut left, refused } => {
                if !left.is_empty() {
                    let id = left.remove(0);
                    let _ = server.delete(&id, true);
                    if answer == Answer::Heard {
                        self.saw_go(&id);
                    }
                }
                match (left.is_empty(), refused) {
                    (false, _) => Some(Job::Undo { left, refused }),
                    (true, true) => Some(Job::Read),
                    (true, false) => None,
                }
            }
            Job::Read => server.grant.clone().and_then(|basis| {
                let status = basis.status.refused();
                (status != basis.status).then_some(Job::Write { basis, status })
            }),
        };
    }

    fn close_one(
        &mut self,
        server: &mut Server,
        answer: Answer,
        broken: Option<Broken>,
        mut closing: Taking,
    ) -> Option<Job> {
        if !closing.left.is_empty() {
            let id = closing.left.remove(0);
            closing.begun |= id.kind != ChildKind::RoleBinding;
            let _ = server.delete(&id, broken != Some(Broken::DeletedByName));
            match answer {
                Answer::Heard => self.saw_go(&id),
                Answer::Lost => closing.failed = true,
            }
        }
        if !closing.left.is_empty() {
            return Some(Job::Close(closing));
        }
        // What is left is said with the objects kept on record, and tried again.
        let basis = closing.basis;
        let status = match closing.then {
            Some(status) if closing.failed => Some(status.with_children_of(&basis.status)),
            other => other,
        };
        status
            .filter(|status| *status != basis.status)
            .map(|status| Job::Write { basis, status })
    }
}

pub(crate) fn child_id(kind: ChildKind, grant: u8, activation: u8, generation: u8) -> ChildId {
    ChildId {
        kind,
        grant,
        activation,
        generation,
        again: 0,
        foreign: false,
    }
}

/// An issue or a rotation under way.
struct Making {
    view: Arc<View>,
    judged: Arc<Judged>,
    basis: GrantSeen,
    stage: Stage,
    made: Vec<ChildId>,
    token: Option<u8>,
    held: Option<u8>,
    issued_at: Second,
    broken: Option<Broken>,
}

impl Making {
    fn step(mut self, replica: &mut Replica, server: &mut Server, now: Second, answer: Answer) -> Option<Job> {
        match self.carry_out(replica, server, now) {
            Ok(Some(stage)) if answer == Answer::Heard => {
                self.stage = stage;
                Some(Job::Make {
                    view: self.view,
                    basis: self.basis,
                    stage: self.stage,
                    made: self.made,
                    token: self.token,
                    held: self.held,
                    issued_at: self.issued_at,
                })
            }
            Ok(None) if answer == Answer::Heard => None,
            Ok(_) => {
                self.unhear(replica);
                self.undo(false)
            }
            Err(refused) => self.undo(refused == Refused::AlreadyExists),
        }
    }

    /// What was made without an answer is not known to be there.
    fn unhear(&mut self, replica: &mut Replica) {
        let creates = [
            Stage::Account,
            Stage::Role,
            Stage::Anchor,
            Stage::Delivery,
            Stage::Binding,
        ];
        let patches = self.stage == Stage::Delivery && matches!(self.judged.next, Next::Rotate { .. });
        if creates.contains(&self.stage)
            && !patches
            && let Some(unheard) = self.made.pop()
        {
            replica.children.retain(|it| it.id != unheard);
        }
        if matches!(self.stage, Stage::Finalizer | Stage::Claim | Stage::Status) {
            replica.written = None;
        }
    }

    /// Takes away what was made. The token of a rotation that was delivered keeps its anchor.
    fn undo(self, refused: bool) -> Option<Job> {
        let rotates = matches!(self.judged.next, Next::Rotate { .. });
        if self.made.is_empty() || rotates && self.stage == Stage::Status {
            // Only what is in the way of an issue is reported.
            return (refused && !rotates).then_some(Job::Read);
        }
        let mut left = self.made;
        left.sort();
        Some(Job::Undo {
            left,
            refused: refused && !rotates,
        })
    }

    fn carry_out(&mut self, replica: &mut Replica, server: &mut Server, now: Second) -> Result<Option<Stage>, Refused> {
        let judged = Arc::clone(&self.judged);
        let (rotates, activation, generation, seconds, until) = match &judged.next {
            Next::Issue {
                activation,
                seconds,
                until,
                ..
            } => (false, *activation, 1, *seconds, *until),
            Next::Rotate {
                generation,
                seconds,
                until,
                ..
            } => {
                let live = self.view.grant.status.live().ok_or(Refused::NotFound)?;
                (true, live, *generation, *seconds, *until)
            }
            // Only a broken operator makes anything of another step.
            _ => (false, self.made.first().map_or(0, |it| it.activation), 1, 0, 0),
        };
        let id = |kind| child_id(kind, self.basis.uid, activation, 0);
        let child = |id| Child {
            id,
            variant: 0,
            last_no: None,
            knew: None,
            holds: None,
        };
        let blind = self.broken == Some(Broken::UnguardedClaim);
        let following = match self.stage {
            Stage::FreshDecisions => {
                let (there, seen) = match self.broken {
                    // As it was: what is there is in the cache, by now.
                    Some(Broken::StaleFreshRead) => (&server.decisions, &replica.decisions),
                    _ => (&server.decisions, &self.view.decisions),
                };
                let all_there = self.broken == Some(Broken::StaleFreshRead) || seen.iter().all(|it| there.contains(it));
                if !there.iter().all(|it| seen.contains(it)) || !all_there {
                    return Err(Refused::Conflict);
                }
                Stage::FreshOwners
            }
            Stage::FreshOwners => {
                let seen = match self.broken {
                    Some(Broken::StaleFreshRead) => replica.owner,
                    _ => self.view.owner,
                };
                if server.owner != seen {
                    return Err(Refused::Conflict);
                }
                Stage::Finalizer
            }
            Stage::Finalizer => {
                let delivery = id(ChildKind::DeliverySecret);
                if self.basis.status.was_refused() && server.has(&delivery) {
                    // A rehearsal shows that it is in the way still.
                    return Err(Refused::AlreadyExists);
                }
                if let Next::Issue { finalizer: true, .. } = judged.next {
                    let written = server.write(&self.basis, false, |grant| grant.finalizer = true)?;
                    self.basis = written.ok_or(Refused::NotFound)?;
                }
                Stage::Claim
            }
            Stage::Claim => {
                if rotates {
                    let secret = self.recorded(ChildKind::DeliverySecret)?;
                    let known = replica.children.iter().find(|it| it.id == secret);
                    self.held = known.and_then(|it| it.holds);
                }
                let claim = judged.status.clone();
                let written = server.write(&self.basis, blind, |grant| grant.status = claim)?;
                self.basis = written.ok_or(Refused::NotFound)?;
                if rotates { Stage::Anchor } else { Stage::Account }
            }
            Stage::Account => {
                self.make(replica, server, child(id(ChildKind::ServiceAccount)))?;
                Stage::Role
            }
            Stage::Role => {
                let role = Child {
                    variant: self.basis.variant,
                    ..child(id(ChildKind::Role))
                };
                self.make(replica, server, role)?;
                Stage::Anchor
            }
            Stage::Anchor => {
                let anchor = child_id(ChildKind::Anchor, self.basis.uid, activation, generation);
                self.make(replica, server, child(anchor))?;
                Stage::Token
            }
            Stage::Token => {
                let account = match rotates {
                    true => self.recorded(ChildKind::ServiceAccount)?,
                    false => self.made_of(ChildKind::ServiceAccount)?,
                };
                let anchor = self.made_of(ChildKind::Anchor)?;
                let broken = self.broken == Some(Broken::LongTokens);
                let expires = now + seconds + if broken { 120 } else { 0 };
                let is_hard = lifetime::is_hard(instant(expires), instant(until));
                let hard = (self.view.terms.hard && (is_hard || broken)).then_some(until);
                self.token = Some(server.mint(&account, &anchor, expires, hard)?);
                // What lives longer than was asked for is not delivered, and dies with its anchor.
                if self.view.terms.hard && hard.is_none() {
                    return Err(Refused::TooLong);
                }
                self.issued_at = now;
                Stage::Delivery
            }
            Stage::Delivery => {
                let token = self.token.ok_or(Refused::NotFound)?;
                if rotates {
                    let secret = self.recorded(ChildKind::DeliverySecret)?;
                    let held = self.held.filter(|_| self.broken != Some(Broken::UnguardedDelivery));
                    server.deliver(&secret, held, token)?;
                    if let Some(known) = replica.children.iter_mut().find(|it| it.id == secret) {
                        known.holds = Some(token);
                    }
                    Stage::Status
                } else {
                    let secret = Child {
                        holds: Some(token),
                        ..child(id(ChildKind::DeliverySecret))
                    };
                    self.make(replica, server, secret)?;
                    server.delivered(token);
                    Stage::Binding
                }
            }
            Stage::Binding => {
                let putting_back = !matches!(judged.next, Next::Issue { .. });
                let binding = Child {
                    knew: judged.last_no,
                    last_no: judged.last_no.filter(|_| self.broken != Some(Broken::NothingNoted)),
                    ..child(id(ChildKind::RoleBinding))
                };
                self.make(replica, server, binding)?;
                if putting_back {
                    return Ok(None);
                }
                Stage::Status
            }
            Stage::Status => {
                let token = &server.tokens[usize::from(self.token.ok_or(Refused::NotFound)?)];
                let minted = (self.issued_at, token.expires);
                let status = outcome(&self.view, &judged.status, &self.made, minted, now, !rotates);
                let written = server.write(&self.basis, blind, |grant| grant.status = status)?;
                replica.remember(written);
                return Ok(None);
            }
        };
        Ok(Some(following))
    }

    fn make(&mut self, replica: &mut Replica, server: &mut Server, child: Child) -> Result<(), Refused> {
        let made = server.post(child)?;
        replica.put(made);
        self.made.push(made.id);
        Ok(())
    }

    fn made_of(&self, kind: ChildKind) -> Result<ChildId, Refused> {
        let found = self.made.iter().find(|it| it.kind == kind);
        found.copied().ok_or(Refused::NotFound)
    }

    /// The object of a kind that status names.
    fn recorded(&self, kind: ChildKind) -> Result<ChildId, Refused> {
        let status = self.judged.status.get().ok_or(Refused::NotFound)?;
        let recorded = status.children.iter().find(|it| it.kind == kind);
        recorded.map(ChildId::of).ok_or(Refused::NotFound)
    }
}
