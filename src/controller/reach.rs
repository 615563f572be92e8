//! Whether the API server is reached, by how each call of any client ends. What an outage made wait is told when it is over.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// See the module.
#[derive(Debug)]
pub struct Reach {
    away: AtomicBool,
    back: watch::Sender<()>,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            away: AtomicBool::new(false),
            back: watch::Sender::new(()),
        }
    }
}

impl Reach {
    /// A call got no answer, or one that says that the API server can't.
    pub(crate) fn failed(&self) {
        self.away.store(true, Ordering::Release);
    }

    /// A call went well. An answer that says no is no sign: an API server that starts refuses what it does not know yet.
    pub(crate) fn went_well(&self) {
        if self.away.swap(false, Ordering::AcqRel) {
            self.back.send_replace(());
        }
    }

    /// No call went well since one failed.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    /// Changes whenever a call goes well after one that failed.
    pub(crate) fn back(&self) -> watch::Receiver<()> {
        self.back.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_success_after_a_failure_is_news() {
        let reach = Reach::default();
        let mut back = reach.back();
        let mut told = |is_well: bool| {
            if is_well {
                reach.went_well();
            } else {
                reach.failed();
            }
            let told = back.has_changed().unwrap();
            back.mark_unchanged();
            told
        };
        assert_eq!(
            [true, true, false, false, true, true, false, true].map(&mut told),
            [false, false, false, false, true, false, false, true]
        );
    }
}
