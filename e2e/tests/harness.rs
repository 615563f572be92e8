//! The harness itself: what the other tests stand on.
#![expect(clippy::disallowed_types, reason = "tests drive a real cluster")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, Error};
use tokio::sync::OnceCell;
use wayleave_e2e::install::can_stamp;
use wayleave_e2e::{ControlPlane, Operator, OperatorOptions, Part, Process, eventually, install};

const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(30);

async fn shared() -> Result<&'static ControlPlane> {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED.get_or_try_init(ControlPlane::start).await
}

async fn who_is(client: Client) -> Result<UserInfo> {
    let reviews: Api<SelfSubjectReview> = Api::all(client);
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?;
    review
        .status
        .and_then(|status| status.user_info)
        .context("a review without a user")
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn the_administrator_may_do_everything() -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(shared().await?.admin().await?);
    assert!(namespaces.list(&ListParams::default()).await?.items.len() >= 3);
    Ok(())
}

#[tokio::test]
async fn a_user_has_its_name_and_all_its_groups() -> Result<()> {
    let who = who_is(
        shared()
            .await?
            .user("ada@example.org", &["team:data", "team:platform"])
            .await?,
    )
    .await?;
    assert_eq!(who.username.as_deref(), Some("ada@example.org"));
    let groups = who.groups.unwrap_or_default();
    assert_eq!(groups, ["team:data", "team:platform", "system:authenticated"]);
    Ok(())
}

#[tokio::test]
async fn a_service_account_is_itself_and_an_invented_token_is_nobody() -> Result<()> {
    let cp = shared().await?;
    let who = who_is(cp.service_account("default", "default").await?).await?;
    assert_eq!(who.username.as_deref(), Some("system:serviceaccount:default:default"));
    let refused = who_is(cp.with_token("invented").await?).await.unwrap_err();
    assert!(
        matches!(refused.downcast_ref(), Some(Error::Api(status)) if status.code == 401),
        "{refused:#}"
    );
    let anonymous: Api<Namespace> = Api::all(cp.anonymous().await?);
    let refused = anonymous.list(&ListParams::default()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Api(status) if status.is_forbidden()),
        "{refused:#}"
    );
    Ok(())
}

#[tokio::test]
async fn kubectl_speaks_as_the_user_of_its_kubeconfig() -> Result<()> {
    let cp = shared().await?;
    let kubeconfig = cp.user_kubeconfig("kim", &["team:kubectl"]).await?;
    let who = cp
        .kubectl(&kubeconfig)
        .await?
        .args(["auth", "whoami", "-o", "json"])
        .run()
        .await?
        .ok()?;
    assert!(who.contains("\"kim\"") && who.contains("team:kubectl"), "{who}");
    let refused = cp
        .kubectl(&kubeconfig)
        .await?
        .args(["get", "secrets"])
        .run()
        .await?
        .ok()
        .unwrap_err();
    assert!(refused.to_string().contains("Forbidden"), "{refused:#}");

    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&kubeconfig)?.permissions().mode() & 0o777, 0o600);
    Ok(())
}

#[tokio::test]
async fn kubectl_applies_what_it_reads() -> Result<()> {
    let cp = shared().await?;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-stdin, namespace: default}\n";
    let admin = cp.admin_kubeconfig();
    cp.kubectl(&admin)
        .await?
        .args(["apply", "-f", "-"])
        .stdin(yaml)
        .run()
        .await?
        .ok()?;
    let maps: Api<ConfigMap> = Api::namespaced(cp.admin().await?, "default");
    maps.get("from-stdin").await?;
    Ok(())
}

#[tokio::test]
async fn helm_reaches_the_cluster() -> Result<()> {
    let cp = shared().await?;
    let releases = cp
        .helm(&cp.admin_kubeconfig())
        .await?
        .args(["list", "-A", "-o", "json"])
        .run()
        .await?
        .ok()?;
    assert_eq!(releases.trim(), "[]");
    Ok(())
}

#[tokio::test]
async fn the_audit_log_shows_a_call_just_made() -> Result<()> {
    let cp = shared().await?;
    let mark = cp.audit()?.mark()?;
    let maps: Api<ConfigMap> = Api::namespaced(cp.user("olga", &[]).await?, "default");
    maps.create(&PostParams::default(), &config_map("refused"))
        .await
        .unwrap_err();
    let event = cp
        .audit()?
        .wait_for(mark, "olga's call", LONG, |event| event.user.username == "olga")
        .await?;
    assert_eq!((event.verb.as_str(), event.code()), ("create", 403));
    let object = event.object_ref.context("a call without an object")?;
    assert_eq!(
        (object.resource.as_str(), object.namespace.as_str()),
        ("configmaps", "default")
    );
    assert_eq!(
        cp.audit()?.since(mark)?.by_user("olga").writes().of("configmaps").len(),
        1
    );
    Ok(())
}

#[tokio::test]
async fn a_paused_api_server_answers_when_resumed_and_a_restart_keeps_the_data() -> Result<()> {
    let (one, other) = tokio::try_join!(ControlPlane::start(), ControlPlane::start())?;
    assert_ne!(
        one.server_url(),
        other.server_url(),
        "two control planes run side by side"
    );
    let maps: Api<ConfigMap> = Api::namespaced(one.admin().await?, "default");
    maps.create(&PostParams::default(), &config_map("kept")).await?;

    one.pause(Part::ApiServer)?;
    // Its threads stop one after the other: a request just after the signal may still be answered.
    eventually("the paused server to be silent", 5 * SHORT, || async {
        let answer = tokio::time::timeout(SHORT, maps.get("kept")).await;
        Ok(answer.is_err().then_some(()))
    })
    .await?;
    one.resume(Part::ApiServer).await?;
    maps.get("kept").await?;

    for part in [Part::Etcd, Part::ApiServer, Part::ControllerManager] {
        one.restart(part)
            .await
            .with_context(|| format!("restart of {part:?}"))?;
    }
    let maps: Api<ConfigMap> = Api::namespaced(one.admin().await?, "default");
    maps.get("kept").await?;
    let maps: Api<ConfigMap> = Api::namespaced(other.admin().await?, "default");
    assert!(
        maps.get_opt("kept").await?.is_none(),
        "each control plane has its own data"
    );

    let directory = one.dir().to_owned();
    one.remove();
    assert!(!directory.exists(), "{} was left behind", directory.display());
    Ok(())
}

#[tokio::test]
async fn a_stopped_api_server_refuses_connections_until_started() -> Result<()> {
    let cp = ControlPlane::start().await?;
    cp.stop(Part::ApiServer).await?;
    let namespaces: Api<Namespace> = Api::all(cp.admin().await?);
    namespaces.get("default").await.unwrap_err();
    cp.start_part(Part::ApiServer).await?;
    namespaces.get("default").await?;
    Ok(())
}

#[tokio::test]
async fn a_paused_process_can_be_stopped_and_a_dropped_one_is_gone() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let process = Process::new("tail", "sh", &log).args(["-c", "echo started; exec tail -f /dev/null"]);
    process.start()?;
    eventually("its output", LONG, || async {
        Ok(process.logs()?.contains("started").then_some(()))
    })
    .await?;
    let pid = process.pid().context("no process id")?;
    assert!(process.start().is_err(), "it runs already");
    process.pause()?;
    assert!(
        !process.stop().await?.success(),
        "ended by SIGTERM, although it was paused"
    );
    process.start()?;
    assert_ne!(process.pid(), Some(pid));
    let pid = process.pid().context("no process id")?;
    drop(process);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    Ok(())
}

#[tokio::test]
async fn a_condition_that_never_holds_says_what_was_last_seen() {
    let outcome: Result<()> = eventually("the moon", Duration::from_millis(1), || async {
        anyhow::bail!("only clouds")
    })
    .await;
    let message = outcome.unwrap_err().to_string();
    assert!(
        message.contains("the moon") && message.contains("only clouds"),
        "{message}"
    );
}

#[tokio::test]
async fn a_cluster_that_runs_already_signs_its_users_and_keeps_its_parts_to_itself() -> Result<()> {
    let cp = ControlPlane::use_existing(&shared().await?.admin_kubeconfig()).await?;
    let who = who_is(cp.user("eve", &["team:one", "team:two"]).await?).await?;
    assert_eq!(who.username.as_deref(), Some("eve"));
    assert_eq!(
        who.groups.unwrap_or_default(),
        ["team:one", "team:two", "system:authenticated"]
    );
    assert_eq!(cp.ca_pem(), shared().await?.ca_pem());
    let refused = cp.pause(Part::ApiServer).unwrap_err();
    assert!(refused.to_string().contains("WAYLEAVE_E2E_KUBECONFIG"), "{refused:#}");
    Ok(())
}

#[tokio::test]
async fn an_operator_that_ends_is_an_error_at_once() -> Result<()> {
    let cp = shared().await?;
    let options = OperatorOptions {
        kubeconfig: Some(cp.admin_kubeconfig()),
        args: vec!["--no-such-flag".into()],
        ..OperatorOptions::default()
    };
    let operator = Operator::start(cp, options).await?;
    let error = operator.wait_ready().await.unwrap_err();
    assert!(format!("{error:#}").contains("has ended"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn an_installation_is_done_when_its_policies_hold() -> Result<()> {
    let cp = ControlPlane::start().await?;
    install(&cp).await?;
    let yaml = include_str!("decision.yaml");
    let admin = cp.admin_kubeconfig();
    let apply = cp
        .kubectl(&admin)
        .await?
        .args(["create", "--dry-run=server", "-o", "yaml", "-f", "-"]);
    let answer = apply.stdin(yaml).run().await?;
    if can_stamp(&cp.admin().await?).await? {
        let stamped = answer.ok()?;
        assert!(stamped.contains("decidedBy: e2e-admin"), "{stamped}");
    } else {
        let refused = answer.stderr;
        assert!(
            refused.contains("decidedBy must be you: set it to e2e-admin"),
            "{refused}"
        );
    }
    Ok(())
}
