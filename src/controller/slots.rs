//! Who may call at the same time. A namespace whose calls get no answer, as behind a webhook that is down, must not take the turns
//! of all others: each has a few turns, and those that hang share fewer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::lock;

/// So many turns a namespace has at once.
const OF_ONE: usize = 32;
/// So many all namespaces together that hang.
const OF_SLOW: usize = 8;
/// A namespace counts as one that hangs for so long after a call that got no answer.
const SLOW_FOR: Duration = Duration::from_secs(30);

/// Turns of one lane.
#[derive(Debug)]
pub(crate) struct Slots {
    quick: Semaphore,
    slow: Semaphore,
    namespaces: Mutex<HashMap<String, Namespace>>,
}

#[derive(Debug)]
struct Namespace {
    turns: Arc<Semaphore>,
    /// How many wait or have a turn.
    users: usize,
    hung_at: Option<Instant>,
}

impl Namespace {
    fn is_slow(&self) -> bool {
        self.hung_at.is_some_and(|at| at.elapsed() < SLOW_FOR)
    }
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<'s> {
    _of_all: SemaphorePermit<'s>,
    _of_namespace: OwnedSemaphorePermit,
    _user: User<'s>,
}

/// Somebody who waits for a turn, or has one.
#[derive(Debug)]
struct User<'s> {
    slots: &'s Slots,
    namespace: String,
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        let mut namespaces = lock(&self.slots.namespaces);
        if let Some(namespace) = namespaces.get_mut(&self.namespace) {
            namespace.users -= 1;
            if namespace.users == 0 && !namespace.is_slow() {
                namespaces.remove(&self.namespace);
            }
        }
    }
}

impl Slots {
    /// So many turns in all, for namespaces that answer.
    pub(crate) fn new(all: usize) -> Self {
        Self {
            quick: Semaphore::new(all),
            slow: Semaphore::new(OF_SLOW),
            namespaces: Mutex::default(),
        }
    }

    /// Waits for a turn in a namespace. None where nobody has turns any more, which is never.
    pub(crate) async fn turn(&self, namespace: &str) -> Option<Slot<'_>> {
        let (user, turns) = self.enter(namespace);
        let of_namespace = turns.acquire_owned().await.ok()?;
        let all = if self.is_slow(namespace) {
            &self.slow
        } else {
            &self.quick
        };
        Some(Slot {
            _of_all: all.acquire().await.ok()?,
            _of_namespace: of_namespace,
            _user: user,
        })
    }

    /// The same for whoever has something else to do: none at once where the namespace hangs and others of that kind have every turn.
    pub(crate) async fn turn_unless_slow(&self, namespace: &str) -> Option<Slot<'_>> {
        let (user, turns) = self.enter(namespace);
        let of_namespace = if self.is_slow(namespace) {
            turns.try_acquire_owned().ok()?
        } else {
            turns.acquire_owned().await.ok()?
        };
        // It may have come out while this one waited.
        let of_all = if self.is_slow(namespace) {
            self.slow.try_acquire().ok()?
        } else {
            self.quick.acquire().await.ok()?
        };
        Some(Slot {
            _of_all: of_all,
            _of_namespace: of_namespace,
            _user: user,
        })
    }

    /// A call in a namespace got no answer.
    pub(crate) fn hung(&self, namespace: &str) {
        let mut namespaces = lock(&self.namespaces);
        namespaces.retain(|_, it| it.users > 0 || it.is_slow());
        of(&mut namespaces, namespace).hung_at = Some(Instant::now());
    }

    fn enter(&self, namespace: &str) -> (User<'_>, Arc<Semaphore>) {
        let mut namespaces = lock(&self.namespaces);
        let found = of(&mut namespaces, namespace);
        found.users += 1;
        let turns = Arc::clone(&found.turns);
        let user = User {
            slots: self,
            namespace: namespace.to_owned(),
        };
        (user, turns)
    }

    fn is_slow(&self, namespace: &str) -> bool {
        lock(&self.namespaces).get(namespace).is_some_and(Namespace::is_slow)
    }
}

fn of<'n>(namespaces: &'n mut HashMap<String, Namespace>, name: &str) -> &'n mut Namespace {
    namespaces.entry(name.to_owned()).or_insert_with(|| Namespace {
        turns: Arc::new(Semaphore::new(OF_ONE)),
        users: 0,
        hung_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    /// What is there without waiting; that a task had many turns at once is no reason to wait.
    fn at_once<T>(turn: impl Future<Output = T>) -> Option<T> {
        tokio::task::unconstrained(turn).now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_hangs_leaves_turns_to_all_others() {
        let slots = Slots::new(2 * OF_ONE);
        let mut stuck = Vec::new();
        for _ in 0..OF_ONE {
            stuck.push(slots.turn("stuck").await.unwrap());
        }
        assert!(at_once(slots.turn("stuck")).is_none(), "it has no more turns");
        assert!(at_once(slots.turn("other")).flatten().is_some());
        slots.hung("stuck");
        stuck.clear();
        for _ in 0..OF_SLOW {
            stuck.push(slots.turn("stuck").await.unwrap());
        }
        slots.hung("stuck too");
        assert!(at_once(slots.turn("stuck too")).is_none(), "those that hang share few");
        assert!(
            at_once(slots.turn_unless_slow("stuck too")).unwrap().is_none(),
            "nobody waits for such"
        );
        let mut quick = Vec::new();
        for namespace in ["one", "two"] {
            for _ in 0..OF_ONE {
                quick.push(at_once(slots.turn(namespace)).flatten().unwrap());
            }
        }
        assert!(at_once(slots.turn("three")).is_none(), "all turns are taken");
        drop((stuck, quick));
        tokio::time::advance(SLOW_FOR).await;
        assert!(!slots.is_slow("stuck"));
        drop(slots.turn("stuck").await);
        slots.hung("another");
        let left = lock(&slots.namespaces);
        assert_eq!(
            left.keys().collect::<Vec<_>>(),
            ["another"],
            "nothing is kept of who has no business"
        );
    }
}
