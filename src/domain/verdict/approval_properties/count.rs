//! The slow count: written from the words of the design, it shares no code with the verdict.

use std::collections::{BTreeMap, BTreeSet};

use super::Decision::{Approve, Deny, Review, Revoke};
use super::{Bob, DataClassification, Internal, Limits, Made, Place, ROBOT, User, Words, World};

/// What was found at a look: approvals that count, and which Reviews renew which of them.
#[derive(Default)]
pub(super) struct Found {
    pub(super) counted: Vec<usize>,
    pub(super) renewed: BTreeSet<(usize, usize)>,
    /// Until when each that counts is in force.
    ends: BTreeMap<usize, i64>,
    /// The last Deny or Revoke.
    pub(super) no: Option<i64>,
}

impl World {
    /// A person, as the set of user names: those that one AccessOwner lists, and those of an owner who shares one with it.
    fn person(&self, user: User) -> BTreeSet<User> {
        let mut names = BTreeSet::from([user]);
        for _ in 0..3 {
            for (_, listed) in self.usernames() {
                if listed.iter().any(|name| names.contains(name)) {
                    names.extend(listed);
                }
            }
        }
        names
    }

    /// "None of requester and contributors of the grant and of the integration ever counts", nor a ServiceAccount.
    pub(super) fn is_barred(&self, user: User, look: usize) -> bool {
        // Whoever was seen among them stays.
        let so_far = (0..=look).flat_map(|look| [self.contributors(0, look), self.contributors(1, look)].concat());
        let mut involved = self.asked.into_iter().chain(so_far);
        user == ROBOT || involved.any(|it| self.person(it).contains(user))
    }

    fn was_proved(&self, at: i64) -> bool {
        at >= self.proved && self.unproved.is_none_or(|(from, to)| at < from || at >= to)
    }

    pub(super) fn count(&self) -> Found {
        let mut found = Found::default();
        let mut removed = None;
        let mut forgotten = None;
        for (index, look) in self.looks.iter().enumerate() {
            let before = std::mem::take(&mut found);
            found.no = before.no;
            if index > 0 && self.looks[index - 1].content != look.content {
                forgotten = None;
            }
            let there = |it: &&Made| it.written <= look.at && index < it.gone && it.place == Place::This;
            let there: Vec<&Made> = self.made.iter().filter(there).collect();
            for it in &there {
                if matches!(it.word, Deny | Revoke) {
                    found.no = found.no.max(Some(it.written));
                }
            }
            if look.bob == Bob::Inactive {
                removed = Some(look.at);
            }
            // "Going back to an old content doesn't revive old ones."
            let replaced = self.looks[..=index].windows(2).rev();
            let replaced = replaced.filter(|it| it[0].content == look.content && it[1].content != look.content);
            let replaced = replaced.map(|it| it[1].at).max();
            let same = self.looks[..=index]
                .iter()
                .rev()
                .take_while(|it| it.content == look.content);
            let since = same.map(|it| it.at).min().unwrap();
            let is_checked = |it: &Made| {
                let knows = index >= it.answered && !(self.forgets && index + 1 == self.looks.len());
                look.knows_proofs && self.was_proved(it.written) && knows && it.may == Some(true)
            };
            let is_request_checked = self.created.iter().chain([&since]).all(|at| self.was_proved(*at));
            let is_sound = |it: &Made| {
                let pinned = it.of_this_uid && it.content == look.content && index < it.deleting;
                let after = [found.no, removed, replaced]
                    .iter()
                    .all(|at| at.is_none_or(|at| made_at(it) > at));
                pinned && after && !self.is_barred(it.who, index)
            };
            // An integration that was made anew is another one.
            let is_of_this = |it: &Made| made_at(it) >= self.created[1];
            for it in there
                .iter()
                .filter(|it| it.word == Approve && is_sound(it) && is_of_this(it))
            {
                let of_todays_owners = match look.bob {
                    Bob::Stays => true,
                    Bob::Inactive => false,
                    Bob::Anew(made) => made_at(it) >= made,
                };
                let is_new = forgotten.is_none_or(|at| made_at(it) > at);
                let is_known = before.counted.contains(&it.name) || is_new && is_checked(it) && is_request_checked;
                if of_todays_owners && is_known && (it.names_ledger || !self.reaches_ledger) {
                    found.counted.push(it.name);
                    let end = self.lapse(it);
                    found.ends.insert(it.name, end);
                }
            }
            // What counted and stopped to is forgotten: it doesn't come back with other dates.
            if index > 0 && self.looks[index - 1].content == look.content {
                let gone = self.made.iter().filter(|it| before.counted.contains(&it.name));
                let gone = gone.filter(|it| !found.counted.contains(&it.name));
                forgotten = forgotten.max(gone.map(made_at).max());
            }
            let mut reviews: Vec<&&Made> = there.iter().filter(|it| it.word == Review && is_sound(it)).collect();
            reviews.sort_by_key(|it| (it.written, it.name));
            for approval in there.iter().filter(|it| found.counted.contains(&it.name)) {
                for review in &reviews {
                    let end = found.ends[&approval.name];
                    let pair = (approval.name, review.name);
                    let is_known = is_checked(review) || before.renewed.iter().any(|it| it.1 == review.name);
                    let in_time = made_at(review) >= made_at(approval) && review.written < end;
                    if before.renewed.contains(&pair) || in_time && is_known {
                        let renewed = self.lapse(review).min(approval.until.unwrap_or(i64::MAX));
                        found.ends.insert(approval.name, end.max(renewed));
                        found.renewed.insert(pair);
                    }
                }
            }
        }
        found
    }

    /// "In force until min(validUntil, review due + grace)."
    fn lapse(&self, it: &Made) -> i64 {
        (made_at(it) + self.interval + self.grace).min(it.until.unwrap_or(i64::MAX))
    }

    /// Whether access that was there was found without an owner.
    fn ended_without_owner(&self) -> bool {
        let was_active = |look: usize| {
            let mut before = self.clone();
            before.looks.truncate(look);
            before.forgets = false;
            before.may_be_active()
        };
        (1..self.looks.len()).any(|look| self.looks[look].bob == Bob::Inactive && was_active(look))
    }

    /// Whether access is to be, by the words of the design alone.
    pub(super) fn may_be_active(&self) -> bool {
        let last = self.looks.last().unwrap();
        let found = self.count();
        let classes = [self.labels[0], self.labels[1].filter(|_| self.reaches_ledger)];
        let class = classes.into_iter().flatten().fold(self.class, Ord::max);
        let selecting: Vec<&Limits> = self
            .policies
            .iter()
            .filter(|it| it.selects && it.classes.contains(&class))
            .collect();
        let is_permitted = selecting.iter().any(|it| {
            let is_within = every_request().all(|request| {
                !self.wanted.iter().any(|it| it.allows(request)) || it.rules.iter().any(|it| it.allows(request))
            });
            is_within && (it.opens_ledger || !self.reaches_ledger)
        });
        let wants = |verb: u8| self.wanted.iter().any(|it| it.verbs & verb != 0);
        let is_delegated = self.contributed.contains(&Some(ROBOT));
        let keeps_limits = selecting.iter().all(|it| {
            (it.long_running || !wants(0b0100))
                && (it.delegated || !is_delegated)
                && self.expires - self.created[0] <= it.longest
                && it
                    .most
                    .is_none_or(|most| self.earlier_siblings < usize::try_from(most).unwrap())
        });
        if !is_permitted || !keeps_limits || last.bob == Bob::Inactive || last.at >= self.expires {
            return false;
        }
        let is_open = |it: &Option<DataClassification>| *it == Some(Internal);
        let is_mild = class <= Internal
            && !wants(0b1100)
            && is_open(&self.labels[0])
            && (!self.reaches_ledger || is_open(&self.labels[1]));
        // "No approval is needed", but a Deny or Revoke is "undone only by Approve decisions made after it, under self-service too", and
        // "`OwnerRemoved` is sticky in the same way".
        if is_mild && selecting.iter().all(|it| it.self_service) {
            return found.no.is_none() && !self.ended_without_owner() || !found.counted.is_empty();
        }
        // "Each line must be met", and "nor does one person count twice": of one policy's lines nobody stands in two.
        let in_force = |it: &&Made| found.ends.get(&it.name).is_some_and(|end| last.at < *end);
        let in_force: Vec<&Made> = self.made.iter().filter(in_force).collect();
        selecting.iter().all(|policy| {
            let lines = policy.lines.iter();
            let places: Vec<u8> = lines
                .flat_map(|&(count, groups)| (0..count).map(move |_| groups))
                .collect();
            self.is_met(&places, &in_force, &BTreeSet::new())
        })
    }

    /// Whether each place can be given to somebody else, by trying every way.
    fn is_met(&self, places: &[u8], said: &[&Made], taken: &BTreeSet<BTreeSet<User>>) -> bool {
        let Some((groups, rest)) = places.split_first() else {
            return true;
        };
        said.iter().any(|it| {
            let mut taken = taken.clone();
            (*groups == 0 || it.groups & groups != 0)
                && taken.insert(self.person(it.who))
                && self.is_met(rest, said, &taken)
        })
    }
}

pub(super) fn made_at(it: &Made) -> i64 {
    it.stated.map_or(it.written, |stated| stated.min(it.written))
}

/// Every request that rules can differ on: resource, verb, and the name of one object or none.
fn every_request() -> impl Iterator<Item = (u8, u8, u8)> {
    let names = |(resource, verb)| [0, 0b01, 0b10, 0b100].map(|name| (resource, verb, name));
    let verbs = |resource| [0b1, 0b10, 0b100, 0b1000].map(|verb| (resource, verb));
    [0b1, 0b10].into_iter().flat_map(verbs).flat_map(names)
}

impl Words {
    fn allows(self, (resource, verb, name): (u8, u8, u8)) -> bool {
        self.resources & resource != 0 && self.verbs & verb != 0 && (self.names == 0 || self.names & name != 0)
    }
}
