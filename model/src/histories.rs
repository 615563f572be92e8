//! Laws of the core over whole histories: days in the life of one grant, with every kind of change, clocks that are wrong,
//! a process that dies half-way, and hands that meddle. After each step the laws are judged from outside.

mod laws;
mod life;

use proptest::prelude::*;

use crate::checks::is_long;
use life::{Happening, Life};

/// So many histories are lived through by each test.
fn cases(short: u32) -> ProptestConfig {
    ProptestConfig::with_cases(if is_long() { short * 10 } else { short })
}

/// A history of some happenings; each is followed by a look at the grant that may be interrupted.
fn history(of: &'static [Happening]) -> impl Strategy<Value = Vec<(Happening, usize, u32)>> {
    prop::collection::vec((prop::sample::select(of), 0usize..9, any::<u32>()), 1..6)
}

fn live_through(history: &[(Happening, usize, u32)]) -> Result<(), TestCaseError> {
    let mut life = Life::new();
    for (happening, limit, how) in history {
        life.happens(*happening, *how);
        life.turn(*limit).map_err(TestCaseError::fail)?;
    }
    // To be followed further takes as long as the history itself: most are to their rest, some to their end.
    let lot = history.iter().fold(0, |all, (_, _, how)| all ^ how) % 8;
    if lot > 1 {
        life.comes_to_rest().map_err(TestCaseError::fail)?;
    }
    if lot == 7 {
        life.comes_to_an_end().map_err(TestCaseError::fail)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(25_000))]

    /// Approvals, denials and revocations, by one and another, early and late, withdrawn and made again.
    #[test]
    fn decisions_in_any_order(history in history(life::DECISIONS)) {
        live_through(&history)?;
    }

    /// Owners who leave, return as another object, are made inactive or have a last day; changes of what is granted.
    #[test]
    fn owners_and_changes(history in history(life::OWNERS)) {
        live_through(&history)?;
    }

    /// Clocks that jump either way, long waits, rotations.
    #[test]
    fn clocks_and_rotations(history in history(life::CLOCKS)) {
        live_through(&history)?;
    }

    /// Objects that are taken away, altered, written to or swapped; policies and namespaces that change; all the rest.
    #[test]
    fn meddling_and_everything(history in history(life::EVERYTHING)) {
        live_through(&history)?;
    }
}
