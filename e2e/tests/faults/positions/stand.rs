//! Where the operator is killed: a control plane with the chart, a proxy, and an operator that comes back at once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use wayleave_e2e::install::let_reserved_label_through;
use wayleave_e2e::tenant::{LIMIT, ROOT, create};
use wayleave_e2e::{ControlPlane, Faults, InstallOptions, Operator, OperatorOptions, eventually, install_with};

use super::bystanders;

/// A ClusterRole that grants may name: to list Services.
pub const READING: &str = "reading";
/// So long nothing is called about a grant before its end state is looked at: numbers are written once a second.
const QUIET: Duration = Duration::from_millis(2_500);

/// A control plane with the chart, and what shapes of grants need of a cluster.
async fn control_plane() -> Result<ControlPlane> {
    let cp = ControlPlane::start().await?;
    bystanders::make_elders(&cp).await?;
    let chart = InstallOptions {
        values: json!({"replicas": 0, "ceiling": {"clusterRoles": [READING], "staticCredentials": true}}),
        ..InstallOptions::default()
    };
    install_with(&cp, chart).await?;
    let rules = json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list"]}]);
    create(&cp.admin().await?, "ClusterRole", "", READING, json!({"rules": rules})).await?;
    let_reserved_label_through(&cp, ROOT).await?;
    Ok(cp)
}

/// A control plane with the chart where each test runs an operator of its own, through a proxy that breaks calls. The
/// operator has no rivals: another process takes over at once.
pub struct Stand {
    pub cp: &'static ControlPlane,
    pub faults: Faults,
    pub operator: Arc<Operator>,
    _turn: MutexGuard<'static, ()>,
}

impl Stand {
    /// On the control plane that tests share, one after the other.
    pub async fn start() -> Result<Self> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        Self::on(&SHARED).await
    }

    /// On one where everything may end, of all tenants.
    pub async fn alone() -> Result<Self> {
        static ALONE: OnceCell<ControlPlane> = OnceCell::const_new();
        Self::on(&ALONE).await
    }

    async fn on(place: &'static OnceCell<ControlPlane>) -> Result<Self> {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let cp = place.get_or_try_init(control_plane).await?;
        let faults = Faults::of_operator(cp).await?;
        let options = OperatorOptions {
            kubeconfig: Some(faults.kubeconfig().to_owned()),
            args: vec!["--leader-election=false".into()],
            ..OperatorOptions::default()
        };
        let operator = Arc::new(Operator::start(cp, options).await?);
        operator.wait_ready().await?;
        let killed = Arc::clone(&operator);
        faults.kill_with(move || {
            let again = killed.kill().and_then(|()| killed.start_again());
            if let Err(error) = again {
                wayleave_e2e::progress(&format!("the operator did not come back: {error:#}"));
            }
        });
        Ok(Self {
            cp,
            faults,
            operator,
            _turn: turn,
        })
    }

    /// Waits until the operator has nothing more to say about the grants of a namespace.
    pub async fn quiet(&self, tenant: &str, since: usize) -> Result<()> {
        eventually(&format!("{tenant} to come to rest"), LIMIT, || async {
            let calls = self.faults.calls_of(tenant, since);
            let calls = calls.iter().filter(|(_, call)| !call.is_watch());
            let last = calls.map(|(at, _)| at.elapsed()).min();
            ensure!(last.is_none_or(|last| last >= QUIET), "the last call was {last:?} ago");
            Ok(Some(()))
        })
        .await
    }
}
