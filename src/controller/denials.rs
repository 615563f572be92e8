//! Denials come first: while access is being taken away the issuing lane begins nothing. Both lanes share an API server and a
//! processor, and what waits for an end is short.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// The longest that something is put off: the issuing lane takes identities away, and must get its turn whatever hangs.
const LONGEST: Duration = Duration::from_secs(5);

/// How many denials are on their way for the first time. One that failed waits for its next attempt, and nobody waits for it.
#[derive(Debug)]
pub(crate) struct Denials(watch::Sender<usize>);

impl Default for Denials {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Denials {
    /// One is on its way until what is given is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Denial {
        self.0.send_modify(|count| *count += 1);
        Denial(Arc::clone(self))
    }

    /// Waits until none is on its way, for a bounded time.
    pub(crate) async fn over(&self) {
        let mut counts = self.0.subscribe();
        // Neither an end of the wait nor of the sender, which is here, keeps anything from going on.
        let _ = tokio::time::timeout(LONGEST, counts.wait_for(|count| *count == 0)).await;
    }
}

/// A denial on its way.
#[derive(Debug)]
pub(crate) struct Denial(Arc<Denials>);

impl Drop for Denial {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
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
        assert_eq!(waiting.await.unwrap(), Duration::from_secs(2));
        let _stuck = denials.begin();
        denials.over().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(2) + LONGEST);
    }
}
