//! Broken operators: the model can fail, and each of these is found out.

use crate::Broken;
use crate::checks::{can_always_end, finds};
use crate::objects::Terms;
use crate::properties;
use crate::server::Source::{Decisions, Rest};
use crate::world::{Bounds, Deed};

/// Revoked, with a leader that hears of it late.
fn late() -> Bounds {
    Bounds {
        people: vec![vec![Deed::Revoke]],
        lags: [vec![Decisions], Vec::new()],
        ..Bounds::default()
    }
}

#[test]
fn a_binding_that_is_put_back() {
    finds(Broken::BindingPutBack, properties::STAYS_CUT, late());
}

#[test]
fn a_new_activation_without_a_fresh_read() {
    finds(Broken::NoFreshRead, properties::STAYS_CUT, late());
}

#[test]
fn a_fresh_read_of_what_was_not_judged_by() {
    finds(Broken::StaleFreshRead, properties::STAYS_CUT, late());
    let withdrawn = Bounds {
        people: vec![vec![Deed::Withdraw]],
        takeovers: 1,
        ..late()
    };
    finds(Broken::StaleFreshRead, properties::STAYS_CUT, withdrawn);
}

#[test]
fn anchors_before_bindings() {
    finds(
        Broken::AnchorsFirst,
        properties::BINDINGS_FIRST,
        Bounds {
            people: vec![vec![Deed::Withdraw]],
            ..Bounds::default()
        },
    );
}

#[test]
fn anchors_that_stay() {
    assert!(can_always_end(&late()), "the operator as it is");
    let bounds = Bounds {
        broken: Some(Broken::AnchorsLeft),
        ..late()
    };
    assert!(!can_always_end(&bounds));
}

#[test]
fn a_claim_that_nothing_guards() {
    let paused = Bounds {
        live: false,
        people: vec![vec![Deed::Approve, Deed::Revoke]],
        takeovers: 1,
        ..Bounds::default()
    };
    finds(Broken::UnguardedClaim, properties::NEW_NAMES, paused);
}

#[test]
fn a_closing_lane_that_needs_to_lead() {
    finds(Broken::LeaderCloses, properties::CLOSED, late());
}

#[test]
fn deletions_by_name() {
    finds(
        Broken::DeletedByName,
        properties::FOREIGN,
        Bounds {
            people: vec![vec![Deed::SwapSecret], vec![Deed::Revoke]],
            lags: [vec![Rest], Vec::new()],
            ..Bounds::default()
        },
    );
}

#[test]
fn tokens_that_live_too_long() {
    finds(
        Broken::LongTokens,
        properties::HARD_END,
        Bounds {
            clock: vec![100, 650, 1_270, 1_999, 2_005, 2_080],
            terms: Terms {
                expires: 2_000,
                hard: true,
            },
            crashes: 2,
            ..Bounds::default()
        },
    );
}

#[test]
fn bindings_that_say_nothing_of_the_last_no() {
    finds(
        Broken::NothingNoted,
        properties::JUST,
        Bounds {
            people: vec![vec![Deed::Revoke, Deed::Approve]],
            ..Bounds::default()
        },
    );
}

#[test]
fn a_delivery_that_nothing_guards() {
    finds(
        Broken::UnguardedDelivery,
        properties::IN_PLACE,
        Bounds {
            clock: vec![100, 650, 800],
            most: (1, 3),
            takeovers: 1,
            ..Bounds::default()
        },
    );
}
