//! Whether one set of rules lies within another, and if not, which permissions stick out. Pure, and bounded in time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::api::v1alpha1::ResolvedRule;

use super::{ALL, NON_RESOURCE_URLS, TOO_MANY_RULES, is_pseudo_group, normalise};

/// The most permissions that [`Atoms`] names.
pub const MOST_ATOMS: usize = 8;
/// Steps after which a comparison gives up and counts as not covered. Every grant and policy that the schema lets through
/// takes fewer (16 rules of 16 x 16 x 16 words and 32 names, were each of them to meet the ceiling differently).
const MOST_STEPS: usize = 4_000_000;
/// The longest a word is shown.
const MOST_SHOWN: usize = 128;

/// One permission: one verb on one resource, on one name or on all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Atom {
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, or `resource/subresource`.
    pub resource: String,
    /// The verb.
    pub verb: String,
    /// The object's name; all where there is none.
    pub name: Option<String>,
}

/// A word of somebody else's, made harmless for terminals and cut to a length.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars().take(MOST_SHOWN).flat_map(char::escape_debug) {
            fmt::Write::write_char(f, character)?;
        }
        if self.0.chars().nth(MOST_SHOWN).is_some() {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group == TOO_MANY_RULES {
            return f.write_str("more rules than can be judged");
        }
        write!(f, "{} ", Shown(&self.verb))?;
        if self.group == NON_RESOURCE_URLS {
            return write!(f, "non-resource URL {}", Shown(&self.resource));
        }
        if !self.group.is_empty() {
            write!(f, "{}/", Shown(&self.group))?;
        }
        write!(f, "{}", Shown(&self.resource))?;
        self.name
            .as_ref()
            .map_or(Ok(()), |name| write!(f, " \"{}\"", Shown(name)))
    }
}

/// Some permissions, in order: at most [`MOST_ATOMS`], and whether there are more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Atoms {
    /// The permissions named.
    pub first: Vec<Atom>,
    /// Whether there are, or may be, others.
    pub more: bool,
}

impl Atoms {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && !self.more
    }
}

impl fmt::Display for Atoms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, atom) in self.first.iter().enumerate() {
            write!(f, "{}{atom}", if index == 0 { "" } else { ", " })?;
        }
        match (self.first.is_empty(), self.more) {
            (true, true) => f.write_str("more than can be compared"),
            (false, true) => f.write_str(" and more"),
            (true, false) => f.write_str("nothing"),
            (false, false) => Ok(()),
        }
    }
}

/// Whether everything that `wanted` permits is permitted by `ceiling`.
#[must_use]
pub fn covers(ceiling: &[ResolvedRule], wanted: &[ResolvedRule]) -> bool {
    uncovered(ceiling, wanted).is_empty()
}

/// What `now` permits beyond `approved`.
#[must_use]
pub fn growth(approved: &[ResolvedRule], now: &[ResolvedRule]) -> Atoms {
    uncovered(approved, now)
}

/// What `wanted` permits and `ceiling` doesn't.
///
/// Permissions are compared one by one, as Kubernetes' own check against escalation does, but words that meet the ceiling
/// alike are compared once.
#[must_use]
pub fn uncovered(ceiling: &[ResolvedRule], wanted: &[ResolvedRule]) -> Atoms {
    let ceiling = normalise(ceiling.to_vec());
    let mut search = Search {
        found: BTreeSet::new(),
        steps_left: MOST_STEPS,
    };
    let mut complete = true;
    for rule in normalise(wanted.to_vec()) {
        // The usual case, and what keeps an unchanged ClusterRole, however large, from being taken for a grown one.
        if ceiling.iter().any(|wide| rule_within(wide, &rule)) {
            continue;
        }
        complete = search.rule(&ceiling, &rule);
        if !complete {
            break;
        }
    }
    let more = !complete || search.found.len() > MOST_ATOMS;
    Atoms {
        first: search.found.into_iter().take(MOST_ATOMS).collect(),
        more,
    }
}

/// Which rules of the ceiling a word lies within, as bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mask(Vec<u64>);

impl Mask {
    fn of(ceiling: &[ResolvedRule], within: impl Fn(&ResolvedRule) -> bool) -> Self {
        let word = |rules: &[ResolvedRule]| {
            rules
                .iter()
                .enumerate()
                .fold(0, |bits, (bit, rule)| bits | (u64::from(within(rule)) << bit))
        };
        Self(ceiling.chunks(64).map(word).collect())
    }

    fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(left, right)| left & right).collect())
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(left, right)| left & right != 0)
    }
}

/// Words that lie within the same rules of the ceiling.
type Classes<'a> = BTreeMap<Mask, Vec<&'a str>>;

fn classes<'a>(
    ceiling: &[ResolvedRule],
    words: &'a [String],
    within: impl Fn(&ResolvedRule, &str) -> bool,
) -> Classes<'a> {
    let mut classes = Classes::new();
    for word in words {
        classes
            .entry(Mask::of(ceiling, |rule| within(rule, word)))
            .or_default()
            .push(word);
    }
    classes
}

struct Search {
    found: BTreeSet<Atom>,
    steps_left: usize,
}

impl Search {
    /// Looks for permissions of `rule` past the ceiling; false where it stopped before the end.
    fn rule(&mut self, ceiling: &[ResolvedRule], rule: &ResolvedRule) -> bool {
        let groups = classes(ceiling, &rule.api_groups, group_in);
        let resources = classes(ceiling, &rule.resources, resource_in);
        let verbs = classes(ceiling, &rule.verbs, verb_in);
        let named = classes(ceiling, &rule.resource_names, name_in);
        let named = named
            .into_iter()
            .map(|(mask, names)| (mask, names.into_iter().map(Some).collect()));
        let mut names: Vec<(Mask, Vec<Option<&str>>)> = named.collect();
        if rule.resource_names.is_empty() {
            names.push((Mask::of(ceiling, |wide| wide.resource_names.is_empty()), vec![None]));
        }
        for (group_mask, groups) in &groups {
            for (resource_mask, resources) in &resources {
                let both = group_mask.and(resource_mask);
                for (verb_mask, verbs) in &verbs {
                    let holders = both.and(verb_mask);
                    for (name_mask, names) in &names {
                        let Some(left) = self.steps_left.checked_sub(1) else {
                            return false;
                        };
                        self.steps_left = left;
                        if !holders.meets(name_mask) && !self.note(groups, resources, verbs, names) {
                            return false;
                        }
                    }
                }
            }
        }
        true
    }

    /// Adds permissions until there is one too many; false then.
    fn note(&mut self, groups: &[&str], resources: &[&str], verbs: &[&str], names: &[Option<&str>]) -> bool {
        for group in groups {
            for resource in resources {
                for verb in verbs {
                    for name in names {
                        self.found.insert(Atom {
                            group: (*group).to_owned(),
                            resource: (*resource).to_owned(),
                            verb: (*verb).to_owned(),
                            name: name.map(str::to_owned),
                        });
                        if self.found.len() > MOST_ATOMS {
                            return false;
                        }
                    }
                }
            }
        }
        true
    }
}

/// Whether the sorted words hold this one.
fn holds(sorted: &[String], word: &str) -> bool {
    sorted.binary_search_by(|held| held.as_str().cmp(word)).is_ok()
}

fn group_in(wide: &ResolvedRule, group: &str) -> bool {
    !is_pseudo_group(group) && (holds(&wide.api_groups, group) || holds(&wide.api_groups, ALL))
}

fn verb_in(wide: &ResolvedRule, verb: &str) -> bool {
    holds(&wide.verbs, verb) || holds(&wide.verbs, ALL)
}

/// `*` is every resource and subresource, `*/scale` that subresource of each; `pods` is not `pods/log`.
fn resource_in(wide: &ResolvedRule, resource: &str) -> bool {
    holds(&wide.resources, ALL)
        || holds(&wide.resources, resource)
        || resource
            .split_once('/')
            .is_some_and(|(_, sub)| holds(&wide.resources, &format!("*/{sub}")))
}

fn name_in(wide: &ResolvedRule, name: &str) -> bool {
    wide.resource_names.is_empty() || holds(&wide.resource_names, name)
}

/// Whether `rule` as a whole lies within the one rule `wide`; both in sorted words.
pub(super) fn rule_within(wide: &ResolvedRule, rule: &ResolvedRule) -> bool {
    let names_within = match (wide.resource_names.is_empty(), rule.resource_names.is_empty()) {
        (true, _) => true,
        (false, true) => false,
        (false, false) => rule.resource_names.iter().all(|name| name_in(wide, name)),
    };
    names_within
        && rule.api_groups.iter().all(|group| group_in(wide, group))
        && rule.verbs.iter().all(|verb| verb_in(wide, verb))
        && rule.resources.iter().all(|resource| resource_in(wide, resource))
}
