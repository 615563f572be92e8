//! What the operator counts, in the form of Prometheus. Labels are words of ours, never names of objects.
//!
//! Words that are known before are there from the start, with 0: whoever asks for the increase of a counter would else miss its
//! first step.

mod calls;
mod scraped;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::calls::Call;
use super::cache::Cache;
use super::clock::ServerClock;
use super::reach::Reach;
use crate::api::conditions::Reason;
use crate::domain::closing::Cause;

pub use calls::{Answered, ReadAnswers};

/// Buckets of a reconcile, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];
/// Buckets of what access outlives its end by, in seconds: milliseconds where all is well, minutes after an outage.
const LAGS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0,
];
/// The kinds that are reconciled.
const KINDS: [&str; 2] = ["AccessGrant", "PartnerIntegration"];
/// The steps that are counted, by the words of [`crate::plan::Step`].
const STEPS: [&str; 5] = ["close", "finish", ISSUE, "retire", ROTATE];
const ISSUE: &str = "issue";
const ROTATE: &str = "rotate";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Action {
    action: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByCause {
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Attempt {
    action: &'static str,
    reason: Failure,
}

/// Why a credential could not be issued or rotated, in one word.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
pub(crate) enum Failure {
    /// An object that is not ours has a name that is needed.
    NameConflict,
    /// The API server refuses more than the operator was given.
    CeilingExceeded,
    /// The API server granted a token that outlives the access.
    TokenTooLong,
    /// What came meanwhile ended it before it began.
    Overtaken,
    /// Something that is needed was not there, or not yet.
    Incomplete,
    /// The operator lacks a right, or is not known to the API server.
    Forbidden,
    /// Somebody else wrote at the same time.
    Conflict,
    /// Something went away meanwhile.
    NotFound,
    /// The API server refuses what was sent, for another reason.
    Refused,
    /// The API server asks for fewer calls.
    TooManyRequests,
    /// The API server failed.
    ServerError,
    /// No answer came, or none in time.
    NoAnswer,
    /// What had been begun could not be taken away again.
    NotClosed,
}

impl Failure {
    pub(crate) const ALL: [Self; 13] = [
        Self::NameConflict,
        Self::CeilingExceeded,
        Self::TokenTooLong,
        Self::Overtaken,
        Self::Incomplete,
        Self::Forbidden,
        Self::Conflict,
        Self::NotFound,
        Self::Refused,
        Self::TooManyRequests,
        Self::ServerError,
        Self::NoAnswer,
        Self::NotClosed,
    ];

    /// The word for an answer of the API server that is no success.
    pub(crate) const fn of_code(code: u16) -> Self {
        match code {
            401 | 403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict,
            429 => Self::TooManyRequests,
            500.. => Self::ServerError,
            _ => Self::Refused,
        }
    }
}

/// Every metric that code counts by itself.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Outcome, Counter>,
    durations: Histogram,
    steps: Family<Action, Counter>,
    failed_issues: Family<Attempt, Counter>,
    shortened_tokens: Counter,
    calls: Family<Call, Counter>,
    closings: Family<ByReason, Counter>,
    failed_closings: Counter,
    lags: Family<ByCause, Histogram, fn() -> Histogram>,
    leader: Gauge,
    leader_changes: Counter,
    proved: Gauge,
    skew: Gauge<f64, AtomicU64>,
    clock: Arc<ServerClock>,
    reach: Arc<Reach>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            durations: Histogram::new(BUCKETS),
            steps: Family::default(),
            failed_issues: Family::default(),
            shortened_tokens: Counter::default(),
            calls: Family::default(),
            closings: Family::default(),
            failed_closings: Counter::default(),
            lags: Family::new_with_constructor(|| Histogram::new(LAGS)),
            leader: Gauge::default(),
            leader_changes: Counter::default(),
            proved: Gauge::default(),
            skew: Gauge::default(),
            clock: Arc::default(),
            reach: Arc::default(),
        };
        metrics.begin();
        metrics
    }
}

impl Metrics {
    /// Every word that is known before, at 0.
    fn begin(&self) {
        for kind in KINDS {
            for outcome in ["ok", "error"] {
                drop(self.reconciles.get_or_create(&Outcome { kind, outcome }));
            }
        }
        for action in STEPS {
            drop(self.steps.get_or_create(&Action { action }));
        }
        for action in [ISSUE, ROTATE] {
            for reason in Failure::ALL {
                drop(self.failed_issues.get_or_create(&Attempt { action, reason }));
            }
        }
        for reason in Reason::ALL.map(Reason::as_str) {
            drop(self.closings.get_or_create(&ByReason { reason }));
        }
        for cause in Cause::ALL.map(Cause::as_str) {
            drop(self.lags.get_or_create(&ByCause { cause }));
        }
    }

    /// A registry that holds everything: what is counted here, and what is read from the cache when it is asked for.
    #[must_use]
    pub fn registry(&self, cache: Arc<Cache>) -> Registry {
        let mut registry = Registry::with_prefix("wayleave");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        registry.register("reconciles", "Reconciles by kind and outcome", self.reconciles.clone());
        let help = "How long a reconcile took";
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, self.durations.clone());
        let help = "Steps of grants that were carried out, by what they did";
        registry.register("steps", help, self.steps.clone());
        let help = "Attempts to issue or rotate a credential that failed, by reason";
        registry.register("issue_failures", help, self.failed_issues.clone());
        let help = "Tokens that the API server granted for less time than was asked for";
        registry.register("shortened_tokens", help, self.shortened_tokens.clone());
        let help = "Answers of the API server, by verb and code; 0 where none came";
        registry.register("api_requests", help, self.calls.clone());
        let help = "Bindings that the closing lane took away, by reason";
        registry.register("closings", help, self.closings.clone());
        let help = "Attempts of the closing lane that failed; access may still work";
        registry.register("closing_failures", help, self.failed_closings.clone());
        let help = "How long after its end access was taken away by the closing lane, by what ended it";
        registry.register_with_unit("revocation_lag", help, Unit::Seconds, self.lags.clone());
        registry.register("leader", "1 while this replica may issue", self.leader.clone());
        let help = "How often this replica began to lead";
        registry.register("leader_changes", help, self.leader_changes.clone());
        let help = "1 while the admission policies were seen to hold";
        registry.register("admission_proved", help, self.proved.clone());
        let help = "Local time less the API server's, by whole seconds, as it was measured last";
        registry.register_with_unit("clock_skew", help, Unit::Seconds, self.skew.clone());
        registry.register_collector(Box::new(scraped::Scraped(cache)));
        registry
    }

    pub(crate) fn reconciled(&self, kind: &'static str, ok: bool, took: Duration) {
        let outcome = if ok { "ok" } else { "error" };
        self.reconciles.get_or_create(&Outcome { kind, outcome }).inc();
        self.durations.observe(took.as_secs_f64());
    }

    pub(crate) fn stepped(&self, action: &'static str) {
        self.steps.get_or_create(&Action { action }).inc();
    }

    pub(crate) fn issue_failed(&self, action: &'static str, reason: Failure) {
        self.failed_issues.get_or_create(&Attempt { action, reason }).inc();
    }

    pub(crate) fn token_shortened(&self) {
        self.shortened_tokens.inc();
    }

    /// A binding was taken away so long after it should have been gone.
    pub(crate) fn closed(&self, reason: Reason, cause: Cause, lag: Duration) {
        let reason = reason.as_str();
        self.closings.get_or_create(&ByReason { reason }).inc();
        let cause = cause.as_str();
        self.lags.get_or_create(&ByCause { cause }).observe(lag.as_secs_f64());
    }

    pub(crate) fn closing_failed(&self) {
        self.failed_closings.inc();
    }

    pub(crate) fn leads(&self, leads: bool) {
        if self.leader.set(i64::from(leads)) == 0 && leads {
            self.leader_changes.inc();
        }
    }

    pub(crate) fn proof(&self, proved: bool, skew: i64) {
        self.proved.set(i64::from(proved));
        self.skew.set(f64::from(i32::try_from(skew).unwrap_or(i32::MAX)));
    }

    /// What the answers say of the clock.
    pub(crate) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Whether the API server is reached.
    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// The admission policies were seen to hold, the last time.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.proved.get() == 1
    }

    /// Counts the answers to a client's calls, compares their dates with the clock, and notices when the API server is away.
    #[must_use]
    pub fn layer(&self) -> ReadAnswers {
        ReadAnswers {
            calls: self.calls.clone(),
            clock: Arc::clone(&self.clock),
            reach: Arc::clone(&self.reach),
        }
    }
}
