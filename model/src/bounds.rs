//! What is explored.

use stateright::{Checker as _, Model as _, Property};

use crate::objects::Terms;
use crate::properties::is_usable;
use crate::server::Source;
use crate::world::{Bounds, Deed};

/// Whether the larger bounds are asked for.
#[expect(clippy::disallowed_methods, reason = "how much is tested is told by the environment")]
pub(crate) fn is_long() -> bool {
    std::env::var("WAYLEAVE_TEST_LONG").is_ok_and(|value| value == "1")
}

/// Visits every state, and says how many there are.
fn check(bounds: Bounds) {
    let name = bounds.name;
    let begun = std::time::Instant::now();
    let checker = bounds.checker().threads(2).spawn_bfs().join();
    eprintln!(
        "{name}: {} states, {} unique, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

fn live() -> Property<Bounds> {
    Property::sometimes("access is usable", is_usable)
}

use Source::*;
fn all() -> Vec<Source> { Source::ALL.to_vec() }

#[test]
fn revocation() {
    check(Bounds {
        name: "revocation",
        people: vec![vec![Deed::Revoke]],
        lags: [all(), all()],
        takeovers: 1,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}

#[test]
fn issue_and_revoke() {
    check(Bounds {
        name: "issue and revoke",
        live: false,
        people: vec![vec![Deed::Approve, Deed::Revoke]],
        lags: [vec![Decisions, Bindings], vec![Decisions, Grants, Bindings]],
        takeovers: 1,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}

#[test]
fn crash_at_issue() {
    check(Bounds {
        name: "crash at issue",
        live: false,
        people: vec![vec![Deed::Approve, Deed::Revoke]],
        lags: [vec![], vec![Decisions, Bindings]],
        crashes: 1,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}

#[test]
fn rotation() {
    check(Bounds {
        name: "rotation",
        clock: vec![100, 650, 800, 1250],
        people: vec![vec![Deed::Revoke]],
        lags: [vec![Decisions], vec![Grants, Bindings]],
        takeovers: 1,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}
#[test]
fn expiry() {
    check(Bounds {
        name: "expiry",
        clock: vec![100, 650, 1330, 1999, 2005, 2080],
        terms: Terms { expires: 2000, hard: true },
        people: vec![vec![]],
        lags: [vec![Grants], vec![Grants, Bindings]],
        takeovers: 1,
        crashes: 1,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}
#[test]
fn cut_binding() {
    check(Bounds {
        name: "tampering and revocation",
        people: vec![vec![Deed::CutBinding], vec![Deed::Revoke]],
        lags: [vec![Decisions, Bindings], vec![Grants, Bindings]],
        takeovers: 1,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}
#[test]
fn owner() {
    check(Bounds {
        name: "owner",
        people: vec![vec![Deed::OwnerLeaves, Deed::OwnerReturns]],
        lags: [vec![Owners, Bindings], vec![Owners, Bindings]],
        takeovers: 1,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}
#[test]
fn withdraw() {
    check(Bounds {
        name: "withdraw",
        people: vec![vec![Deed::Withdraw]],
        lags: [vec![Decisions, Bindings], vec![Decisions, Bindings]],
        takeovers: 2,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}
#[test]
fn recreate() {
    check(Bounds {
        name: "recreate",
        people: vec![vec![Deed::Delete, Deed::Recreate, Deed::Approve, Deed::Revoke]],
        lags: [vec![Grants], vec![Grants, Bindings]],
        takeovers: 1,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}
#[test]
fn widen() {
    check(Bounds {
        name: "widen",
        people: vec![vec![Deed::Widen, Deed::Narrow], vec![Deed::Approve, Deed::Revoke]],
        lags: [vec![Grants, Decisions], vec![Grants]],
        takeovers: 1,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}
#[test]
fn lost() {
    check(Bounds {
        name: "lost answer",
        live: false,
        people: vec![vec![Deed::Approve, Deed::AskRotation, Deed::Revoke]],
        lags: [vec![Rest, Bindings], vec![]],
        lost: 1,
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}
#[test]
fn swap() {
    check(Bounds {
        name: "swap",
        people: vec![vec![Deed::SwapSecret], vec![Deed::AskRotation, Deed::Revoke]],
        lags: [vec![Rest, Bindings], vec![]],
        ends: true,
        sees: vec![live()],
        ..Bounds::default()
    });
}
