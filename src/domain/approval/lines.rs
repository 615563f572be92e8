//! Requirement lines: so many people, of these groups. Of one policy's lines nobody stands in two; what several policies ask for may
//! be said by the same people, since each policy is satisfied by itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::kept::MOST_COUNTED;
use crate::api::v1alpha1::{ApprovalRequirement, CountedApproval, Instant, Principal};
use crate::domain::ownership::{Owners, Person, person};

/// What one policy asks for.
type Lines = Vec<ApprovalRequirement>;

/// The lines of several policies, each policy's by themselves, as few as say the same: lines of the same groups are one with the sum
/// of their counts, and what is asked for within another policy's lines anyway is left out. Sorted; one approval of anybody where none
/// asks for any.
#[must_use]
pub fn merged<'a>(policies: impl IntoIterator<Item = &'a [ApprovalRequirement]>) -> Vec<Lines> {
    let all: BTreeSet<BTreeMap<Vec<&Principal>, i32>> = policies
        .into_iter()
        .map(|lines| {
            let mut sums = BTreeMap::new();
            for line in lines {
                let groups: BTreeSet<&Principal> = line.groups.iter().collect();
                let sum = sums.entry(groups.into_iter().collect()).or_insert(0_i32);
                *sum = sum.saturating_add(line.count.max(1));
            }
            sums
        })
        .collect();
    let lines = all.into_iter().map(|sums| {
        let line = |(groups, count): (Vec<&Principal>, i32)| ApprovalRequirement {
            count,
            groups: groups.into_iter().cloned().collect(),
        };
        sums.into_iter().map(line).collect()
    });
    let all: Vec<Lines> = lines.filter(|lines: &Lines| !lines.is_empty()).collect();
    if all.is_empty() {
        return vec![vec![ApprovalRequirement {
            count: 1,
            groups: Vec::new(),
        }]];
    }
    let is_within_another = |index: usize| {
        let mut others = all.iter().enumerate().filter(|(other, _)| *other != index);
        others.any(|(_, other)| is_within(&all[index], other))
    };
    // None is within another and that within it: they would be the same, and a set holds each once.
    let kept = (0..all.len()).filter(|index| !is_within_another(*index));
    kept.map(|index| all[index].clone()).collect()
}

/// Whether whoever meets the outer lines meets the inner ones.
pub(crate) fn is_within(inner: &[ApprovalRequirement], outer: &[ApprovalRequirement]) -> bool {
    let (inner, outer) = (places(inner), places(outer));
    let fits = |wanted: usize, had: usize| {
        let (wanted, had) = (inner[wanted], outer[had]);
        // Whoever is of the groups asked for there is of those asked for here.
        wanted.groups.is_empty()
            || !had.groups.is_empty() && had.groups.iter().all(|group| wanted.groups.contains(group))
    };
    filled(inner.len(), outer.len(), fits).is_some()
}

/// A line for each of the people that it asks for.
fn places(lines: &[ApprovalRequirement]) -> Vec<&ApprovalRequirement> {
    // More than status keeps are never found.
    let count = |line: &ApprovalRequirement| {
        usize::try_from(line.count.max(1))
            .unwrap_or(usize::MAX)
            .min(MOST_COUNTED + 1)
    };
    lines
        .iter()
        .flat_map(|line| std::iter::repeat_n(line, count(line)))
        .collect()
}

/// Which place each hand fills where every place can be filled by a hand of its own: a matching of a bipartite graph, by augmenting
/// paths.
fn filled(places: usize, hands: usize, fits: impl Fn(usize, usize) -> bool) -> Option<Vec<Option<usize>>> {
    fn fill(
        place: usize,
        fits: &impl Fn(usize, usize) -> bool,
        fills: &mut [Option<usize>],
        seen: &mut [bool],
    ) -> bool {
        for hand in 0..fills.len() {
            if seen[hand] || !fits(place, hand) {
                continue;
            }
            seen[hand] = true;
            if fills[hand].is_none_or(|held| fill(held, fits, fills, seen)) {
                fills[hand] = Some(place);
                return true;
            }
        }
        false
    }
    let mut fills = vec![None; hands];
    let all = places <= hands && (0..places).all(|place| fill(place, &fits, &mut fills, &mut vec![false; hands]));
    all.then_some(fills)
}

/// An approval, whose it is, and until when it is good.
struct Said<'a> {
    end: Instant,
    who: Person<'a>,
    approval: &'a CountedApproval,
}

/// The last end first.
fn said<'a>(
    approvals: &[&'a CountedApproval],
    owners: &Owners<'a>,
    until: impl Fn(&CountedApproval) -> Instant,
) -> Vec<Said<'a>> {
    let of = |approval: &&'a CountedApproval| Said {
        end: until(approval),
        who: person(&approval.by, owners),
        approval,
    };
    let mut all: Vec<Said<'a>> = approvals.iter().map(of).collect();
    all.sort_by_key(|it| Reverse(it.end));
    all
}

/// Until when the lines of every policy are met, if all are now, where an approval is good until `until`.
#[must_use]
pub(super) fn met_until(
    policies: &[Lines],
    approvals: &[&CountedApproval],
    owners: &Owners<'_>,
    until: impl Fn(&CountedApproval) -> Instant,
) -> Option<Instant> {
    let said = said(approvals, owners, until);
    let mut ends = policies.iter().map(|lines| Some(met(lines, &said)?.0));
    let first = ends.next()??;
    ends.try_fold(first, |earliest, end| Some(earliest.min(end?)))
}

/// The UIDs of approvals by which each policy's lines are met for the longest, as far as they are.
#[must_use]
pub(super) fn used(policies: &[Lines], approvals: &[&CountedApproval], owners: &Owners<'_>) -> BTreeSet<String> {
    let said = said(approvals, owners, |approval| approval.valid_until);
    let used = policies.iter().filter_map(|lines| Some(met(lines, &said)?.1));
    used.flatten().map(|approval| approval.uid.clone()).collect()
}

/// The latest end that enough of those approvals reach, which are good until then or longer, and who they are then.
fn met<'a>(lines: &[ApprovalRequirement], said: &[Said<'a>]) -> Option<(Instant, Vec<&'a CountedApproval>)> {
    let places = places(lines);
    let mut people: BTreeMap<Person<'_>, Vec<&'a CountedApproval>> = BTreeMap::new();
    for (index, it) in said.iter().enumerate() {
        people.entry(it.who).or_default().push(it.approval);
        let is_last_of_instant = said.get(index + 1).is_none_or(|next| next.end != it.end);
        if !is_last_of_instant {
            continue;
        }
        let hands: Vec<&Vec<&CountedApproval>> = people.values().collect();
        let fitting = |place: usize, hand: usize| hands[hand].iter().find(|it| is_of_a_group(places[place], it));
        if let Some(fills) = filled(places.len(), hands.len(), |place, hand| fitting(place, hand).is_some()) {
            let used = fills.iter().enumerate();
            let used = used.filter_map(|(hand, place)| fitting((*place)?, hand).copied());
            return Some((it.end, used.collect()));
        }
    }
    None
}

/// Whether an approval can be one of those that any line asks for.
#[must_use]
pub(super) fn is_asked_for(policies: &[Lines], approval: &CountedApproval) -> bool {
    !fitting(policies, approval).is_empty()
}

/// The places of the lines that an approval can be one for; where none is asked for, as of one line for everybody.
#[must_use]
pub(super) fn fitting(policies: &[Lines], approval: &CountedApproval) -> Vec<usize> {
    if policies.is_empty() {
        return vec![0];
    }
    let lines = policies.iter().flatten().enumerate();
    let fitting = lines.filter(|(_, line)| is_of_a_group(line, approval));
    fitting.map(|(place, _)| place).collect()
}

fn is_of_a_group(line: &ApprovalRequirement, approval: &CountedApproval) -> bool {
    line.groups.is_empty() || line.groups.iter().any(|group| approval.groups.contains(&group.0))
}

/// What is asked for, in words: `2 approvals`, `1 approval of security or platform`, `1 approval of leads and 1 approval of security
/// (different people)`.
#[must_use]
pub fn describe(policies: &[Lines]) -> String {
    let words: Vec<String> = policies.iter().map(|lines| described(lines)).collect();
    words.join("; and, for another policy, ")
}

fn described(lines: &[ApprovalRequirement]) -> String {
    let words: Vec<String> = lines
        .iter()
        .map(|line| {
            let plural = if line.count == 1 { "" } else { "s" };
            let groups: Vec<&str> = line.groups.iter().map(AsRef::as_ref).collect();
            let of = if groups.is_empty() { "" } else { " of " };
            format!("{} approval{plural}{of}{}", line.count, groups.join(" or "))
        })
        .collect();
    let by = if words.len() > 1 { " (different people)" } else { "" };
    format!("{}{by}", words.join(" and "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::fixtures::at;

    const GROUPS: [&str; 3] = ["leads", "platform", "security"];

    fn groups(bits: u8) -> Vec<&'static str> {
        let named = GROUPS.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
        named.map(|(_, name)| *name).collect()
    }

    fn lines(all: &[(i32, u8)]) -> Lines {
        let line = |&(count, bits): &(i32, u8)| ApprovalRequirement {
            count,
            groups: groups(bits).into_iter().map(Into::into).collect(),
        };
        all.iter().map(line).collect()
    }

    fn approval((who, bits, hour): (u8, u8, u8)) -> CountedApproval {
        let value = serde_json::json!({
            "decisionRef": "a", "uid": "a", "by": format!("user-{who}"), "groups": groups(bits), "digest": "", "ownerUIDs": [],
            "at": "2026-12-01T00:00:00Z", "validUntil": format!("2026-12-02T{hour:02}:00:00Z"),
        });
        serde_json::from_value(value).unwrap()
    }

    fn met(policies: &[Lines], said: &[(u8, u8, u8)]) -> Option<Instant> {
        let approvals: Vec<CountedApproval> = said.iter().copied().map(approval).collect();
        let approvals: Vec<&CountedApproval> = approvals.iter().collect();
        met_until(policies, &approvals, &Owners::new(), |it| it.valid_until)
    }

    fn hour(hour: u8) -> Option<Instant> {
        Some(at(&format!("2026-12-02T{hour:02}:00:00Z")))
    }

    #[test]
    fn who_is_in_both_groups_is_still_one_person() {
        let two = [lines(&[(1, 0b001), (1, 0b100)])];
        assert_eq!(met(&two, &[(1, 0b101, 3)]), None);
        assert_eq!(
            met(&two, &[(1, 0b001, 3), (1, 0b100, 5)]),
            None,
            "nor under two decisions"
        );
        assert_eq!(
            met(&two, &[(1, 0b101, 3), (2, 0b001, 5)]),
            hour(3),
            "one for the leads, one for security"
        );
        assert_eq!(met(&two, &[(1, 0b101, 3), (2, 0b101, 5), (3, 0b100, 4)]), hour(4));
        assert_eq!(met(&two, &[(1, 0b101, 3), (2, 0, 5)]), None);
        assert_eq!(
            met(&[lines(&[(1, 0b001)]), lines(&[(1, 0b100)])], &[(1, 0b101, 3)]),
            hour(3),
            "of two policies"
        );
        assert_eq!(
            met(&[lines(&[(1, 0b001)]), lines(&[(1, 0b100)])], &[(1, 0b001, 3)]),
            None
        );
        assert_eq!(met(&[], &[(1, 0, 3)]), None);
    }

    #[test]
    fn what_another_policy_asks_for_anyway_is_left_out_and_said_once() {
        let merged = |all: &[&[(i32, u8)]]| {
            let all: Vec<Lines> = all.iter().map(|it| lines(it)).collect();
            describe(&merged(all.iter().map(Vec::as_slice)))
        };
        assert_eq!(merged(&[]), "1 approval");
        assert_eq!(merged(&[&[]]), "1 approval");
        assert_eq!(merged(&[&[(1, 0)], &[(2, 0)], &[(2, 0)]]), "2 approvals");
        assert_eq!(
            merged(&[&[(1, 0), (1, 0)]]),
            "2 approvals",
            "a line said twice asks for two"
        );
        assert_eq!(
            merged(&[&[(1, 0)], &[(1, 0b100)], &[(1, 0b101)]]),
            "1 approval of security"
        );
        assert_eq!(
            merged(&[&[(2, 0)], &[(1, 0b001), (1, 0b100)]]),
            "1 approval of leads and 1 approval of security (different people)"
        );
        assert_eq!(
            merged(&[&[(2, 0b011)], &[(3, 0)]]),
            "3 approvals; and, for another policy, 2 approvals of leads or platform"
        );
    }

    #[test]
    fn more_people_than_are_kept_are_never_found() {
        let kept = u8::try_from(MOST_COUNTED).unwrap();
        let said = |people: u8| -> Vec<(u8, u8, u8)> { (0..people).map(|who| (who, 0, 3)).collect() };
        let ask = |count: u8, people: u8| met(&[lines(&[(i32::from(count), 0)])], &said(people));
        assert_eq!(ask(kept, kept), hour(3));
        assert_eq!(ask(kept, kept - 1), None);
        assert_eq!(ask(kept + 1, kept), None);
        assert_eq!(ask(u8::MAX, kept), None);
    }

    /// Whether each place can be given to somebody else, by trying every way.
    fn is_met_slowly(places: &[&ApprovalRequirement], people: &BTreeMap<u8, Vec<CountedApproval>>) -> bool {
        let Some((first, rest)) = places.split_first() else {
            return true;
        };
        people.iter().any(|(who, said)| {
            let mut others = people.clone();
            others.remove(who);
            said.iter().any(|it| is_of_a_group(first, it)) && is_met_slowly(rest, &others)
        })
    }

    fn any_lines() -> impl Strategy<Value = Vec<(i32, u8)>> {
        proptest::collection::vec((1..3, 0..8_u8), 1..4)
    }

    proptest! {
        #[test]
        fn lines_are_met_as_if_every_way_had_been_tried(
            policies in proptest::collection::vec(any_lines(), 1..3), said in proptest::collection::vec((0..5_u8, 0..8_u8, 0..4_u8), 0..7),
        ) {
            let policies: Vec<Lines> = policies.iter().map(|it| lines(it)).collect();
            let slowly = (0..4_u8).rev().find(|hour| {
                policies.iter().all(|lines| {
                    let mut people: BTreeMap<u8, Vec<CountedApproval>> = BTreeMap::new();
                    for it in said.iter().filter(|it| it.2 >= *hour) {
                        people.entry(it.0).or_default().push(approval(*it));
                    }
                    is_met_slowly(&places(lines), &people)
                })
            });
            let expected = slowly.and_then(hour);
            prop_assert_eq!(met(&policies, &said), expected);
            let merged = merged(policies.iter().map(Vec::as_slice));
            prop_assert_eq!(met(&merged, &said), expected, "merging says the same");
        }
    }
}
