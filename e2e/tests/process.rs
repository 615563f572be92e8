//! The operator as a process: what it says of itself, who leads, how it starts and stops.
#![expect(clippy::disallowed_types, reason = "tests drive a real cluster")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::Value;
use wayleave_e2e::operator::{NAMESPACE, SERVICE_ACCOUNT, workspace};
use wayleave_e2e::{ControlPlane, Operator, OperatorOptions, eventually, install};

const LIMIT: Duration = Duration::from_secs(90);
/// The lease of these tests, in seconds: a replica that is killed is replaced after as long.
const LEASE: u64 = 6;

fn replica(name: &str) -> OperatorOptions {
    OperatorOptions {
        args: vec![
            format!("--identity={name}").into(),
            format!("--lease-duration={LEASE}").into(),
        ],
        ..OperatorOptions::default()
    }
}

async fn leads(operator: &Operator) -> Result<bool> {
    Ok(operator
        .metrics()
        .await?
        .lines()
        .any(|line| line == "wayleave_leader 1"))
}

async fn holder(cp: &ControlPlane) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(cp.admin().await?, NAMESPACE);
    let spec = leases.get("wayleave").await?.spec;
    Ok(spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
}

/// The operator's account, before the chart makes it its own.
async fn account_without_the_chart(cp: &ControlPlane) -> Result<()> {
    let named = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some([("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned())].into()),
        annotations: Some(
            [
                ("meta.helm.sh/release-name".to_owned(), "wayleave".to_owned()),
                ("meta.helm.sh/release-namespace".to_owned(), NAMESPACE.to_owned()),
            ]
            .into(),
        ),
        ..ObjectMeta::default()
    };
    let namespaces: Api<Namespace> = Api::all(cp.admin().await?);
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    namespaces.create(&PostParams::default(), &namespace).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(cp.admin().await?, NAMESPACE);
    let account = ServiceAccount {
        metadata: named(SERVICE_ACCOUNT),
        ..ServiceAccount::default()
    };
    accounts.create(&PostParams::default(), &account).await?;
    Ok(())
}

#[tokio::test]
async fn the_operator_says_what_is_missing_then_one_replica_leads_and_hands_over() -> Result<()> {
    let cp = ControlPlane::start().await?;
    account_without_the_chart(&cp).await?;

    // Before the chart: it is alive, and names what it waits for.
    let one = Operator::start(&cp, replica("one")).await?;
    eventually("the operator to name the missing kinds and rights", LIMIT, || async {
        ensure!(one.get("/live").await? == "live\n");
        let said = one.get("/ready").await.unwrap_or_else(|error| format!("{error:#}"));
        ensure!(
            said.contains("503") && said.contains("accessgrants.wayleave.dev"),
            "{said}"
        );
        Ok(Some(()))
    })
    .await?;
    // Nothing is under way that a stop would have to wait for.
    let stopped = Instant::now();
    ensure!(one.stop().await?.success(), "a graceful stop exits with 0");
    ensure!(
        stopped.elapsed() < Duration::from_secs(5),
        "stopped only after {:?}",
        stopped.elapsed()
    );
    one.start_again()?;
    install(&cp).await?;
    one.wait_ready().await?;
    eventually("the one replica to lead", LIMIT, || async {
        Ok(leads(&one).await?.then_some(()))
    })
    .await?;
    ensure!(holder(&cp).await? == "one");

    let metrics = one.metrics().await?;
    for name in [
        "wayleave_build_info{version=",
        "wayleave_overdue_grants 0",
        "wayleave_unreadable_grants 0",
        "wayleave_api_requests_total{verb=\"GET\",code=\"200\"}",
        "wayleave_admission_proved",
        "wayleave_clock_skew_seconds ",
        "wayleave_closing_failures_total 0",
        "wayleave_reconcile_duration_seconds_count",
    ] {
        ensure!(metrics.contains(name), "no {name} in\n{metrics}");
    }
    all_is_shown_that_is_told_of(&metrics)?;

    // A second one waits; it takes over when the first stops, and within the lease when one dies.
    let two = Operator::start(&cp, replica("two")).await?;
    two.wait_ready().await?;
    ensure!(!leads(&two).await? && leads(&one).await?);
    let stopped = Instant::now();
    ensure!(one.stop().await?.success(), "a graceful stop exits with 0");
    eventually("the second replica to lead", LIMIT, || async {
        Ok(leads(&two).await?.then_some(()))
    })
    .await?;
    ensure!(
        stopped.elapsed() < Duration::from_secs(LEASE - 1),
        "handed over after {:?}",
        stopped.elapsed()
    );
    ensure!(holder(&cp).await? == "two");

    // Somebody deletes the lease: it is made anew, and somebody leads again.
    let leases: Api<Lease> = Api::namespaced(cp.admin().await?, NAMESPACE);
    leases.delete("wayleave", &kube::api::DeleteParams::default()).await?;
    eventually("the lease to be held again", LIMIT, || async {
        Ok((holder(&cp).await? == "two" && leads(&two).await?).then_some(()))
    })
    .await?;

    one.start_again()?;
    one.wait_ready().await?;
    ensure!(!leads(&one).await?);
    let killed = Instant::now();
    two.kill()?;
    eventually("the first replica to lead again", LIMIT, || async {
        Ok(leads(&one).await?.then_some(()))
    })
    .await?;
    let limit = Duration::from_secs(LEASE + 8);
    ensure!(killed.elapsed() < limit, "taken over after {:?}", killed.elapsed());

    // Somebody takes a kind away: that is said, too.
    let kinds: Api<CustomResourceDefinition> = Api::all(cp.admin().await?);
    let gone = "accesspolicies.wayleave.dev";
    kinds.delete(gone, &kube::api::DeleteParams::default()).await?;
    eventually("the operator to name the kind that is gone", LIMIT, || async {
        let said = one.get("/ready").await.unwrap_or_else(|error| format!("{error:#}"));
        ensure!(said.contains("503") && said.contains(gone), "{said}");
        Ok(Some(()))
    })
    .await
}

/// Words of ours that are metrics: in rules, in the dashboard, in the reference.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|it: char| !(it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_'));
    words.filter(|word| word.starts_with("wayleave_")).collect()
}

/// What alerts, the dashboard and the reference tell of is shown by an operator from its start, before anything happened. Types
/// and labels are looked at by the operator's own tests.
fn all_is_shown_that_is_told_of(scraped: &str) -> Result<()> {
    let shown = metrics_in(scraped);
    for file in [
        "charts/wayleave/files/rules.yaml",
        "charts/wayleave/files/dashboard.json",
        "docs/metrics.md",
    ] {
        let text = std::fs::read_to_string(workspace().join(file)).with_context(|| format!("reading {file}"))?;
        let told = metrics_in(&text);
        ensure!(told.len() > 10, "{file} tells of {told:?} alone");
        for metric in told {
            let is_shown = shown.contains(metric) || shown.contains(format!("{metric}_count").as_str());
            ensure!(is_shown, "{file} tells of {metric}, which is not in\n{scraped}");
        }
    }
    Ok(())
}

/// The lines of an operator's log, as they are.
fn log_lines(operator: &Operator) -> Result<Vec<Value>> {
    let logs = operator.logs()?;
    // The last one may be half written.
    let whole = logs.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    lines.collect()
}

#[tokio::test]
async fn a_signal_has_more_logged_and_another_as_much_as_before() -> Result<()> {
    let cp = ControlPlane::start().await?;
    account_without_the_chart(&cp).await?;
    let operator = Operator::start(&cp, OperatorOptions::default()).await?;
    let says = async |words: &str| {
        eventually(words, LIMIT, || async {
            let lines = log_lines(&operator)?;
            Ok(lines.iter().position(|line| line["fields"]["message"] == words))
        })
        .await
    };
    let is_debug = |line: &Value| line["level"] == "DEBUG";
    // The kinds are missing, so that there is always something to tell.
    eventually("a first word", LIMIT, || async {
        Ok((!log_lines(&operator)?.is_empty()).then_some(()))
    })
    .await?;
    eventually("the signal to be taken", LIMIT, || async {
        Ok(operator.get("/live").await.ok())
    })
    .await?;
    ensure!(!log_lines(&operator)?.iter().any(is_debug), "more than was asked for");

    operator.process().signal_user()?;
    says("more is logged, until the same signal comes again").await?;
    eventually("a word that is only told so", LIMIT, || async {
        Ok(log_lines(&operator)?.iter().any(is_debug).then_some(()))
    })
    .await?;

    operator.process().signal_user()?;
    let before = says("as much is logged as before").await?;
    // What is at fault is told again, and nothing else with it.
    let lines = eventually("the next words", LIMIT, || async {
        let lines = log_lines(&operator)?;
        Ok((lines.len() > before + 3).then_some(lines))
    })
    .await?;
    // Another thread may have been at its line while the level changed.
    ensure!(!lines[before + 2..].iter().any(is_debug), "{lines:#?}");
    let known = ["timestamp", "level", "fields", "target", "span", "spans"];
    for key in lines.iter().filter_map(Value::as_object).flat_map(|line| line.keys()) {
        ensure!(known.contains(&key.as_str()), "docs/logs.md does not tell of {key}");
    }
    Ok(())
}

#[tokio::test]
async fn what_can_not_start_says_why() -> Result<()> {
    let cp = ControlPlane::start().await?;
    account_without_the_chart(&cp).await?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listen = taken.local_addr()?;
    let refused = [
        (format!("--listen={listen}"), "can't be used: choose a free address"),
        ("--lease-duration=1".to_owned(), "--lease-duration"),
        ("--log-level=loud=and=clear".to_owned(), "--log-level"),
        ("--leader-election=maybe".to_owned(), "--leader-election"),
        ("--partner-server=http://api.example".to_owned(), "not an https URL"),
        (
            "--identity-namespace=wayleave-system".to_owned(),
            "need a namespace of their own",
        ),
    ];
    for (flag, words) in refused {
        let options = OperatorOptions {
            args: vec![flag.clone().into()],
            ..OperatorOptions::default()
        };
        let operator = Operator::start(&cp, options).await?;
        let status = eventually("the operator to end", LIMIT, || async {
            Ok(operator.process().exit_status())
        })
        .await?;
        let log = operator.logs().context("its log")?;
        ensure!(!status.success() && log.contains(words), "{flag}: {status}: {log}");
    }
    Ok(())
}
