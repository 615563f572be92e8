//! The closing lane's client, made anew where a call got no answer: behind a load balancer or a firewall every connection that is
//! kept may be dead at the other end, and a denial must not find out about each.

use std::sync::Mutex;

use kube::Client;

use crate::controller::{MakeClient, lock};

/// See the module.
pub(super) struct Clients {
    make: MakeClient,
    current: Mutex<(Client, u64)>,
}

impl Clients {
    pub(super) fn new(make: MakeClient) -> anyhow::Result<Self> {
        let current = Mutex::new((make()?, 0));
        Ok(Self { make, current })
    }

    /// The client of now, and which one it is.
    pub(super) fn current(&self) -> (Client, u64) {
        lock(&self.current).clone()
    }

    /// One gave no answer: if it still is the one of now another follows. Many calls may say so of the same.
    pub(super) fn replace(&self, which: u64) {
        let mut current = lock(&self.current);
        if current.1 == which {
            match (self.make)() {
                Ok(client) => *current = (client, which + 1),
                Err(error) => tracing::warn!(%error, "the closing lane's client could not be made anew"),
            }
        }
    }
}
