//! What is shown is what the reference, the alerts and the dashboard tell of, and says what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::Event;
use serde_json::Value;

use super::super::cache::Pending;
use super::super::{lock, now};
use super::*;
use crate::api::conditions::{review, types};
use crate::api::v1alpha1::{AccessGrant, AccessGrantStatus, Instant, PartnerIntegrationStatus};
use crate::domain::conditions::{self, Desired};
use crate::domain::fixtures;

const REFERENCE: &str = include_str!("../../../docs/metrics.md");
const RULES: &str = include_str!("../../../charts/wayleave/files/rules.yaml");
const DASHBOARD: &str = include_str!("../../../charts/wayleave/files/dashboard.json");
const RUNBOOKS: &str = "https://github.com/wayleave/wayleave/blob/main/docs/runbooks";
/// Labels that Prometheus gives to what it scrapes.
const OF_TARGETS: [&str; 3] = ["cluster", "namespace", "pod"];

/// A metric as it is shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    kind: String,
    unit: String,
    labels: BTreeSet<String>,
    values: BTreeSet<(String, String)>,
}

/// The name by which a sample belongs to its metric: that of counters ends in `_total`, as it is asked for.
fn family(sample: &str) -> &str {
    let parts = ["_bucket", "_sum", "_count"];
    parts
        .iter()
        .find_map(|part| sample.strip_suffix(part))
        .unwrap_or(sample)
}

fn labels_in(text: &str) -> Vec<(String, String)> {
    let pairs = text.split("\",").filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once("=\"").expect("a label has a value"));
    pairs
        .map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect()
}

/// Everything that is shown, by name.
fn shown(text: &str) -> BTreeMap<String, Shown> {
    let (mut all, mut kinds, mut units) = (BTreeMap::<String, Shown>::new(), BTreeMap::new(), BTreeMap::new());
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", name, kind] => drop(kinds.insert(name, kind)),
            ["#", "UNIT", name, unit] => drop(units.insert(name, unit)),
            ["#", ..] => {}
            _ => {
                let (sample, _) = line.rsplit_once(' ').expect("a sample has a value");
                let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
                let name = family(name);
                let entry = all.entry(name.to_owned()).or_default();
                let described = name
                    .strip_suffix("_total")
                    .or_else(|| name.strip_suffix("_info"))
                    .unwrap_or(name);
                entry.kind = (*kinds.get(described).expect("a sample follows its type")).to_owned();
                entry.unit = (*units.get(described).unwrap_or(&"")).to_owned();
                for (label, value) in labels_in(labels.trim_end_matches('}')) {
                    if label != "le" {
                        entry.labels.insert(label.clone());
                        entry.values.insert((label, value));
                    }
                }
            }
        }
    }
    all
}

fn scrape(metrics: &Metrics, cache: &Arc<Cache>) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &metrics.registry(Arc::clone(cache))).unwrap();
    text
}

/// What a new operator shows once it has spoken with the API server.
fn from_the_start() -> BTreeMap<String, Shown> {
    let metrics = Metrics::default();
    drop(metrics.calls.get_or_create(&Call { verb: "GET", code: 200 }));
    shown(&scrape(&metrics, &Cache::new().0))
}

/// The value of one sample.
fn value(text: &str, sample: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{text}"))
        .parse()
        .unwrap()
}

fn is(text: &str, sample: &str, wanted: f64) {
    let found = value(text, sample);
    assert!((found - wanted).abs() < 1e-9, "{sample} is {found}, not {wanted}");
}

#[test]
fn names_and_units_are_what_prometheus_wants() {
    for (name, metric) in from_the_start() {
        assert!(name.starts_with("wayleave_"), "{name}");
        let is_plain = |text: &str| text.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
        assert!(
            is_plain(&name) && metric.labels.iter().all(|label| is_plain(label)),
            "{name}: {metric:?}"
        );
        assert_eq!(name.ends_with("_total"), metric.kind == "counter", "{name}: {metric:?}");
        assert_eq!(
            name.ends_with("_seconds"),
            metric.unit == "seconds",
            "{name}: {metric:?}"
        );
    }
}

#[test]
fn the_reference_has_every_metric_and_no_other() {
    let table = REFERENCE
        .split("| metric | type | unit | labels | what it says |\n")
        .nth(1)
        .expect("no table");
    let mut told = BTreeMap::new();
    for row in table.lines().skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, kind, unit, labels, meaning, _] = cells[..] else {
            panic!("not a row of five: {row}");
        };
        assert!(!meaning.is_empty(), "{row}");
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        told.insert(
            name.trim_matches('`').to_owned(),
            (kind.to_owned(), unit.to_owned(), labels),
        );
    }
    let there = from_the_start()
        .into_iter()
        .map(|(name, it)| (name, (it.kind, it.unit, it.labels)));
    assert_eq!(told, there.collect::<BTreeMap<_, (_, _, BTreeSet<String>)>>());
}

/// What an expression asks of a label: its name, the comparison, the value.
type Matcher = (String, String, String);

/// Every metric of an expression, with what it asks of labels.
fn selectors(expression: &str) -> Vec<(String, Vec<Matcher>)> {
    let mut all = Vec::new();
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_';
    for (start, _) in expression.match_indices("wayleave_") {
        let rest = &expression[start..];
        let end = rest.find(|it| !is_part(it)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let braces = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = braces.map_or("", |(inner, _)| inner).split("\",");
        let matchers = matchers.filter(|it| !it.trim().is_empty()).map(|matcher| {
            let (label, value) = matcher.split_once('"').expect("a matcher has a value");
            let label = label.trim();
            let name = label.trim_end_matches(['=', '~', '!']);
            (
                name.to_owned(),
                label[name.len()..].to_owned(),
                value.trim_end_matches('"').to_owned(),
            )
        });
        all.push((name.to_owned(), matchers.collect()));
    }
    all
}

/// The labels by which an expression groups.
fn groups(expression: &str) -> impl Iterator<Item = &str> {
    let lists = expression.split("by (").skip(1);
    let lists = lists.map(|rest| rest.split(')').next().unwrap_or_default());
    lists.flat_map(|list| list.split(',').map(str::trim))
}

/// An expression asks for what is shown, and for labels and words that are there from the start.
fn is_answered(expression: &str, there: &BTreeMap<String, Shown>) {
    let found = selectors(expression);
    assert!(!found.is_empty(), "{expression} asks for no metric of ours");
    let mut labels = BTreeSet::from(OF_TARGETS);
    for (name, matchers) in &found {
        let metric = there
            .get(family(name))
            .unwrap_or_else(|| panic!("{expression}: there is no {name}"));
        let is_histogram = metric.kind == "histogram";
        assert_eq!(
            name != family(name),
            is_histogram,
            "{expression}: {name} is a {}",
            metric.kind
        );
        labels.extend(metric.labels.iter().map(String::as_str));
        labels.extend(name.ends_with("_bucket").then_some("le"));
        for (label, comparison, words) in matchers {
            if OF_TARGETS.contains(&label.as_str()) {
                continue;
            }
            assert!(
                metric.labels.contains(label),
                "{expression}: {name} has no label {label}"
            );
            let words: Vec<&str> = if comparison.ends_with('~') {
                words.split('|').collect()
            } else {
                vec![words]
            };
            // Codes are known only when they come.
            for word in words
                .iter()
                .filter(|word| word.bytes().all(|it| it.is_ascii_alphanumeric()) && *label != "code")
            {
                let pair = (label.clone(), (*word).to_owned());
                assert!(
                    metric.values.contains(&pair),
                    "{expression}: no {label} of {name} is {word}"
                );
            }
        }
    }
    for group in groups(expression) {
        assert!(
            labels.contains(group),
            "{expression} groups by {group}, which nothing in it has"
        );
    }
}

#[test]
fn every_alert_is_whole_asks_for_what_is_there_and_has_its_page() {
    let there = from_the_start();
    let rules: Value = serde_saphyr::from_str(RULES).unwrap();
    let mut alerts = BTreeSet::new();
    let rules = rules["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap());
    for rule in rules {
        let text = |value: &Value| {
            value
                .as_str()
                .unwrap_or_else(|| panic!("something is missing in {rule}"))
                .to_owned()
        };
        let name = text(&rule["alert"]);
        is_answered(&text(&rule["expr"]), &there);
        let minutes = text(&rule["for"]);
        assert!(minutes.ends_with('m') || minutes.ends_with('h'), "{name}: {minutes}");
        assert!(
            ["critical", "warning", "info"].contains(&text(&rule["labels"]["severity"]).as_str()),
            "{name}"
        );
        let words = &rule["annotations"];
        assert!(
            !text(&words["summary"]).is_empty() && !text(&words["description"]).is_empty(),
            "{name}"
        );
        assert_eq!(text(&words["runbook_url"]), format!("{RUNBOOKS}/{name}.md"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/runbooks/{name}.md"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let severity = format!("# {name}\n\nSeverity: {}. ", text(&rule["labels"]["severity"]));
        assert!(
            page.starts_with(&severity),
            "{name} has another title or severity than its page"
        );
        for part in ["What it means", "Who is affected", "How to see it", "How to mend it"] {
            assert!(
                page.contains(&format!("\n## {part}\n")),
                "the page of {name} does not say: {part}"
            );
        }
        assert!(alerts.insert(format!("{name}.md")), "{name} twice");
    }
    assert!(alerts.len() > 10, "{alerts:?}");
    let pages = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks")).unwrap();
    let pages: BTreeSet<String> = pages
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(pages, alerts, "a page without an alert");
}

/// The page about failures to issue has every word, and no other.
#[test]
fn every_failure_has_its_remedy() {
    let page = include_str!("../../../docs/runbooks/WayleaveIssuingFails.md");
    let text = page.replace('\n', " ");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap_or_default());
    let mut told: BTreeSet<String> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    for ordinary in ["Conflict", "Overtaken"] {
        assert!(text.contains(&format!("`{ordinary}` (")), "{ordinary}");
        assert!(
            told.insert(ordinary.to_owned()),
            "{ordinary} is ordinary, and has a remedy"
        );
    }
    assert_eq!(told, Failure::ALL.map(|failure| format!("{failure:?}")).into());
}

#[test]
fn every_panel_asks_for_what_is_there() {
    let there = from_the_start();
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let (mut asked, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_i64()), "an id twice: {panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            is_answered(expression, &there);
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{expression}");
            for (name, matchers) in selectors(expression) {
                let of_namespace = ("namespace".to_owned(), "=~".to_owned(), "$namespace".to_owned());
                assert!(
                    matchers.contains(&of_namespace),
                    "{expression} looks into every namespace"
                );
                asked.insert(family(&name).to_owned());
            }
        }
    }
    assert_eq!(asked, there.into_keys().collect(), "a metric that nobody sees");
}

#[test]
fn expressions_are_read_as_they_are_meant() {
    let expression = "sum by (a, le) (rate(wayleave_x_bucket{b=~\"C|D\", e!=\"f\"}[5m])) / wayleave_y";
    let matcher =
        |label: &str, comparison: &str, value: &str| (label.to_owned(), comparison.to_owned(), value.to_owned());
    assert_eq!(
        selectors(expression),
        [
            (
                "wayleave_x_bucket".to_owned(),
                vec![matcher("b", "=~", "C|D"), matcher("e", "!=", "f")]
            ),
            ("wayleave_y".to_owned(), vec![]),
        ]
    );
    assert_eq!(groups(expression).collect::<Vec<_>>(), ["a", "le"]);
}

fn with_reason(name: &str, reason: &str, status: &'static str, approved: Instant) -> AccessGrant {
    let mut grant = fixtures::grant();
    grant.metadata.name = Some(name.to_owned());
    let desired = vec![
        Desired::new(types::ACTIVE, status, reason, ""),
        Desired::new(types::APPROVED, "Unknown", reason, ""),
    ];
    grant.status = Some(AccessGrantStatus {
        conditions: conditions::merge(&[], desired, Some(1), approved),
        ..AccessGrantStatus::default()
    });
    grant.spec.expires_at = now().plus(3_600);
    grant
}

#[test]
fn grants_and_reviews_are_counted_as_they_are() {
    let (cache, Pending(mut writers), _queues) = Cache::new();
    let mut late = with_reason("late", "Issued", "True", now());
    late.spec.expires_at = now().plus(-60);
    let mut shorter = with_reason("shorter", "Issued", "True", now());
    shorter.status.as_mut().unwrap().active_until = Some(now().plus(-60));
    let mut silent = fixtures::grant();
    silent.metadata.name = Some("silent".to_owned());
    let grants = [
        late,
        shorter,
        silent,
        with_reason("sound", "Issued", "True", now()),
        with_reason("unclosed", "Issued", "True", now()),
        with_reason("failed", "RevocationFailed", "True", now()),
        with_reason("waits", "AwaitingApproval", "False", now().plus(-600)),
        with_reason("waits-longer", "AwaitingApproval", "False", now().plus(-7_200)),
        with_reason("has-ended", "Expired", "False", now().plus(-99_999)),
        with_reason("of-another-version", "Enchanted", "False", now()),
    ];
    for grant in grants {
        writers
            .grants
            .apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(grant))));
    }
    let mut metadata = fixtures::grant().metadata;
    metadata.name = Some("unreadable".to_owned());
    let error = "spec is missing".to_owned();
    let unreadable = DeserializeGuard(Err(InvalidObject { error, metadata }));
    writers.grants.apply_watcher_event(&Event::Apply(unreadable));
    for (name, state) in [("a", Some(review::OVERDUE)), ("b", Some(review::OVERDUE)), ("c", None)] {
        let mut integration = fixtures::integration();
        integration.metadata.name = Some(name.to_owned());
        integration.status = state.map(|state| PartnerIntegrationStatus {
            conditions: conditions::merge(
                &[],
                vec![Desired::new(types::REVIEW_CURRENT, "False", state, "")],
                Some(1),
                now(),
            ),
            ..PartnerIntegrationStatus::default()
        });
        writers
            .integrations
            .apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(integration))));
    }
    let unclosed = (fixtures::grant().metadata.namespace.unwrap(), "unclosed".to_owned());
    lock(&cache.unclosed).insert("uid-of-its-binding".to_owned(), unclosed);
    let text = scrape(&Metrics::default(), &cache);
    for (reason, count) in [
        ("Issued", 4.0),
        ("RevocationFailed", 1.0),
        ("AwaitingApproval", 2.0),
        ("Expired", 1.0),
    ] {
        is(&text, &format!("wayleave_grants{{reason=\"{reason}\"}}"), count);
    }
    is(&text, "wayleave_grants{reason=\"Unknown\"}", 2.0);
    assert!(!text.contains("Enchanted"), "a word that is not ours is a label");
    is(&text, "wayleave_grants{reason=\"Denied\"}", 0.0);
    is(&text, "wayleave_overdue_grants", 4.0);
    is(&text, "wayleave_unreadable_grants", 1.0);
    is(&text, "wayleave_reviews{state=\"Overdue\"}", 2.0);
    is(&text, "wayleave_reviews{state=\"Unknown\"}", 1.0);
    let waited = value(&text, "wayleave_longest_approval_wait_seconds");
    assert!((7_200.0..7_260.0).contains(&waited), "{waited}");
}

#[test]
fn nobody_waits_where_there_is_nobody() {
    let text = scrape(&Metrics::default(), &Cache::new().0);
    is(&text, "wayleave_longest_approval_wait_seconds", 0.0);
    is(&text, "wayleave_overdue_grants", 0.0);
}

#[test]
fn what_happens_is_counted_under_its_words() {
    let metrics = Metrics::default();
    metrics.closed(Reason::Revoked, Cause::Change, Duration::from_millis(700));
    metrics.closed(Reason::Expired, Cause::Deadline, Duration::from_millis(30));
    metrics.closed(Reason::Expired, Cause::Deadline, Duration::from_mins(60));
    metrics.issue_failed(ROTATE, Failure::ServerError);
    metrics.token_shortened();
    for leads in [false, true, true, false, false, true] {
        metrics.leads(leads);
    }
    let text = scrape(&metrics, &Cache::new().0);
    is(&text, "wayleave_closings_total{reason=\"Expired\"}", 2.0);
    is(&text, "wayleave_revocation_lag_seconds_count{cause=\"change\"}", 1.0);
    is(&text, "wayleave_revocation_lag_seconds_count{cause=\"deadline\"}", 2.0);
    is(
        &text,
        "wayleave_revocation_lag_seconds_bucket{le=\"0.05\",cause=\"deadline\"}",
        1.0,
    );
    is(
        &text,
        "wayleave_revocation_lag_seconds_bucket{le=\"1800.0\",cause=\"deadline\"}",
        1.0,
    );
    is(
        &text,
        "wayleave_issue_failures_total{action=\"rotate\",reason=\"ServerError\"}",
        1.0,
    );
    is(
        &text,
        "wayleave_issue_failures_total{action=\"issue\",reason=\"ServerError\"}",
        0.0,
    );
    is(&text, "wayleave_shortened_tokens_total", 1.0);
    is(&text, "wayleave_leader_changes_total", 2.0);
    is(&text, "wayleave_leader", 1.0);
}

#[test]
fn every_answer_that_is_no_success_has_a_word() {
    let words = [400, 401, 403, 404, 409, 422, 429, 500, 503, 504].map(Failure::of_code);
    use Failure::{Conflict, Forbidden, NotFound, Refused, ServerError, TooManyRequests};
    let wanted = [
        Refused,
        Forbidden,
        Forbidden,
        NotFound,
        Conflict,
        Refused,
        TooManyRequests,
        ServerError,
        ServerError,
        ServerError,
    ];
    assert_eq!(words, wanted);
}
