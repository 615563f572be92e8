//! What is explored: several small worlds, each with all that can happen in it.

use stateright::Property;

use crate::checks::{can_always_end, check, is_long};
use crate::objects::Terms;
use crate::properties::is_usable;
use crate::replica::{Job, Stage};
use crate::server::Source::{self, Bindings, Decisions, Grants, Owners, Rest};
use crate::world::{Bounds, Deed, World};

/// The watches of each replica that lag; more of them in the larger bounds.
fn lags(short: [&[Source]; 2], long: [&[Source]; 2]) -> [Vec<Source>; 2] {
    if is_long() { long } else { short }.map(<[Source]>::to_vec)
}

/// Checks, and that no loop keeps it from its end.
fn check_with_end(bounds: Bounds) {
    assert!(can_always_end(&bounds));
    check(Bounds { ends: true, ..bounds });
}

fn access() -> Property<Bounds> {
    Property::sometimes("access is usable", is_usable)
}

fn cut() -> Property<Bounds> {
    Property::sometimes("access was cut", |_, world: &World| world.cut)
}

fn anew() -> Property<Bounds> {
    Property::sometimes("another activation stands", |_, world: &World| {
        let grant = world.server.grant.as_ref();
        grant.is_some_and(|grant| grant.status.live() == Some(2))
    })
}

fn two_at_work() -> Property<Bounds> {
    Property::sometimes("two make access at once", |_, world: &World| {
        let is_making = |job: &Option<Job>| matches!(job, Some(Job::Make { stage, .. }) if *stage > Stage::Claim);
        world.replicas.iter().all(|replica| is_making(&replica.job))
    })
}

fn rotated() -> Property<Bounds> {
    Property::sometimes("another token was delivered", |_, world: &World| {
        let mut delivered = world.server.tokens.iter().filter(|token| token.delivered);
        delivered.any(|token| token.anchor.generation > 1)
    })
}

fn expiring() -> Terms {
    Terms {
        expires: 2_000,
        hard: true,
    }
}

#[test]
fn a_revocation_reaches_whoever_lags_and_whoever_took_over() {
    check_with_end(Bounds {
        name: "revocation",
        people: vec![vec![Deed::Revoke]],
        lags: lags(
            [&[Decisions, Grants, Bindings], &[Decisions, Bindings]],
            [&Source::ALL, &Source::ALL],
        ),
        takeovers: 1,
        sees: vec![access(), cut()],
        ..Bounds::default()
    });
}

#[test]
fn what_is_revoked_comes_back_by_a_fresh_approval_alone() {
    check(Bounds {
        name: "revocation and approval",
        people: vec![vec![Deed::Revoke, Deed::Approve]],
        lags: lags(
            [&[Decisions], &[Bindings]],
            [&[Decisions, Bindings], &[Decisions, Bindings]],
        ),
        takeovers: 1,
        sees: vec![access(), cut(), anew()],
        ..Bounds::default()
    });
}

#[test]
fn a_leader_that_was_paused_in_the_middle_of_an_issue_does_no_harm() {
    check(Bounds {
        name: "issue and takeover",
        live: false,
        people: vec![vec![Deed::Approve, Deed::Deny]],
        lags: lags([&[], &[]], [&[Decisions], &[]]),
        takeovers: 1,
        ends: true,
        sees: vec![access(), two_at_work()],
        ..Bounds::default()
    });
}

#[test]
fn a_crash_between_any_two_writes_leaves_nothing() {
    check_with_end(Bounds {
        name: "issue and crash",
        live: false,
        people: vec![vec![Deed::Approve, Deed::Revoke]],
        lags: lags([&[], &[Decisions]], [&[Bindings], &[Decisions]]),
        crashes: 2,
        sees: vec![access(), cut(), anew()],
        ..Bounds::default()
    });
}

#[test]
fn an_answer_that_is_lost_leaves_nothing() {
    check(Bounds {
        name: "issue, rotation and lost answers",
        live: false,
        people: vec![vec![Deed::Approve, Deed::AskRotation, Deed::Revoke]],
        lags: lags([&[Rest], &[]], [&[Rest, Decisions], &[]]),
        lost: 1,
        ends: true,
        sees: vec![access(), rotated(), anew()],
        ..Bounds::default()
    });
}

#[test]
fn rotation_delivers_each_generation_once() {
    let (clock, people) = if is_long() {
        (vec![100, 650, 800, 1_250], vec![vec![Deed::Revoke]])
    } else {
        (vec![100, 650, 800], Vec::new())
    };
    check(Bounds {
        name: "rotation",
        clock,
        people,
        most: (1, 3),
        takeovers: 1,
        sees: vec![access(), rotated(), two_at_work()],
        ..Bounds::default()
    });
}

#[test]
fn access_ends_on_time_even_where_every_replica_is_down() {
    check(Bounds {
        name: "expiry and crashes",
        clock: vec![100, 650, 1_270, 1_999, 2_005, 2_080],
        terms: expiring(),
        lags: lags([&[Grants], &[]], [&[Grants], &[Bindings]]),
        crashes: 2,
        ends: true,
        sees: vec![access(), rotated()],
        ..Bounds::default()
    });
}

#[test]
fn tampering_does_not_bring_back_what_was_revoked() {
    check(Bounds {
        name: "tampering and revocation",
        people: vec![vec![Deed::CutBinding], vec![Deed::Revoke]],
        lags: lags([&[Decisions], &[Bindings]], [&[Decisions, Bindings], &[Bindings]]),
        takeovers: 1,
        ends: true,
        sees: vec![access(), cut(), anew()],
        ..Bounds::default()
    });
}

#[test]
fn an_approval_that_is_withdrawn_counts_no_more_whoever_lags() {
    check_with_end(Bounds {
        name: "withdrawal",
        people: vec![vec![Deed::Withdraw]],
        lags: lags(
            [&[Decisions, Bindings], &[Decisions, Bindings]],
            [&[Decisions, Bindings, Grants], &[Decisions, Bindings, Grants]],
        ),
        takeovers: 2,
        sees: vec![access(), cut()],
        ..Bounds::default()
    });
}

#[test]
fn an_owner_who_leaves_and_returns_takes_the_approval_along() {
    check(Bounds {
        name: "owner removed and back",
        people: vec![vec![Deed::OwnerLeaves, Deed::OwnerReturns]],
        lags: lags(
            [&[Owners], &[Owners, Bindings]],
            [&[Owners, Bindings], &[Owners, Bindings, Grants]],
        ),
        takeovers: 1,
        ends: true,
        sees: vec![access(), cut()],
        ..Bounds::default()
    });
}

#[test]
fn a_grant_of_the_same_name_begins_anew() {
    check(Bounds {
        name: "deletion and another grant of the name",
        people: vec![vec![Deed::Delete, Deed::Recreate], vec![Deed::Approve]],
        lags: lags([&[Grants], &[]], [&[Grants], &[Bindings]]),
        takeovers: 1,
        sees: vec![access(), cut()],
        ..Bounds::default()
    });
}

#[test]
fn a_change_of_what_is_granted_needs_an_approval_of_its_own() {
    check(Bounds {
        name: "changes and suspension",
        people: vec![
            vec![Deed::Widen, Deed::Approve, Deed::Narrow],
            vec![Deed::Suspend, Deed::Resume],
        ],
        lags: lags([&[Grants], &[]], [&[Grants, Decisions], &[Grants]]),
        sees: vec![access(), cut(), anew()],
        ..Bounds::default()
    });
}

#[test]
fn a_secret_that_somebody_swapped_is_left_alone() {
    check(Bounds {
        name: "a foreign Secret",
        people: vec![vec![Deed::SwapSecret], vec![Deed::AskRotation, Deed::Revoke]],
        lags: lags([&[Rest], &[]], [&[Rest, Bindings], &[Bindings]]),
        ends: true,
        sees: vec![access(), cut()],
        ..Bounds::default()
    });
}
