//! Everything there is at one moment, and everything that can happen next.

use stateright::{Model, Property};
use wayleave::api::v1alpha1::ChildKind;

use crate::objects::{Child, ChildId, DecisionSeen, GrantSeen, OwnerSeen, Second, Status, Terms, Word, judge};
use crate::replica::{Answer, Job, Replica, Taking};
use crate::server::{Server, Source};
use crate::{Broken, properties};

/// What people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    Approve,
    Deny,
    Revoke,
    /// The latest approval is deleted.
    Withdraw,
    OwnerLeaves,
    /// As a new object.
    OwnerReturns,
    Suspend,
    Resume,
    /// The grant asks for more, or for what it asked for at first.
    Widen,
    Narrow,
    /// A rotation is asked for.
    AskRotation,
    Delete,
    /// Under the same name, once the one before is gone.
    Recreate,
    /// Somebody with power in the namespace takes the binding away.
    CutBinding,
    /// And puts a Secret of his own in the place of the delivered one.
    SwapSecret,
}

impl Deed {
    /// It can bring access that there was not.
    fn renews(self) -> bool {
        !matches!(
            self,
            Self::Deny | Self::Revoke | Self::Withdraw | Self::OwnerLeaves | Self::Suspend | Self::Delete
        )
    }
}

/// What is explored: who does what, what may fail, and what must be seen to happen.
#[derive(Clone)]
pub(crate) struct Bounds {
    pub(crate) name: &'static str,
    /// The instants of the clock, one after another.
    pub(crate) clock: Vec<Second>,
    pub(crate) terms: Terms,
    /// What each person does, in order, whenever it may be.
    pub(crate) people: Vec<Vec<Deed>>,
    /// Of each replica, the watches that may lag behind; all others tell at once.
    pub(crate) lags: [Vec<Source>; 2],
    /// Approved and live at the beginning.
    pub(crate) live: bool,
    pub(crate) crashes: u8,
    /// How often a replica begins to lead while another believes that it still does.
    pub(crate) takeovers: u8,
    /// How many answers are lost.
    pub(crate) lost: u8,
    /// So many activations are made, at most, and so many generations of tokens in each.
    pub(crate) most: (u8, u8),
    /// At the end everything is gone.
    pub(crate) ends: bool,
    pub(crate) broken: Option<Broken>,
    /// What has to be seen on the way: otherwise the bounds show nothing.
    pub(crate) sees: Vec<Property<Self>>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            name: "",
            clock: vec![100],
            terms: Terms {
                expires: 1_000_000,
                hard: true,
            },
            people: Vec::new(),
            lags: [Vec::new(), Vec::new()],
            live: true,
            crashes: 0,
            takeovers: 0,
            lost: 0,
            most: (2, 2),
            ends: false,
            broken: None,
            sees: Vec::new(),
        }
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Tick,
    Person(u8),
    Hear(u8, Source),
    /// The issuing lane looks, or sweeps.
    Look(u8),
    /// The issuing lane makes its next call.
    Step(u8),
    StepUnheard(u8),
    /// The closing lane takes a binding away.
    Close(u8),
    Lead(u8),
    Yield(u8),
    Crash(u8),
    Start(u8),
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) replicas: [Replica; 2],
    /// Which instant of the clock it is.
    pub(crate) clock: u8,
    /// So many things were done by people; each takes a second.
    pub(crate) deeds: u8,
    pub(crate) people: Vec<u8>,
    crashes: u8,
    takeovers: u8,
    lost: u8,
    /// Specs that were approved ever, with the incarnation of the grant.
    pub(crate) approved: Vec<(u8, u8)>,
    /// Access was cut because it had ended, and nothing was done since that could bring it back.
    pub(crate) cut: bool,
    /// Activations that were being made at that moment: who makes them had judged before, and may be paused at any length.
    pub(crate) excused: Vec<(u8, u8)>,
    /// The closing lane closed what should have stood, as everybody could know.
    pub(crate) overdone: bool,
}

impl World {
    pub(crate) fn now(&self, bounds: &Bounds) -> Second {
        bounds.clock[usize::from(self.clock)] + Second::from(self.deeds)
    }

    /// Whether access should exist, as the API server's own objects say.
    pub(crate) fn should_be(&self, bounds: &Bounds) -> bool {
        let omniscient = Replica::started(&self.server);
        let view = omniscient.view(bounds.terms, self.now(bounds));
        view.is_some_and(|view| judge(&view).active)
    }

    /// The clock has run down, and nobody can do anything more.
    pub(crate) fn is_over(&self, bounds: &Bounds) -> bool {
        let mut people = 0..bounds.people.len();
        usize::from(self.clock) + 1 == bounds.clock.len() && people.all(|person| self.deed(bounds, person).is_none())
    }

    fn grant(&self) -> Option<&GrantSeen> {
        self.server.grant.as_ref()
    }

    /// What a person would do next, if he can.
    fn deed(&self, bounds: &Bounds, person: usize) -> Option<Deed> {
        let deed = *bounds.people[person].get(usize::from(self.people[person]))?;
        let can = match deed {
            Deed::Recreate => self.grant().is_none(),
            Deed::OwnerReturns => self.server.owner.is_none(),
            Deed::CutBinding => self
                .server
                .children
                .iter()
                .any(|it| it.id.kind == ChildKind::RoleBinding),
            Deed::SwapSecret => self
                .server
                .children
                .iter()
                .any(|it| it.id.kind == ChildKind::DeliverySecret),
            _ => self.grant().is_some_and(|grant| !grant.deleting),
        };
        can.then_some(deed)
    }

    fn carry_out(&mut self, deed: Deed, now: Second) {
        let version = self.highest_version() + 1;
        let server = &mut self.server;
        let decide = |server: &mut Server, word| {
            let (grant, variant) = server.grant.as_ref().map_or((0, 0), |it| (it.uid, it.variant));
            server.decide(DecisionSeen {
                at: now,
                word,
                grant,
                variant,
            });
            (grant, variant)
        };
        match deed {
            Deed::Approve => {
                let what = decide(server, Word::Approve);
                self.approved.push(what);
                self.approved.sort();
                self.approved.dedup();
            }
            Deed::Deny => drop(decide(server, Word::Deny)),
            Deed::Revoke => drop(decide(server, Word::Revoke)),
            Deed::Withdraw => server.withdraw(),
            Deed::OwnerLeaves => server.put_owner(None),
            Deed::OwnerReturns => server.put_owner(Some(OwnerSeen { uid: 2, created: now })),
            Deed::Suspend => server.edit(|grant| grant.suspend = true),
            Deed::Resume => server.edit(|grant| grant.suspend = false),
            Deed::Widen => server.edit(|grant| grant.variant = 1),
            Deed::Narrow => server.edit(|grant| grant.variant = 0),
            Deed::AskRotation => server.edit(|grant| grant.rotate += 1),
            Deed::Delete => server.edit(|grant| grant.deleting = true),
            Deed::Recreate => server.put_grant(new_grant(2, now, version)),
            Deed::CutBinding => drop(server.tamper(ChildKind::RoleBinding, false)),
            Deed::SwapSecret => drop(server.tamper(ChildKind::DeliverySecret, true)),
        }
        if deed.renews() {
            self.cut = false;
            self.excused.clear();
        }
    }

    /// Tells watchers of what was written: those that don't lag hear it at once.
    fn spread(&mut self, bounds: &Bounds) {
        for event in std::mem::take(&mut self.server.told) {
            for (replica, lags) in self.replicas.iter_mut().zip(&bounds.lags) {
                if !replica.up {
                    continue;
                }
                let source = event.source();
                replica.queues[source as usize].push(event.clone());
                if !lags.contains(&source) {
                    replica.hear(source);
                }
            }
        }
    }

    /// Carries something out, and notes what it did to access; `closing` names the binding that the closing lane takes away.
    fn with(&mut self, bounds: &Bounds, closing: Option<ChildId>, act: impl FnOnce(&mut Self)) {
        let now = self.now(bounds);
        let was_usable = self.server.usable(now).next().is_some();
        let bindings = |world: &Self| {
            let all = world.server.children.iter();
            all.filter(|it| it.id.kind == ChildKind::RoleBinding)
                .copied()
                .collect::<Vec<Child>>()
        };
        let before = bindings(self);
        let is_known = self.everything_is_known();
        act(self);
        let after = bindings(self);
        let Some(taken) = before.iter().find(|it| !after.contains(it)) else {
            return;
        };
        let should_be = self.should_be(bounds);
        if was_usable && after.is_empty() && !should_be {
            self.cut = true;
            self.excused = self.replicas.iter().filter_map(Replica::making).collect();
        }
        // What was made before a no goes, though approval came after it: another activation follows.
        let mut noes = self.server.decisions.iter().filter(|it| it.word != Word::Approve);
        let is_outdated = noes.any(|no| Some(no.at) > taken.knew);
        self.overdone |= closing == Some(taken.id) && is_known && should_be && !is_outdated;
    }

    /// Nobody lags, and what a leader could note about the grant is noted.
    fn everything_is_known(&self) -> bool {
        self.replicas.iter().filter(|it| it.up).all(Replica::is_current)
    }

    fn highest_version(&self) -> u8 {
        let mut all = Vec::new();
        self.clone().versions(|version| all.push(*version));
        all.into_iter().max().unwrap_or(0)
    }

    /// Every version of the grant that anybody holds.
    fn versions(&mut self, mut each: impl FnMut(&mut u8)) {
        let mut grants: Vec<&mut GrantSeen> = self.server.grant.iter_mut().collect();
        for replica in &mut self.replicas {
            grants.extend(&mut replica.grant);
            grants.extend(&mut replica.written);
            let queued = replica.queues[Source::Grants as usize].iter_mut();
            grants.extend(queued.filter_map(|event| match event {
                crate::server::Event::Grant(grant) => grant.as_mut(),
                _ => None,
            }));
            match &mut replica.job {
                Some(
                    Job::Write { basis, .. }
                    | Job::Finish { basis }
                    | Job::Close(Taking { basis, .. })
                    | Job::Make { basis, .. },
                ) => grants.push(basis),
                Some(Job::Undo { .. } | Job::Read) | None => {}
            }
        }
        for grant in grants {
            each(&mut grant.version);
        }
    }

    /// Counts versions anew: only their order matters.
    fn renumber(&mut self) {
        let mut all = Vec::new();
        self.versions(|version| all.push(*version));
        all.sort_unstable();
        all.dedup();
        self.versions(|version| *version = u8::try_from(all.binary_search(version).unwrap()).unwrap());
    }
}

pub(crate) fn new_grant(uid: u8, created: Second, version: u8) -> GrantSeen {
    GrantSeen {
        version,
        uid,
        created,
        variant: 0,
        suspend: false,
        deleting: false,
        finalizer: false,
        rotate: 0,
        status: Status::of(None),
    }
}

impl Bounds {
    fn beginning(&self) -> World {
        let server = Server::new(new_grant(1, 0, 0), OwnerSeen { uid: 1, created: 0 });
        let mut world = World {
            replicas: [Replica::started(&server), Replica::started(&server)],
            server,
            clock: 0,
            deeds: 0,
            people: vec![0; self.people.len()],
            crashes: 0,
            takeovers: 0,
            lost: 0,
            approved: Vec::new(),
            cut: false,
            excused: Vec::new(),
            overdone: false,
        };
        world.replicas[0].leads = true;
        world.replicas[0].swept = true;
        if self.live {
            // A minute before the clock begins: long enough to be made anew where somebody tampers.
            let quiet = Self {
                clock: vec![10],
                lags: [Vec::new(), Vec::new()],
                broken: None,
                ..self.clone()
            };
            world.carry_out(Deed::Approve, 5);
            world.spread(&quiet);
            while let Some(next) = [Action::Step(0), Action::Look(0)]
                .into_iter()
                .find_map(|action| quiet.next_state(&world, action))
            {
                world = next;
            }
        }
        world
    }
}

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.beginning()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if usize::from(world.clock) + 1 < self.clock.len() {
            actions.push(Action::Tick);
        }
        for person in 0..self.people.len() {
            if world.deed(self, person).is_some() {
                actions.push(Action::Person(u8::try_from(person).unwrap()));
            }
        }
        for (number, replica) in (0u8..).zip(&world.replicas) {
            if !replica.up {
                actions.push(Action::Start(number));
                continue;
            }
            for source in Source::ALL {
                if !replica.queues[source as usize].is_empty() {
                    actions.push(Action::Hear(number, source));
                }
            }
            let other = &world.replicas[1 - usize::from(number)];
            if replica.job.is_some() {
                actions.push(Action::Step(number));
                if world.lost < self.lost {
                    actions.push(Action::StepUnheard(number));
                }
            } else if replica.leads {
                actions.push(Action::Look(number));
            }
            actions.push(Action::Close(number));
            if !replica.leads && (!other.leads || world.takeovers < self.takeovers) {
                actions.push(Action::Lead(number));
            }
            if replica.leads && other.leads {
                actions.push(Action::Yield(number));
            }
            if world.crashes < self.crashes {
                actions.push(Action::Crash(number));
            }
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        let now = world.now(self);
        match action {
            Action::Tick => {
                world.clock += 1;
                world.server.forget();
            }
            Action::Person(person) => {
                let person = usize::from(person);
                let deed = world.deed(self, person)?;
                world.people[person] += 1;
                world.deeds += 1;
                world.carry_out(deed, now + 1);
            }
            Action::Hear(number, source) => world.replicas[usize::from(number)].hear(source),
            Action::Look(number) => {
                let replica = &mut world.replicas[usize::from(number)];
                if replica.swept {
                    replica.job = Some(replica.look(self.terms, now, self.broken)?);
                    if !replica.is_within(self.most) {
                        return None;
                    }
                } else {
                    match replica.sweep(self.terms, now) {
                        Some(left) => replica.job = Some(Job::Close(Taking::sweep(left))),
                        None => replica.swept = true,
                    }
                }
            }
            Action::Step(number) | Action::StepUnheard(number) => {
                let answer = match action {
                    Action::Step(_) => Answer::Heard,
                    _ => Answer::Lost,
                };
                world.lost += u8::from(answer == Answer::Lost);
                let number = usize::from(number);
                world.replicas[number].job.as_ref()?;
                world.with(self, None, |world| {
                    let World { server, replicas, .. } = world;
                    replicas[number].step(server, now, answer, self.broken);
                });
            }
            Action::Close(number) => {
                let number = usize::from(number);
                if self.broken == Some(Broken::LeaderCloses) && !world.replicas[number].leads {
                    return None;
                }
                let due = world.replicas[number].due(self.terms, now).into_iter().next()?;
                world.with(self, Some(due), |world| {
                    let World { server, replicas, .. } = world;
                    replicas[number].close(server, &due);
                });
            }
            Action::Lead(number) => {
                let number = usize::from(number);
                world.takeovers += u8::from(world.replicas[1 - number].leads);
                let replica = &mut world.replicas[number];
                replica.leads = true;
                replica.swept = false;
            }
            Action::Yield(number) => {
                let replica = &mut world.replicas[usize::from(number)];
                replica.leads = false;
                replica.swept = false;
            }
            Action::Crash(number) => {
                world.crashes += 1;
                world.replicas[usize::from(number)] = Replica::default();
            }
            Action::Start(number) => {
                world.replicas[usize::from(number)] = Replica::started(&world.server);
            }
        }
        world.spread(self);
        world.renumber();
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = properties::all();
        if self.ends {
            all.push(properties::ends());
        }
        all.extend(self.sees.iter().cloned());
        all
    }
}
