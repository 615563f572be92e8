//! Every token that is delivered while a cluster is tested, so that a test can look for them where none may be.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};

use crate::control_plane::ControlPlane;

/// Parts of a token shorter than this are common words.
const SHORTEST_PART: usize = 40;

/// The tokens that were seen. None of them may be printed.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<BTreeSet<String>>>);

impl Tokens {
    /// Watches every Secret of the cluster from now on, as long as this process lives: a runtime of its own, since those of
    /// tests end with them.
    pub fn watch(cp: &'static ControlPlane) -> Result<Self> {
        let tokens = Self::default();
        let seen = tokens.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            if let Err(error) = runtime.block_on(seen.follow(cp)) {
                crate::progress(&format!("tokens are no longer collected: {error:#}"));
            }
        });
        Ok(tokens)
    }

    async fn follow(&self, cp: &ControlPlane) -> Result<()> {
        let secrets: Api<Secret> = Api::all(cp.admin().await?);
        watcher(secrets, watcher::Config::default())
            .default_backoff()
            .applied_objects()
            .try_for_each(|secret| async move {
                if let Some(token) = secret.data.unwrap_or_default().get("token")
                    && let Ok(token) = String::from_utf8(token.0.clone())
                {
                    let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                    all.insert(token);
                }
                Ok(())
            })
            .await
            .context("watching Secrets")
    }

    /// How many were seen.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The places among these, given as name and text, in which a token, its claims or its signature stand.
    pub fn found_in<'a>(&self, places: &'a [(String, String)]) -> Vec<&'a str> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parts: BTreeSet<&str> = all
            .iter()
            // The header is the same for all, and public.
            .flat_map(|token| token.split('.').skip(1))
            .filter(|part| part.len() >= SHORTEST_PART)
            .collect();
        let shows = |text: &str| parts.iter().any(|part| text.contains(part));
        let found = places.iter().filter(|(_, text)| shows(text));
        found.map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_token_is_found_and_nothing_else() {
        let tokens = Tokens::default();
        let (claims, signature) = ("c".repeat(50), "s".repeat(50));
        tokens.0.lock().unwrap().insert(format!("header.{claims}.{signature}"));
        let place = |name: &str, text: String| (name.to_owned(), text);
        let places = [
            place("log", format!("it was {signature}, he said")),
            place("event", "header, and nothing of it".to_owned()),
            place("status", format!("x{claims}x")),
        ];
        assert_eq!(tokens.found_in(&places), ["log", "status"]);
    }
}
