//! `stop`: ends everything that a partner has, wherever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::{StreamExt as _, stream};
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::{is_forbidden, who_am_i};
use crate::api::v1alpha1::{AccessDecision, AccessGrant, Decision, PartnerIntegration, SubjectKind};
use crate::cli::args::{OutputFormat, Stop};
use crate::cli::decision::{Draft, build};
use crate::cli::stop::{Fate, Grant, Integration, Key, NearMiss, State, describe_near, find};
use crate::cli::{Io, Session, failure, output};

/// So many decisions are written at once.
const AT_ONCE: usize = 16;
/// How often a decision is sent that was not answered, or that the API server could not take.
const ATTEMPTS: u32 = 4;
/// The first pause between two attempts; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// How long an attempt may take.
const ANSWER: Duration = Duration::from_secs(10);
const ALREADY_THERE: u16 = 409;
const HEADER: [&str; 4] = ["NAMESPACE", "INTEGRATION", "GRANT", "ENDED"];
const HEADER_DRY: [&str; 4] = ["NAMESPACE", "INTEGRATION", "GRANT", "STATE"];

/// Stops a partner: a Revoke of each of its integrations, and a wait until all its grants have ended.
///
/// # Errors
///
/// When nobody has this id, somebody says no, no decision was taken ([`failure::Incomplete`] where some were), or access
/// may be left.
pub async fn run(args: &Stop, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let place = session.named_namespace.as_deref().filter(|_| !args.all_namespaces);
    let (integrations, grants) = tokio::join!(
        list::<PartnerIntegration>(session, place),
        list::<AccessGrant>(session, place)
    );
    let integrations = integrations.context("listing integrations")?;
    let all: Vec<Integration> = integrations.iter().map(Integration::read).collect();
    let (found, near) = find(&all, &args.partner);
    if found.is_empty() {
        bail!("{}", nobody(args, place, &near));
    }
    let mut tracker = Tracker::of(&found);
    match grants {
        Ok(grants) => grants
            .iter()
            .for_each(|grant| tracker.see(&Grant::read(grant), Instant::now())),
        Err(error) => warn(io, "grants can't be listed, their end is not seen", &error)?,
    }
    show(args, io, &found, &tracker, &near)?;
    if args.dry_run {
        let states = |seen: &Seen| match seen.state {
            State::Inactive => Fate::WasInactive(seen.reason.clone()).words(),
            _ => "would end".to_owned(),
        };
        let text = output::table(&HEADER_DRY, &tracker.rows(states));
        return output::write(
            io.out,
            session.output,
            &tracker.as_json(args, &near, |_| json!({})),
            &text,
        );
    }
    if !args.yes {
        let question = format!("stop partner {}?", args.partner);
        ensure!(io.confirm(&question)? != Some(false), "not stopped");
    }
    let errors = revoke_all(args, io, session, place, &found, &mut tracker).await?;

    let text = output::table(&HEADER, &tracker.rows(|seen| tracker.fate(seen, args).words()));
    let value = tracker.as_json(args, &near, |seen| tracker.fate(seen, args).as_json());
    output::write(io.out, session.output, &value, &text)?;
    if session.output == OutputFormat::Table {
        let again = "starting again takes fresh approvals: kubectl wayleave approve";
        writeln!(io.err, "{again}")?;
    }
    for (key, error) in &errors {
        let text = output::escape(error);
        writeln!(io.err, "error: not revoked: {}/{}: {text}", key.0, key.1)?;
    }
    conclude(args, &found, &tracker, errors.len())
}

fn nobody(args: &Stop, place: Option<&str>, near: &[NearMiss]) -> String {
    let place = place.map_or("any namespace".to_owned(), |ns| format!("namespace {ns}"));
    let near = if near.is_empty() {
        "no other id is near it: see kubectl get partnerintegrations --all-namespaces".to_owned()
    } else {
        format!("near it: {}", describe_near(near))
    };
    format!("no integration of partner {} in {place}; {near}", args.partner)
}

/// Says what is about to be stopped, and what is not.
fn show(
    args: &Stop,
    io: &mut Io<'_>,
    found: &[&Integration],
    tracker: &Tracker,
    near: &[NearMiss],
) -> anyhow::Result<()> {
    let names: BTreeSet<&str> = found.iter().map(|it| it.partner_name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let open = tracker
        .seen
        .values()
        .filter(|seen| seen.state != State::Inactive)
        .count();
    writeln!(
        io.err,
        "partner {} ({}): {} integrations, {} grants, {open} of them active or under way",
        args.partner,
        output::escape(&names.join(", ")),
        found.len(),
        tracker.seen.len()
    )?;
    if !near.is_empty() {
        let text = output::escape(&describe_near(near));
        writeln!(io.err, "warning: not stopped, for it is another partner's id: {text}")?;
    }
    Ok(())
}

/// Whether all is over.
fn conclude(args: &Stop, found: &[&Integration], tracker: &Tracker, refused: usize) -> anyhow::Result<()> {
    let open = tracker
        .seen
        .values()
        .filter(|seen| tracker.fate(seen, args).is_open())
        .count();
    if refused == found.len() {
        bail!("nothing was stopped: no decision to revoke was taken");
    }
    let mut left = Vec::new();
    if refused > 0 {
        left.push(format!("{refused} of {} integrations were not revoked", found.len()));
    }
    if open > 0 {
        left.push(format!(
            "{open} grants may still be active: see kubectl wayleave list -A"
        ));
    }
    if tracker.is_blind && !args.no_wait {
        left.push("the end of grants was not seen".to_owned());
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(failure::Incomplete(format!("not all is stopped: {}", left.join("; "))).into())
}

/// Writes the decisions, a few at a time, and follows the grants meanwhile and until they have ended. Gives the
/// integrations that could not be revoked, and why.
async fn revoke_all(
    args: &Stop,
    io: &mut Io<'_>,
    session: &Session,
    place: Option<&str>,
    found: &[&Integration],
    tracker: &mut Tracker,
) -> anyhow::Result<BTreeMap<Key, String>> {
    let user = who_am_i(&session.client).await?;
    let groups = user.groups_stated();
    let now = io.now;
    let mut sending = stream::iter(found)
        .map(|integration| {
            let decision = revoke(args, integration, &user.name, &groups, now);
            async move {
                let at = Instant::now();
                (*integration, at, send(session, &decision).await)
            }
        })
        .buffer_unordered(AT_ONCE);
    let config = watcher::Config::default();
    let mut watching = pin!(watch(api::<AccessGrant>(session, place), config).default_backoff());
    let (mut all_sent, mut synced, mut errors) = (false, false, BTreeMap::new());
    let mut deadline = tokio::time::Instant::now();
    while !(all_sent && (args.no_wait || tracker.is_blind || (synced && !tracker.is_pending()))) {
        tokio::select! {
            outcome = sending.next(), if !all_sent => match outcome {
                Some((integration, at, Ok(()))) => { tracker.sent.insert(integration.key.clone(), at); }
                Some((integration, _, Err(error))) => { errors.insert(integration.key.clone(), error); }
                None => {
                    all_sent = true;
                    let wait = u64::try_from(args.wait.as_seconds()).unwrap_or_default();
                    deadline = tokio::time::Instant::now() + Duration::from_secs(wait);
                }
            },
            event = watching.next(), if !tracker.is_blind && !args.no_wait => match event {
                Some(Ok(event)) => synced |= tracker.follow(event),
                Some(Err(error)) => tracker.is_blind = is_for_good(&error),
                None => tracker.is_blind = true,
            },
            () = tokio::time::sleep_until(deadline), if all_sent => break,
        }
    }
    if !args.no_wait && !synced {
        tracker.is_blind = true;
    }
    Ok(errors)
}

/// Whether a watch that failed will fail again.
fn is_for_good(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => is_forbidden(error),
        _ => false,
    }
}

fn revoke(
    args: &Stop,
    integration: &Integration,
    user: &str,
    groups: &[String],
    now: jiff::Timestamp,
) -> AccessDecision {
    let draft = Draft {
        namespace: &integration.key.0,
        kind: SubjectKind::PartnerIntegration,
        name: &integration.key.1,
        uid: integration.uid.as_deref(),
        decision: Decision::Revoke,
        digest: None,
        grants: &[],
        // A no needs no right anywhere else.
        targets: &[],
        user,
        groups,
        valid_until: None,
        reason: &args.reason,
    };
    build(&draft, now)
}

/// Sends a decision, again where it could not be taken just then; says why it was not taken in the end.
async fn send(session: &Session, decision: &AccessDecision) -> Result<(), String> {
    let namespace = decision.namespace().unwrap_or_default();
    let api = Api::<AccessDecision>::namespaced(session.client.clone(), &namespace);
    let mut pause = PAUSE;
    for attempt in 1..=ATTEMPTS {
        let params = PostParams::default();
        let error = match tokio::time::timeout(ANSWER, api.create(&params, decision)).await {
            Ok(Ok(_)) => return Ok(()),
            // An attempt before was taken, and its answer lost.
            Ok(Err(kube::Error::Api(status))) if status.code == ALREADY_THERE && attempt > 1 => return Ok(()),
            Ok(Err(error)) if !is_passing(&error) => return Err(failure::of_client(&error).message),
            Ok(Err(error)) => failure::of_client(&error).message,
            Err(_) => "the API server did not answer in time".to_owned(),
        };
        if attempt == ATTEMPTS {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

/// Whether the same request can work a moment later.
fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 429 | 500..=599),
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}

fn api<K: kube::Resource<DynamicType = ()>>(session: &Session, place: Option<&str>) -> Api<DynamicObject> {
    let (client, resource) = (session.client.clone(), ApiResource::erase::<K>(&()));
    match place {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

async fn list<K: kube::Resource<DynamicType = ()>>(
    session: &Session,
    place: Option<&str>,
) -> Result<Vec<Value>, kube::Error> {
    let found = api::<K>(session, place).list(&ListParams::default()).await?;
    let values = found.items.iter().map(serde_json::to_value);
    Ok(values.filter_map(Result::ok).collect())
}

fn warn(io: &mut Io<'_>, what: &str, error: &kube::Error) -> anyhow::Result<()> {
    let text = output::escape(&failure::of_client(error).message);
    writeln!(io.err, "warning: {what}: {text}")?;
    Ok(())
}

/// What is known of the partner's grants.
struct Tracker {
    integrations: BTreeSet<Key>,
    seen: BTreeMap<Key, Seen>,
    /// When the decision about each integration was sent that was taken.
    sent: BTreeMap<Key, Instant>,
    /// Grants of the listing that is under way.
    listed: BTreeSet<Key>,
    /// Grants can't be followed.
    is_blind: bool,
}

struct Seen {
    integration: Key,
    was_open: bool,
    state: State,
    reason: String,
    is_gone: bool,
    ended: Option<Instant>,
}

impl Tracker {
    fn of(found: &[&Integration]) -> Self {
        Self {
            integrations: found.iter().map(|it| it.key.clone()).collect(),
            seen: BTreeMap::new(),
            sent: BTreeMap::new(),
            listed: BTreeSet::new(),
            is_blind: false,
        }
    }

    fn see(&mut self, grant: &Grant, at: Instant) {
        if !self.integrations.contains(&grant.integration) {
            return;
        }
        let is_open = grant.state != State::Inactive;
        let seen = self.seen.entry(grant.key.clone()).or_insert_with(|| Seen {
            integration: grant.integration.clone(),
            was_open: is_open,
            state: grant.state,
            reason: grant.reason.clone(),
            is_gone: false,
            ended: None,
        });
        seen.was_open |= is_open;
        seen.ended = if is_open {
            None
        } else {
            seen.ended.or(seen.was_open.then_some(at))
        };
        seen.state = grant.state;
        seen.reason.clone_from(&grant.reason);
    }

    /// Takes in a change; true where all are known now.
    fn follow(&mut self, event: Event<DynamicObject>) -> bool {
        let at = Instant::now();
        let read = |object: &DynamicObject| serde_json::to_value(object).map(|it| Grant::read(&it)).ok();
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                if let Some(grant) = read(&object) {
                    self.listed.insert(grant.key.clone());
                    self.see(&grant, at);
                }
            }
            Event::Apply(object) => {
                if let Some(grant) = read(&object) {
                    self.see(&grant, at);
                }
            }
            Event::Delete(object) => {
                let key = (object.namespace().unwrap_or_default(), object.name_any());
                if let Some(seen) = self.seen.get_mut(&key) {
                    seen.is_gone = true;
                }
            }
            Event::InitDone => {
                for (key, seen) in &mut self.seen {
                    seen.is_gone |= !self.listed.contains(key);
                }
                return true;
            }
        }
        false
    }

    fn is_pending(&self) -> bool {
        let mut open = self
            .seen
            .values()
            .filter(|it| it.state != State::Inactive && !it.is_gone);
        open.any(|seen| self.sent.contains_key(&seen.integration))
    }

    fn fate(&self, seen: &Seen, args: &Stop) -> Fate {
        let Some(sent) = self.sent.get(&seen.integration) else {
            return if seen.state == State::Inactive {
                Fate::WasInactive(seen.reason.clone())
            } else {
                Fate::NotRevoked
            };
        };
        match (seen.is_gone, seen.ended, seen.was_open) {
            (true, ..) => Fate::Gone,
            (_, Some(ended), _) => Fate::Ended(ended.saturating_duration_since(*sent)),
            (_, None, false) => Fate::WasInactive(seen.reason.clone()),
            _ if args.no_wait => Fate::NotAwaited,
            _ => Fate::StillActive,
        }
    }

    /// A row for each grant, and one for each integration without any.
    fn rows(&self, last: impl Fn(&Seen) -> String) -> Vec<Vec<String>> {
        let row = |key: &Key, grant: &str, last: String| vec![key.0.clone(), key.1.clone(), grant.to_owned(), last];
        let mut rows = Vec::new();
        for key in &self.integrations {
            let own = self.seen.iter().filter(|(_, seen)| seen.integration == *key);
            let before = rows.len();
            rows.extend(own.map(|(grant, seen)| row(key, &grant.1, last(seen))));
            if rows.len() == before {
                rows.push(row(key, "", String::new()));
            }
        }
        rows
    }

    fn as_json(&self, args: &Stop, near: &[NearMiss], fate: impl Fn(&Seen) -> Value) -> Value {
        let integrations = self.integrations.iter().map(|key| {
            let own = self.seen.iter().filter(|(_, seen)| seen.integration == *key);
            let grants = own.map(|(grant, seen)| {
                let mut value = fate(seen);
                value["name"] = json!(grant.1);
                value["reason"] = json!(seen.reason);
                value
            });
            json!({
                "namespace": key.0,
                "name": key.1,
                "revoked": self.sent.contains_key(key),
                "grants": grants.collect::<Vec<_>>(),
            })
        });
        json!({
            "partner": args.partner,
            "integrations": integrations.collect::<Vec<_>>(),
            "nearMisses": near,
        })
    }
}
