//! What the operator counts, in the form of Prometheus. Labels are words of ours, never names of objects.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use http::{Request, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::collections::{BTreeMap, HashSet};
use tower::{Layer, Service};

use super::cache::{Cache, key_of};
use super::clock::ServerClock;
use super::mapping::Key;
use super::{lock, now};
use crate::api::conditions::{Reason, types};
use crate::domain::conditions;

/// Buckets of a reconcile, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];

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
struct Call {
    verb: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByReason {
    reason: String,
}

/// Every metric that code counts by itself.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Outcome, Counter>,
    durations: Histogram,
    steps: Family<Action, Counter>,
    calls: Family<Call, Counter>,
    closings: Family<ByReason, Counter>,
    failed_closings: Counter,
    leader: Gauge,
    proved: Gauge,
    skew: Gauge<f64, AtomicU64>,
    clock: Arc<ServerClock>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            durations: Histogram::new(BUCKETS),
            steps: Family::default(),
            calls: Family::default(),
            closings: Family::default(),
            failed_closings: Counter::default(),
            leader: Gauge::default(),
            proved: Gauge::default(),
            skew: Gauge::default(),
            clock: Arc::default(),
        }
    }
}

impl Metrics {
    /// A registry that holds everything: what is counted here, and what is read from the cache when it is asked for.
    #[must_use]
    pub fn registry(&self, cache: Arc<Cache>) -> Registry {
        let mut registry = Registry::with_prefix("wayleave");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        registry.register("reconciles", "Reconciles by kind and outcome", self.reconciles.clone());
        let help = "How long a reconcile took";
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, self.durations.clone());
        registry.register(
            "steps",
            "Steps of grants that were carried out, by what they did",
            self.steps.clone(),
        );
        registry.register(
            "api_requests",
            "Answers of the API server, by verb and code; 0 where none came",
            self.calls.clone(),
        );
        registry.register(
            "closings",
            "Bindings that the closing lane took away, by reason",
            self.closings.clone(),
        );
        let help = "Attempts of the closing lane that failed; access may still work";
        registry.register("closing_failures", help, self.failed_closings.clone());
        registry.register("leader", "1 while this replica may issue", self.leader.clone());
        registry.register(
            "admission_proved",
            "1 while the admission policies were seen to hold",
            self.proved.clone(),
        );
        let help = "Local time less the API server's, by whole seconds, as it was measured last";
        registry.register_with_unit("clock_skew", help, Unit::Seconds, self.skew.clone());
        registry.register_collector(Box::new(Grants(cache)));
        registry
    }

    pub(crate) fn reconciled(&self, kind: &'static str, ok: bool, took: std::time::Duration) {
        let outcome = if ok { "ok" } else { "error" };
        self.reconciles.get_or_create(&Outcome { kind, outcome }).inc();
        self.durations.observe(took.as_secs_f64());
    }

    pub(crate) fn stepped(&self, action: &'static str) {
        self.steps.get_or_create(&Action { action }).inc();
    }

    pub(crate) fn closed(&self, reason: Reason) {
        let reason = reason.as_str().to_owned();
        self.closings.get_or_create(&ByReason { reason }).inc();
    }

    pub(crate) fn closing_failed(&self) {
        self.failed_closings.inc();
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    pub(crate) fn proof(&self, proved: bool, skew: i64) {
        self.proved.set(i64::from(proved));
        self.skew.set(f64::from(i32::try_from(skew).unwrap_or(i32::MAX)));
    }

    /// What the answers say of the clock.
    pub(crate) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// The admission policies were seen to hold, the last time.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.proved.get() == 1
    }

    /// Counts the answers to a client's calls, and compares their dates with the clock.
    #[must_use]
    pub fn layer(&self) -> ReadAnswers {
        ReadAnswers {
            calls: self.calls.clone(),
            clock: Arc::clone(&self.clock),
        }
    }
}

/// Numbers of grants, from the cache.
struct Grants(Arc<Cache>);

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grants")
    }
}

impl Collector for Grants {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut by_reason, mut overdue, mut unreadable) = (BTreeMap::<String, i64>::new(), 0_i64, 0_i64);
        let mut with_static = 0_i64;
        // The closing lane knows first, and without a leader nobody says so in status.
        let unclosed: HashSet<Key> = lock(&self.0.unclosed).values().cloned().collect();
        for grant in self.0.grants.state() {
            let Ok(grant) = &grant.0 else {
                unreadable += 1;
                continue;
            };
            // Not cloned: there can be ten thousand, and they are read at each scrape.
            let status = grant.status.as_ref();
            let said = status.map_or_else(Default::default, |status| status.conditions.as_slice());
            let active = conditions::find(said, types::ACTIVE);
            with_static += i64::from(conditions::find(said, types::STATIC_CREDENTIAL).is_some());
            let reason = active.map_or("Unknown", |condition| condition.reason.as_str());
            *by_reason.entry(reason.to_owned()).or_default() += 1;
            let is_active = active.is_some_and(|condition| condition.status == "True");
            let until = status.and_then(|status| status.active_until);
            let ended = until.map_or(grant.spec.expires_at, |until| until.min(grant.spec.expires_at));
            let failed = reason == Reason::RevocationFailed.as_str();
            let is_unclosed = !unclosed.is_empty() && unclosed.contains(&key_of(grant));
            overdue += i64::from(failed || is_unclosed || is_active && ended < now());
        }
        let help = "Grants by the reason of their Active condition";
        let mut family = encoder.encode_descriptor("grants", help, None, MetricType::Gauge)?;
        for (reason, count) in by_reason {
            let labels = ByReason { reason };
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        let gauges = [
            (
                "uninstalling",
                "1 while Wayleave is being uninstalled, and nothing is issued",
                i64::from(self.0.uninstalling().is_some()),
            ),
            (
                "overdue_grants",
                "Grants whose end has passed and whose access is still there",
                overdue,
            ),
            (
                "unreadable_grants",
                "Grants that can't be read and count as absent",
                unreadable,
            ),
            (
                "static_credential_grants",
                "Grants that declare a static credential which is there, active or not",
                with_static,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        Ok(())
    }
}

/// A layer of the client that counts answers by verb and code, and has the clock compared with their dates.
#[derive(Clone, Debug)]
pub struct ReadAnswers {
    calls: Family<Call, Counter>,
    clock: Arc<ServerClock>,
}

impl<S> Layer<S> for ReadAnswers {
    type Service = Answered<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Answered {
            inner,
            by: self.clone(),
        }
    }
}

/// See [`ReadAnswers`].
#[derive(Clone, Debug)]
pub struct Answered<S> {
    inner: S,
    by: ReadAnswers,
}

impl<S, A, B> Service<Request<A>> for Answered<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let verb = match request.method().as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            _ => "other",
        };
        let answer = self.inner.call(request);
        let counted = OneCall {
            calls: self.by.calls.clone(),
            call: Call { verb, code: 0 },
        };
        let clock = Arc::clone(&self.by.clock);
        Box::pin(async move {
            // The whole of it, or only its code would be moved in here.
            let mut counted = counted;
            let answer = answer.await;
            counted.call.code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
            if let Ok(answer) = &answer {
                clock.take(answer.headers());
            }
            answer
        })
    }
}

/// Counts one call when it is over: answered, failed, or given up by whoever waited for it.
struct OneCall {
    calls: Family<Call, Counter>,
    call: Call,
}

impl Drop for OneCall {
    fn drop(&mut self) {
        self.calls.get_or_create(&self.call).inc();
    }
}
