//! Denials come first: while access is being taken away the issuing lane begins nothing. Both lanes share an API server and a
//! processor, and what waits for an end is short.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::lock;

/// The longest stretch in which anything is put off: the issuing lane takes identities away, and must get its turn whatever hangs.
const LONGEST: Duration = Duration::from_secs(5);

/// How many grants the closing lane has yet to look at, or takes bindings from for the first time. A denial that failed waits
/// for its next attempt, and nobody waits for it.
#[derive(Debug)]
pub(crate) struct Denials {
    under_way: Mutex<UnderWay>,
    /// Told whenever the last of them is through.
    through: watch::Sender<()>,
}

#[derive(Debug)]
struct UnderWay {
    count: usize,
    /// When the first of them began.
    since: Instant,
}

impl Default for Denials {
    fn default() -> Self {
        Self {
            under_way: Mutex::new(UnderWay {
                count: 0,
                since: Instant::now(),
            }),
            through: watch::Sender::new(()),
        }
    }
}

impl Denials {
    /// One is on its way until what is given is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Denial {
        let mut under_way = lock(&self.under_way);
        if under_way.count == 0 {
            under_way.since = Instant::now();
        }
        under_way.count += 1;
        Denial(Arc::clone(self))
    }

    /// Until when everything else is put off at the most; none where nothing is.
    pub(crate) fn put_off_until(&self) -> Option<Instant> {
        let under_way = lock(&self.under_way);
        let is_any = under_way.count > 0 && under_way.since.elapsed() < LONGEST;
        is_any.then(|| under_way.since + LONGEST)
    }

    /// Waits until none was on its way, for a bounded time.
    pub(crate) async fn over(&self) {
        // Before the count is read: that the last is through can't be missed. That another began since is no reason to wait on:
        // who has waited once would never get a turn while many things change.
        let mut through = self.through.subscribe();
        if let Some(end) = self.put_off_until() {
            // Neither an end of the wait nor of the sender, which is here, keeps anything from going on.
            let _ = tokio::time::timeout_at(end, through.changed()).await;
        }
    }
}

/// A denial on its way.
#[derive(Debug)]
pub(crate) struct Denial(Arc<Denials>);

impl Drop for Denial {
    fn drop(&mut self) {
        let mut under_way = lock(&self.0.under_way);
        under_way.count -= 1;
        if under_way.count == 0 {
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
        let end = Duration::from_secs(2) + LONGEST;
        assert!(denials.put_off_until().is_some());
        denials.over().await;
        assert_eq!(begun.elapsed(), end);
        let _another = denials.begin();
        assert!(
            denials.put_off_until().is_none(),
            "one that is stuck puts nothing off twice"
        );
        denials.over().await;
        assert_eq!(begun.elapsed(), end);
    }
}
