//! What is read from the cache when somebody scrapes: one look at each grant and integration, and nothing is copied.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::super::cache::{Cache, key_of};
use super::super::mapping::Key;
use super::super::{lock, now};
use super::ByReason;
use crate::api::conditions::{Reason, review, types};
use crate::api::v1alpha1::{AccessGrant, Instant};
use crate::domain::conditions;

/// The word for what says nothing of itself, or something that this version doesn't know: no other word becomes a label.
const UNKNOWN: &str = "Unknown";

/// Every state of a review.
const REVIEWS: [&str; 7] = [
    review::NOTHING_DUE,
    review::CURRENT,
    review::DUE_IN_14_DAYS,
    review::DUE_IN_7_DAYS,
    review::DUE_IN_1_DAY,
    review::OVERDUE,
    review::LAPSED,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

/// Numbers of what there is, from the cache.
pub(super) struct Scraped(pub(super) Arc<Cache>);

impl fmt::Debug for Scraped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scraped")
    }
}

/// How often each word was said; those that nobody said are there too, so that a number that is not there means that nobody
/// counts.
struct Words(BTreeMap<&'static str, i64>);

impl Words {
    fn new(words: impl IntoIterator<Item = &'static str>) -> Self {
        Self(words.into_iter().chain([UNKNOWN]).map(|word| (word, 0)).collect())
    }

    fn said(&mut self, word: Option<&str>) {
        let known = word.is_some_and(|word| self.0.contains_key(word));
        let word = word.filter(|_| known).unwrap_or(UNKNOWN);
        if let Some(count) = self.0.get_mut(word) {
            *count += 1;
        }
    }
}

struct Grants {
    by_reason: Words,
    overdue: i64,
    unreadable: i64,
    with_static: i64,
    /// For how many seconds the one that has waited longest for an approval has done so; 0 where none waits.
    longest_wait: i64,
}

impl Grants {
    fn count(cache: &Cache, now: Instant) -> Self {
        let mut counted = Self {
            by_reason: Words::new(Reason::ALL.map(Reason::as_str)),
            overdue: 0,
            unreadable: 0,
            with_static: 0,
            longest_wait: 0,
        };
        // The closing lane knows first, and without a leader nobody says so in status.
        let unclosed: HashSet<Key> = lock(&cache.unclosed).values().cloned().collect();
        for grant in cache.grants.state() {
            match &grant.0 {
                Ok(grant) => {
                    let is_unclosed = !unclosed.is_empty() && unclosed.contains(&key_of(grant));
                    counted.add(grant, is_unclosed, now);
                }
                Err(_) => counted.unreadable += 1,
            }
        }
        counted
    }

    fn add(&mut self, grant: &AccessGrant, is_unclosed: bool, now: Instant) {
        let status = grant.status.as_ref();
        let said = status.map_or_else(Default::default, |status| status.conditions.as_slice());
        let active = conditions::find(said, types::ACTIVE);
        let reason = active.map(|condition| condition.reason.as_str());
        self.by_reason.said(reason);
        self.with_static += i64::from(conditions::find(said, types::STATIC_CREDENTIAL).is_some());
        let is_active = active.is_some_and(|condition| condition.status == "True");
        let until = status.and_then(|status| status.active_until);
        let ended = until.map_or(grant.spec.expires_at, |until| until.min(grant.spec.expires_at));
        let failed = reason == Some(Reason::RevocationFailed.as_str());
        self.overdue += i64::from(failed || is_unclosed || is_active && ended < now);
        if reason == Some(Reason::AwaitingApproval.as_str()) {
            let approved = conditions::find(said, types::APPROVED);
            let since = approved.map(|condition| &condition.last_transition_time);
            let since = since.or(grant.metadata.creation_timestamp.as_ref());
            let waited = since.map_or(0, |since| now.seconds_since(Instant::new(since.0)));
            self.longest_wait = self.longest_wait.max(waited);
        }
    }
}

fn reviews(cache: &Cache) -> Words {
    let mut by_state = Words::new(REVIEWS);
    for integration in cache.integrations.state() {
        let status = integration.0.as_ref().ok().and_then(|it| it.status.as_ref());
        let said = status.and_then(|status| conditions::find(&status.conditions, types::REVIEW_CURRENT));
        by_state.said(said.map(|condition| condition.reason.as_str()));
    }
    by_state
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let grants = Grants::count(&self.0, now());
        let help = "Grants by the reason of their Active condition";
        let by_reason = grants.by_reason.0.into_iter();
        family(
            &mut encoder,
            "grants",
            help,
            by_reason.map(|(reason, count)| (ByReason { reason }, count)),
        )?;
        let help = "PartnerIntegrations by the state of their review: the reason of their ReviewCurrent condition";
        let by_state = reviews(&self.0).0.into_iter();
        family(
            &mut encoder,
            "reviews",
            help,
            by_state.map(|(state, count)| (ByState { state }, count)),
        )?;
        let gauges = [
            (
                "uninstalling",
                "1 while Wayleave is being uninstalled, and nothing is issued",
                i64::from(self.0.uninstalling().is_some()),
            ),
            (
                "overdue_grants",
                "Grants whose end has passed and whose access is still there",
                grants.overdue,
            ),
            (
                "unreadable_grants",
                "Grants that can't be read and count as absent",
                grants.unreadable,
            ),
            (
                "static_credential_grants",
                "Grants that declare a static credential which is there, active or not",
                grants.with_static,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        let help = "For how long the grant that has waited longest for an approval has done so; 0 where none waits";
        let name = "longest_approval_wait";
        let gauge = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(grants.longest_wait).encode(gauge)
    }
}

fn family<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    members: impl Iterator<Item = (L, i64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in members {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
