//! The operator as a process: what it says of itself, who leads, how it starts and stops.
#![expect(clippy::disallowed_types, reason = "tests drive a real cluster")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use wayleave_e2e::operator::{NAMESPACE, SERVICE_ACCOUNT};
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
        "wayleave_clock_skew_seconds 0",
        "wayleave_closing_failures_total 0",
        "wayleave_reconcile_duration_seconds_count",
    ] {
        ensure!(metrics.contains(name), "no {name} in\n{metrics}");
    }

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
        stopped.elapsed() < Duration::from_secs(3),
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
    let limit = Duration::from_secs(LEASE + 3);
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
