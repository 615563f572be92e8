//! `wayleave uninstall`: sets the drain marker, sees to it that all access ends, and says what is left. Does I/O.
//!
//! It has no way of its own to close anything: it runs the controller, told to drain. Where another replica leads, that one
//! does the work and this run looks on; where none does, this one leads. What an administrator runs waits for nobody.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "imperative shell")]

mod left;

use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client, Config};

use crate::api::names::{DRAIN, FIELD_MANAGER};
use crate::controller::leader::{Alone, Election, Leadership, LeaseSettings};
use crate::controller::metrics::Metrics;
use crate::controller::{Cache, MakeClient, Operator, Settings};
use left::Left;

/// How often it is seen whether anything is left.
const LOOK: Duration = Duration::from_millis(200);
/// And how often the API server is asked, once the caches say that nothing is.
const ASK: Duration = Duration::from_secs(1);
/// How often the API server is asked what is left though the caches say that something is.
const ASK_ANYWAY: Duration = Duration::from_secs(10);
/// The longest that what is under way is waited for at the end.
const GRACE: Duration = Duration::from_secs(10);
/// Who may do everything, as a group.
const MASTERS: &str = "system:masters";

/// One run of the command.
pub struct Uninstall {
    /// The issuing lane's client.
    pub client: Client,
    /// Makes the closing lane's own.
    pub closing_client: MakeClient,
    /// That of the election, with a deadline for each call.
    pub election_client: Client,
    /// What the operator is told, too.
    pub settings: Settings,
    /// The lease that the operator's replicas hold.
    pub lease: LeaseSettings,
    /// What the clients count into.
    pub metrics: Metrics,
    /// How long it may take.
    pub limit: Duration,
}

/// Whether the marker was set.
enum Marker {
    /// By this run, or before it.
    Set,
    /// There is no namespace to set it in.
    NoPlace,
}

/// The operator's user name.
fn operator(settings: &Settings) -> String {
    format!(
        "system:serviceaccount:{}:{}",
        settings.namespace, settings.service_account
    )
}

/// Has `config` speak as the operator: what closes access, and takes our finalizers off, is admitted from the operator alone.
/// Who is somebody else does so by impersonation, with the rights of a cluster administrator; says who that is.
///
/// # Errors
/// When the API server can't be asked, or doesn't know who asks.
pub async fn speak_as_operator(config: &mut Config, settings: &mut Settings) -> anyhow::Result<Option<String>> {
    let client = Client::try_from(config.clone()).context("making a client")?;
    let review: Api<SelfSubjectReview> = Api::all(client);
    let asked = SelfSubjectReview::default();
    let answer = review.create(&PostParams::default(), &asked).await;
    let answer = answer.context("asking the API server who this is")?;
    let user = answer.status.and_then(|status| status.user_info?.username);
    let user = user.context("the API server does not say who this is")?;
    let operator = operator(settings);
    if user == operator {
        return Ok(None);
    }
    config.auth_info.impersonate = Some(operator);
    config.auth_info.impersonate_groups = Some(vec![MASTERS.to_owned()]);
    settings.everywhere = true;
    Ok(Some(user))
}

/// Takes the marker away: what is in order is issued again, by the ordinary rules.
///
/// # Errors
/// When that was refused, or could not be asked for.
pub async fn undo(client: &Client, namespace: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let markers: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    match markers.delete(DRAIN, &DeleteParams::default()).await {
        Ok(_) => writeln!(
            out,
            "the drain marker, ConfigMap {namespace}/{DRAIN}, is taken away: what is approved and in order is issued again"
        )?,
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            writeln!(out, "there is no drain marker, ConfigMap {namespace}/{DRAIN}")?;
        }
        Err(error) => return Err(error).context(format!("taking ConfigMap {namespace}/{DRAIN} away")),
    }
    Ok(())
}

impl Uninstall {
    /// Ends everything, and says in words what came of it.
    ///
    /// # Errors
    /// When something could not be closed, or could not be known to be.
    pub async fn run(self, out: &mut impl Write) -> anyhow::Result<()> {
        let (cache, pending, queues) = Cache::new();
        // Before the marker: those whom it is told to are quick.
        let before = Left::of(&self.client, &cache, &self.settings).await;
        if let Err(error) = &before {
            tracing::warn!(%error, "what there is could not be read");
        }
        let seen = Seen::before(before.ok());
        let marker = self.set_marker().await?;
        let namespace = &self.settings.namespace;
        match marker {
            Marker::Set => writeln!(
                out,
                "the drain marker is set: ConfigMap {namespace}/{DRAIN}; nothing is issued until it is taken away"
            )?,
            Marker::NoPlace => writeln!(
                out,
                "no drain marker: namespace {namespace} is gone or going, and with it every operator; this run closes what is left"
            )?,
        }
        cache.drain.tell();
        // An administrator is asked for where the operator can't: who leads may have lost his rights. Two that close do no harm.
        let stands = matches!(marker, Marker::Set) && !self.settings.everywhere;
        let election = stands.then(|| Election::start(&self.election_client, &self.client, self.lease.clone()));
        let leadership: Arc<dyn Leadership> = match &election {
            Some(election) => election.leadership.clone(),
            None => Arc::new(Alone::default()),
        };
        let controller = Operator {
            client: self.client.clone(),
            closing_client: Arc::clone(&self.closing_client),
            settings: self.settings.clone(),
            cache: Arc::clone(&cache),
            pending,
            queues,
            identity: self.lease.identity.clone(),
            leadership,
            metrics: self.metrics.clone(),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let mut running = tokio::spawn(controller.run(async {
            // An error means that the sender is gone: that is a stop too.
            let _ = stopped.await;
        }));
        let outcome = tokio::select! {
            ended = &mut running => match ended.context("the controller broke off")? {
                Ok(()) => Err(anyhow::anyhow!("the controller ended before its time")),
                Err(error) => Err(error),
            },
            outcome = self.watch(&cache, seen) => outcome,
        };
        let _ = stop.send(());
        if !running.is_finished() && tokio::time::timeout(GRACE, &mut running).await.is_err() {
            running.abort();
            tracing::debug!("what was under way took too long, and is of no more use");
        }
        if let Some(election) = election {
            election.stop().await;
        }
        self.tell(&cache, outcome?, out)
    }

    async fn set_marker(&self) -> anyhow::Result<Marker> {
        let markers: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let marker = ConfigMap {
            metadata: ObjectMeta {
                name: Some(DRAIN.to_owned()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match markers.create(&params, &marker).await {
            Ok(_) => Ok(Marker::Set),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Marker::Set),
            Err(kube::Error::Api(status)) if status.is_not_found() || is_going(&status) => Ok(Marker::NoPlace),
            Err(error) => Err(error).context("setting the drain marker"),
        }
    }

    /// Looks on until nothing is left, or time is up; gives what is left then.
    async fn watch(&self, cache: &Cache, mut seen: Seen) -> anyhow::Result<Outcome> {
        let begun = Instant::now();
        let mut asked: Option<Instant> = None;
        loop {
            seen.take_in(cache);
            let is_time_up = begun.elapsed() >= self.limit;
            let is_due = asked.is_none_or(|asked| asked.elapsed() >= ASK);
            // What went with its namespace, and its watch with the rights there, the caches never hear of.
            let is_overdue = asked.unwrap_or(begun).elapsed() >= ASK_ANYWAY;
            let is_quiet = || is_due && Left::in_cache(cache, &self.settings) == 0;
            if is_time_up || (cache.is_known() && (is_overdue || is_quiet())) {
                let left = Left::of(&self.client, cache, &self.settings).await;
                asked = Some(Instant::now());
                match left {
                    Ok(left) if left.is_nothing() || is_time_up => return Ok(Outcome { seen, left: Ok(left) }),
                    Err(error) if is_time_up => {
                        return Ok(Outcome {
                            seen,
                            left: Err(error.into()),
                        });
                    }
                    // The caches are ahead of it, or behind: it is looked at again.
                    Ok(left) => tracing::debug!(left = left.count(), "not everything is gone"),
                    Err(error) => tracing::warn!(%error, "what is left could not be read"),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn tell(&self, cache: &Cache, outcome: Outcome, out: &mut impl Write) -> anyhow::Result<()> {
        let Outcome { seen, left } = outcome;
        seen.tell(out)?;
        let missing = cache.missing();
        let is_read = left.is_ok();
        let left = match left {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(%error, "what is left could not be read");
                Left::default()
            }
        };
        let is_known = is_read && cache.is_known();
        left.tell(out)?;
        if left.is_nothing() && is_known {
            writeln!(
                out,
                "done: no finalizer and no credential of Wayleave's is left. AccessGrants, the kinds and the drain marker stay until somebody deletes them"
            )?;
            return Ok(());
        }
        lines(out, "could not be closed:", &Left::why(cache))?;
        lines(out, "not read:", &missing)?;
        if is_known && missing.is_empty() {
            bail!(
                "not everything could be closed within {} s: what is left is listed, and why is in the log",
                self.limit.as_secs()
            );
        }
        bail!(
            "not everything could be read, so that access may still be open: give the operator its rights back (helm upgrade), or run this as a cluster administrator"
        )
    }
}

/// What came of it.
struct Outcome {
    seen: Seen,
    left: anyhow::Result<Left>,
}

/// What there was to be done, as far as it was seen.
struct Seen {
    held: std::collections::BTreeSet<String>,
}

impl Seen {
    fn before(left: Option<Left>) -> Self {
        Self {
            held: left.into_iter().flat_map(|left| left.held).collect(),
        }
    }

    fn take_in(&mut self, cache: &Cache) {
        self.held.extend(left::held(cache));
    }

    fn tell(&self, out: &mut impl Write) -> std::io::Result<()> {
        let held: Vec<&String> = self.held.iter().collect();
        lines(out, "held by our finalizer, as whatever gave access was:", &held)?;
        Ok(())
    }
}

fn lines(out: &mut impl Write, heading: &str, all: &[impl Display]) -> std::io::Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "{heading}")?;
    for line in all {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// Nothing can be made in a namespace that is being deleted.
fn is_going(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_forbidden() && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}
