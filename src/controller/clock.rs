//! Whether the clock here agrees with the API server's, by the date of each of its answers. How far they are apart is measured by
//! the proof of admission, which looks when this changes.

use std::sync::atomic::{AtomicI64, Ordering};

use http::HeaderMap;
use http::header::DATE;
use tokio::sync::Notify;

use super::now;
use crate::api::v1alpha1::Instant;

/// How far local time and the API server's may differ, in seconds.
const SKEW: i64 = 30;

/// See the module.
#[derive(Debug, Default)]
pub struct ServerClock {
    /// Local time less the API server's by its last answer, in seconds, where that is too much; otherwise 0.
    skew: AtomicI64,
    changed: Notify,
}

/// A difference of clocks that is too much, in seconds.
pub(crate) fn too_much(skew: i64) -> Option<i64> {
    (skew.abs() > SKEW).then_some(skew)
}

/// When an answer was given, by the API server's clock.
pub(crate) fn date(headers: &HeaderMap) -> Option<Instant> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(Instant::new(date.timestamp()))
}

impl ServerClock {
    /// Takes an answer in.
    pub(crate) fn take(&self, headers: &HeaderMap) {
        if let Some(date) = date(headers) {
            self.compare(now().seconds_since(date));
        }
    }

    fn compare(&self, skew: i64) {
        let skew = too_much(skew);
        let before = self.skew.swap(skew.unwrap_or_default(), Ordering::AcqRel);
        if (before != 0) != skew.is_some() {
            self.changed.notify_one();
        }
    }

    /// Local time less the API server's, in seconds, where they differ by too much.
    pub(crate) fn skew(&self) -> Option<i64> {
        Some(self.skew.load(Ordering::Acquire)).filter(|skew| *skew != 0)
    }

    /// The clocks came to agree, or not to.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn each_answer_is_compared_and_changes_are_told() {
        let clock = ServerClock::default();
        let answered = |ahead: i64| {
            let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
            let date = jiff::fmt::rfc2822::DateTimePrinter::new()
                .timestamp_to_rfc9110_string(&date)
                .unwrap();
            let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
            clock.take(&headers);
            (clock.skew().is_some(), clock.changed().now_or_never().is_some())
        };
        assert_eq!(answered(0), (false, false));
        assert_eq!(answered(SKEW - 2), (false, false), "within what may be");
        assert_eq!(answered(60), (true, true));
        assert_eq!(answered(90), (true, false), "known already");
        assert_eq!(answered(-90), (true, false));
        assert!(
            clock.skew().is_some_and(|skew| (85..95).contains(&skew)),
            "ours is ahead"
        );
        clock.take(&HeaderMap::new());
        clock.take(&HeaderMap::from_iter([(DATE, "yesterday".parse().unwrap())]));
        assert!(clock.skew().is_some(), "no date says nothing");
        assert_eq!(answered(0), (false, true));
    }
}
