//! The model of the API server: its objects, the guards of its writes, and whether a credential works.

use wayleave::api::v1alpha1::ChildKind;

use crate::objects::{Child, ChildId, DecisionSeen, GrantSeen, OwnerSeen, Second, Word};

/// A token is accepted for so long after its `exp`: leeway of 60 s, and a cache of 10 s.
const FADE: Second = 70;

/// A token that was minted. The partner has every one of them, those whose answer was lost too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    pub(crate) account: ChildId,
    pub(crate) anchor: ChildId,
    pub(crate) expires: Second,
    /// It stood in a delivery Secret once.
    pub(crate) delivered: bool,
    /// The API server says yes to it, or said so a moment ago and remembers for up to 10 s.
    pub(crate) cached: bool,
    /// It was to end by itself before this.
    pub(crate) until: Option<Second>,
}

/// What is told to who watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Grant(Option<GrantSeen>),
    Decided(DecisionSeen),
    Withdrawn(DecisionSeen),
    Owner(Option<OwnerSeen>),
    /// Of a binding, or of anything else that was made for the grant.
    Made(Child),
    Gone(ChildId),
}

/// What is watched by itself: within one source the order is kept, across them it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Grants,
    Decisions,
    Owners,
    Bindings,
    /// Identities, roles and Secrets.
    Rest,
}

impl Source {
    pub(crate) const ALL: [Self; 5] = [Self::Grants, Self::Decisions, Self::Owners, Self::Bindings, Self::Rest];
}

impl Event {
    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Grant(_) => Source::Grants,
            Self::Decided(_) | Self::Withdrawn(_) => Source::Decisions,
            Self::Owner(_) => Source::Owners,
            Self::Made(Child { id, .. }) | Self::Gone(id) if id.kind == ChildKind::RoleBinding => Source::Bindings,
            Self::Made(_) | Self::Gone(_) => Source::Rest,
        }
    }
}

/// Why a write was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The object is not the one that was looked at.
    Conflict,
    /// Another has the name.
    AlreadyExists,
    NotFound,
    /// The token that was granted lives too long.
    TooLong,
}

/// The API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) grant: Option<GrantSeen>,
    pub(crate) decisions: Vec<DecisionSeen>,
    pub(crate) owner: Option<OwnerSeen>,
    pub(crate) children: Vec<Child>,
    pub(crate) tokens: Vec<Token>,
    /// The last object of each name that is gone.
    names: Vec<ChildId>,
    /// What watchers are yet to be told.
    pub(crate) told: Vec<Event>,
    /// An operator wrote to what is not ours.
    pub(crate) foreign_touched: bool,
    /// Two tokens of one generation stood in a delivery Secret.
    pub(crate) delivered_twice: bool,
}

impl Server {
    pub(crate) fn new(grant: GrantSeen, owner: OwnerSeen) -> Self {
        Self {
            grant: Some(grant),
            decisions: Vec::new(),
            owner: Some(owner),
            children: Vec::new(),
            tokens: Vec::new(),
            names: Vec::new(),
            told: Vec::new(),
            foreign_touched: false,
            delivered_twice: false,
        }
    }

    /// Whoever watches is told of what is there now.
    fn tell_of_grant(&mut self) {
        self.told.push(Event::Grant(self.grant.clone()));
    }

    /// A user changes the grant.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut GrantSeen)) {
        if let Some(grant) = &mut self.grant {
            change(grant);
            grant.version += 1;
            self.let_go();
            self.tell_of_grant();
        }
    }

    pub(crate) fn put_grant(&mut self, grant: GrantSeen) {
        self.grant = Some(grant);
        self.tell_of_grant();
    }

    /// A write of the operator to the grant, if it still is the version that was looked at; `blind` asks nothing.
    pub(crate) fn write(
        &mut self,
        seen: &GrantSeen,
        blind: bool,
        change: impl FnOnce(&mut GrantSeen),
    ) -> Result<Option<GrantSeen>, Refused> {
        let grant = self.grant.as_mut().ok_or(Refused::NotFound)?;
        if grant.version != seen.version && !blind || grant.uid != seen.uid {
            return Err(Refused::Conflict);
        }
        change(grant);
        grant.version += 1;
        self.let_go();
        self.tell_of_grant();
        Ok(self.grant.clone())
    }

    /// A grant that is being deleted is gone with its last finalizer.
    fn let_go(&mut self) {
        if self
            .grant
            .as_ref()
            .is_some_and(|grant| grant.deleting && !grant.finalizer)
        {
            self.grant = None;
        }
    }

    pub(crate) fn decide(&mut self, decision: DecisionSeen) {
        self.decisions.push(decision);
        self.told.push(Event::Decided(decision));
    }

    /// Deletes the latest approval.
    pub(crate) fn withdraw(&mut self) {
        if let Some(place) = self.decisions.iter().rposition(|it| it.word == Word::Approve) {
            let decision = self.decisions.remove(place);
            self.told.push(Event::Withdrawn(decision));
        }
    }

    pub(crate) fn put_owner(&mut self, owner: Option<OwnerSeen>) {
        self.owner = owner;
        self.told.push(Event::Owner(owner));
    }

    fn at(&self, place: (ChildKind, u8, u8, u8)) -> Option<usize> {
        self.children.iter().position(|child| child.id.place() == place)
    }

    /// Whether an object of this name is there.
    pub(crate) fn has(&self, id: &ChildId) -> bool {
        self.at(id.place()).is_some()
    }

    /// Makes an object; its UID is one that none had before.
    pub(crate) fn post(&mut self, mut child: Child) -> Result<Child, Refused> {
        if self.has(&child.id) {
            return Err(Refused::AlreadyExists);
        }
        child.id.again = self.again(&child.id);
        self.children.push(child);
        self.children.sort();
        self.told.push(Event::Made(child));
        Ok(child)
    }

    /// How many objects had this name.
    fn again(&self, id: &ChildId) -> u8 {
        let same = self
            .names
            .iter()
            .filter(|it| (it.place(), it.activation) == (id.place(), id.activation));
        same.map(|it| it.again + 1).max().unwrap_or(0)
    }

    /// Deletes an object under its UID; without the precondition, whatever has the name.
    pub(crate) fn delete(&mut self, id: &ChildId, by_uid: bool) -> Result<(), Refused> {
        let found = self.at(id.place()).ok_or(Refused::NotFound)?;
        if by_uid && self.children[found].id != *id {
            return Err(Refused::Conflict);
        }
        self.foreign_touched |= self.children[found].id.foreign;
        self.take(found);
        Ok(())
    }

    fn take(&mut self, found: usize) {
        let id = self.children.remove(found).id;
        self.names
            .retain(|it| (it.place(), it.activation) != (id.place(), id.activation));
        self.names.push(id);
        self.names.sort();
        self.told.push(Event::Gone(id));
    }

    /// Somebody with power in the namespace takes an object away, and may put another in its place.
    pub(crate) fn tamper(&mut self, kind: ChildKind, swap: bool) -> bool {
        let Some(found) = self.children.iter().position(|it| it.id.kind == kind && !it.id.foreign) else {
            return false;
        };
        let id = self.children[found].id;
        self.take(found);
        if swap {
            let foreign = ChildId {
                foreign: true,
                again: 0,
                ..id
            };
            let child = Child {
                id: foreign,
                variant: 0,
                last_no: None,
                knew: None,
                holds: None,
            };
            self.children.push(child);
            self.children.sort();
            self.told.push(Event::Made(child));
        }
        true
    }

    /// Answers a TokenRequest for a ServiceAccount and an anchor of these UIDs.
    pub(crate) fn mint(
        &mut self,
        account: &ChildId,
        anchor: &ChildId,
        expires: Second,
        until: Option<Second>,
    ) -> Result<u8, Refused> {
        let is_there = |id: &ChildId| self.children.iter().any(|child| child.id == *id);
        if !is_there(account) {
            return Err(Refused::Conflict);
        }
        if !is_there(anchor) {
            return Err(Refused::NotFound);
        }
        self.tokens.push(Token {
            account: *account,
            anchor: *anchor,
            expires,
            delivered: false,
            cached: true,
            until,
        });
        Ok(u8::try_from(self.tokens.len() - 1).unwrap())
    }

    /// A token stands in a delivery Secret from now on.
    pub(crate) fn delivered(&mut self, token: u8) {
        let generation = |token: &Token| token.anchor.place();
        let place = generation(&self.tokens[usize::from(token)]);
        let mut before = self
            .tokens
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != usize::from(token));
        self.delivered_twice |= before.any(|(_, it)| it.delivered && generation(it) == place);
        self.tokens[usize::from(token)].delivered = true;
    }

    /// Replaces what a delivery Secret holds, if it still is that one, and holds what it held.
    pub(crate) fn deliver(&mut self, secret: &ChildId, held: Option<u8>, token: u8) -> Result<(), Refused> {
        let found = self.at(secret.place()).ok_or(Refused::NotFound)?;
        let is_another = held.is_some() && self.children[found].holds != held;
        if self.children[found].id != *secret || is_another {
            return Err(Refused::Conflict);
        }
        self.children[found].holds = Some(token);
        let child = self.children[found];
        self.told.push(Event::Made(child));
        self.delivered(token);
        Ok(())
    }

    /// More than 10 s went by: what was taken away is forgotten.
    pub(crate) fn forget(&mut self) {
        let there: Vec<ChildId> = self.children.iter().map(|child| child.id).collect();
        for token in &mut self.tokens {
            token.cached &= there.contains(&token.account) && there.contains(&token.anchor);
        }
    }

    /// Whether the API server knows the bearer.
    pub(crate) fn authenticates(&self, token: &Token, now: Second) -> bool {
        now < token.expires + FADE && token.cached
    }

    /// The Role that gives the bearer anything.
    pub(crate) fn authorises(&self, token: &Token) -> Option<&Child> {
        let of_activation = |kind| {
            let mut all = self.children.iter();
            all.find(move |it| {
                let same = (it.id.grant, it.id.activation) == (token.account.grant, token.account.activation);
                same && it.id.kind == kind && !it.id.foreign
            })
        };
        of_activation(ChildKind::RoleBinding).and_then(|_| of_activation(ChildKind::Role))
    }

    /// Every token that gives access now, with the Role that it gives access by.
    pub(crate) fn usable(&self, now: Second) -> impl Iterator<Item = (&Token, &Child)> {
        let known = self.tokens.iter().filter(move |token| self.authenticates(token, now));
        known.filter_map(|token| self.authorises(token).map(|role| (token, role)))
    }
}
