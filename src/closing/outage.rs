//! Closings that failed while the API server was away. When it is back they don't wait their pauses out, which the outage made long: all
//! are tried at once, about in the order in which they should have been gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::api::v1alpha1::Instant;
use crate::controller::lock;

/// So many go on before the next are told.
pub(super) const AT_A_TIME: usize = 64;

type Place = (Instant, String);

/// By since when access should have been gone, and the binding that gives it.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<BTreeMap<Place, Arc<Notify>>>);

/// One that waits, until it is dropped.
pub(super) struct Waiting<'o> {
    outage: &'o Outage,
    place: Place,
    over: Arc<Notify>,
}

impl Outage {
    /// Takes a place among those that wait.
    pub(super) fn wait(&self, since: Instant, binding: &str) -> Waiting<'_> {
        let (place, over) = ((since, binding.to_owned()), Arc::new(Notify::new()));
        lock(&self.0).insert(place.clone(), Arc::clone(&over));
        Waiting {
            outage: self,
            place,
            over,
        }
    }

    /// It is over.
    pub(super) async fn end(&self) {
        let all: Vec<Arc<Notify>> = std::mem::take(&mut *lock(&self.0)).into_values().collect();
        for some in all.chunks(AT_A_TIME) {
            some.iter().for_each(|over| over.notify_one());
            // A long queue of the runtime is not kept in order.
            tokio::task::yield_now().await;
        }
    }
}

impl Waiting<'_> {
    /// Until it is over.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.outage.0).remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use futures::stream::{FuturesUnordered, StreamExt as _};

    use super::*;
    use crate::domain::fixtures::at;

    #[tokio::test]
    async fn when_it_is_over_all_go_on_those_first_that_should_have_been_gone_first() {
        let outage = Outage::default();
        let waiting: FuturesUnordered<_> = [("c", 3), ("a", 1), ("left", 0), ("d", 4), ("b", 2)]
            .map(|(name, second)| (name, outage.wait(at("2026-12-01T00:00:00Z").plus(second), name)))
            .into_iter()
            .filter(|(name, _)| *name != "left")
            .map(|(name, waiting)| async move {
                waiting.over().await;
                name
            })
            .collect();
        assert_eq!(lock(&outage.0).len(), 4, "whoever waits no more has no place");
        let (order, ()) = tokio::join!(waiting.collect::<Vec<_>>(), async {
            tokio::task::yield_now().await;
            outage.end().await;
        });
        assert_eq!(order, ["a", "b", "c", "d"]);
        assert!(lock(&outage.0).is_empty());
    }
}
