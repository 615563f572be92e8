//! Denials come first: while access is being taken away the issuing lane begins nothing. Both lanes share an API server and a
//! processor, and what waits for an end is short.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// The longest that something is put off: the issuing lane takes identities away, and must get its turn whatever hangs.
const LONGEST: Duration = Duration::from_secs(5);

/// How many grants the closing lane has yet to look at, or takes bindings from for the first time. A denial that failed waits
/// for its next attempt, and nobody waits for it.
#[derive(Debug)]
pub(crate) struct Denials {
    under_way: AtomicUsize,
    /// Told whenever the last of them is through.
    through: watch::Sender<()>,
}

impl Default for Denials {
    fn default() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            through: watch::Sender::new(()),
        }
    }
}

impl Denials {
    /// One is on its way until what is given is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Denial {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Denial(Arc::clone(self))
    }

    /// Waits until none was on its way, for a bounded time.
    pub(crate) async fn over(&self) {
        // Before the count is read: that the last is through can't be missed. That another began since is no reason to wait on:
        // who has waited once would never get a turn while many things change.
        let mut through = self.through.subscribe();
        if self.under_way.load(Ordering::Acquire) > 0 {
            // Neither an end of the wait nor of the sender, which is here, keeps anything from going on.
            let _ = tokio::time::timeout(LONGEST, through.changed()).await;
        }
    }
}

/// A denial on its way.
#[derive(Debug)]
pub(crate) struct Denial(Arc<Denials>);

impl Drop for Denial {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.through.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_to_be_issued_waits_for_every_denial_and_not_for_ever() {
        let denials = Arc::new(Denials::default());
        denials.over().await;
        let (one, other) = (denials.begin(), denials.begin());
        let waiting = Arc::clone(&denials);
        let begun = tokio::time::Instant::now();
        let waiting = tokio::spawn(async move {
            waiting.over().await;
            begun.elapsed()
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(one);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished(), "one is still on its way");
        drop(other);
        let _stuck = denials.begin();
        assert_eq!(
            waiting.await.unwrap(),
            Duration::from_secs(2),
            "one that came later is not waited for"
        );
        denials.over().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(2) + LONGEST);
    }
}
