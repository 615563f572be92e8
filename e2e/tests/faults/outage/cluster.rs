//! Three clusters: in one the operator is stopped, in one the API server and what stands in it is broken, and in one calls of
//! the operator are. The tests of each take turns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jiff::Timestamp;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use wayleave_e2e::operator::NAMESPACE;
use wayleave_e2e::tenant::{LIMIT, Partner, api, text};
use wayleave_e2e::{
    AuditEvents, ControlPlane, Faults, InstallOptions, Mark, Operator, OperatorOptions, Tenant, eventually, install,
    install_with,
};

/// How the API server knows the operator.
pub const OPERATOR: &str = "system:serviceaccount:wayleave-system:wayleave";
/// A replica that is killed keeps its lease for so long. It is renewed a third of it before its end, by whole seconds: two of them.
const LEASE: [&str; 2] = ["--lease-duration", "6"];

/// A control plane with the chart and a running operator.
pub struct Cluster {
    pub cp: ControlPlane,
    pub operator: Operator,
    turn: Mutex<()>,
}

/// A cluster that is nobody else's until this is dropped.
pub struct Turn {
    pub cluster: &'static Cluster,
    _turn: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Turn {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.cluster
    }
}

/// The cluster in which the operator is stopped.
pub async fn of_operator() -> Result<Turn> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    turn(CLUSTER.get_or_try_init(Cluster::start).await?).await
}

/// The cluster in which everything else is broken.
pub async fn of_server() -> Result<Turn> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    turn(CLUSTER.get_or_try_init(Cluster::start).await?).await
}

/// A control plane with the chart where tests take turns, each with operators of its own.
type Place = OnceCell<(ControlPlane, Mutex<()>)>;

/// An operator whose calls go through a proxy that breaks them. Nothing is broken yet.
pub struct Replica {
    pub faults: Faults,
    pub operator: Arc<Operator>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Whoever stops it from the proxy holds it too, and the next test has operators of its own. Nobody is left to tell.
        let _ = self.operator.kill();
    }
}

/// Such a place, and an operator in it; by that what breaks calls is at hand.
pub struct Breakable {
    pub cp: &'static ControlPlane,
    first: Replica,
    _turn: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Breakable {
    type Target = Replica;

    fn deref(&self) -> &Replica {
        &self.first
    }
}

impl Breakable {
    /// Nothing is broken yet.
    pub async fn start() -> Result<Self> {
        static PLACE: Place = OnceCell::const_new();
        Self::on(&PLACE).await
    }

    /// In another place: what is stuck takes its time.
    pub async fn of_stuck() -> Result<Self> {
        static PLACE: Place = OnceCell::const_new();
        Self::on(&PLACE).await
    }

    /// In another place: replicas take their time to change over.
    pub async fn of_replicas() -> Result<Self> {
        static PLACE: Place = OnceCell::const_new();
        Self::on(&PLACE).await
    }

    async fn on(place: &'static Place) -> Result<Self> {
        let made = || async {
            let cp = ControlPlane::start().await?;
            let options = InstallOptions {
                values: json!({"replicas": 0, "ceiling": {"staticCredentials": true}}),
                ..InstallOptions::default()
            };
            install_with(&cp, options).await?;
            anyhow::Ok((cp, Mutex::new(())))
        };
        let (cp, turn) = place.get_or_try_init(made).await?;
        let turn = turn.lock().await;
        // Nobody runs: whoever held the lease last is waited for in vain.
        let leases = api(&cp.admin().await?, "Lease", NAMESPACE);
        if leases.get_opt("wayleave").await?.is_some() {
            leases.delete("wayleave", &DeleteParams::default()).await?;
        }
        let first = Replica::start(cp).await?;
        Ok(Self { cp, first, _turn: turn })
    }

    /// Another operator, with a proxy of its own.
    pub async fn another(&self) -> Result<Replica> {
        Replica::start(self.cp).await
    }

    /// A tenant of its own.
    pub async fn tenant(&self, ns: &str) -> Result<Tenant<'_>> {
        Tenant::new(self.cp, ns).await
    }
}

impl Replica {
    async fn start(cp: &ControlPlane) -> Result<Self> {
        let faults = Faults::of_operator(cp).await?;
        let operator = OperatorOptions {
            kubeconfig: Some(faults.kubeconfig().to_owned()),
            ..options()
        };
        let operator = Arc::new(Operator::start(cp, operator).await?);
        operator.wait_ready().await?;
        Ok(Self { faults, operator })
    }

    /// Whether it leads and has looked at everything since it does.
    pub async fn leads(&self) -> Result<bool> {
        self.shows("wayleave_leader 1").await
    }

    /// Whether this is a line of its metrics.
    pub async fn shows(&self, line: &str) -> Result<bool> {
        Ok(self.operator.metrics().await?.lines().any(|it| it == line))
    }
}

async fn turn(cluster: &'static Cluster) -> Result<Turn> {
    let turn = cluster.turn.lock().await;
    // Whoever failed before may have left it stopped.
    if !cluster.operator.process().is_running() {
        cluster.operator.start_again()?;
    }
    cluster.operator.wait_ready().await?;
    Ok(Turn { cluster, _turn: turn })
}

impl Cluster {
    async fn start() -> Result<Self> {
        let cp = ControlPlane::start().await?;
        install(&cp).await?;
        let operator = Operator::start(&cp, options()).await?;
        operator.wait_ready().await?;
        let turn = Mutex::new(());
        Ok(Self { cp, operator, turn })
    }

    /// A tenant of its own.
    pub async fn tenant(&self, ns: &str) -> Result<Tenant<'_>> {
        Tenant::new(&self.cp, ns).await
    }

    /// SIGKILL, and a new process. It may close at once, and issues when the lease of the dead one is over.
    pub async fn restart_operator(&self) -> Result<()> {
        self.operator.kill()?;
        self.operator.start_again()?;
        self.operator.wait_ready().await
    }

    /// What the operator called since the mark.
    pub fn calls(&self, mark: Mark) -> Result<AuditEvents> {
        Ok(self.cp.audit()?.since(mark)?.by_user(OPERATOR))
    }
}

/// How every operator here runs.
pub fn options() -> OperatorOptions {
    OperatorOptions {
        args: LEASE.map(Into::into).to_vec(),
        ..OperatorOptions::default()
    }
}

/// Waits for an instant as the API has it.
pub async fn passed(end: &str) -> Result<()> {
    let end: Timestamp = end.parse()?;
    let left = std::time::Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
    eventually("the instant to pass", left + LIMIT, || async {
        Ok((Timestamp::now() > end).then_some(()))
    })
    .await
}

/// Waits until so long has passed since an instant.
pub async fn elapsed(since: Instant, time: Duration) -> Result<()> {
    eventually(&format!("{time:?} to pass"), time + LIMIT, || async {
        Ok((since.elapsed() >= time).then_some(()))
    })
    .await
}

/// What must be the same after an outage that concerned others: identity, credential, children.
pub fn made(grant: &Value) -> Value {
    let status = &grant["status"];
    json!({
        "identity": status["identity"],
        "credential": status["credential"],
        "children": status["children"],
        "activations": status["activations"],
    })
}

/// The UID of an object.
pub fn uid(object: &Value) -> String {
    text(&object["metadata"]["uid"])
}

/// The partner reads what was granted.
pub async fn reads(partner: &Partner) -> Result<()> {
    partner.answered().await
}

/// The first call that makes something for a partner comes after the last that takes one of these bindings away.
pub fn closed_first(calls: &AuditEvents, overdue: &[&str]) -> Result<()> {
    let ends = calls.iter().enumerate().filter(|(_, call)| {
        let object = call.object_ref.clone().unwrap_or_default();
        call.verb == "delete" && object.resource == "rolebindings" && overdue.contains(&object.namespace.as_str())
    });
    let ends: Vec<usize> = ends.map(|(at, _)| at).collect();
    ensure!(
        ends.len() >= overdue.len(),
        "{} bindings were taken away, not those of {overdue:?}",
        ends.len()
    );
    let first = calls.iter().position(|call| {
        let made = ["serviceaccounts", "rolebindings", "roles", "secrets"];
        call.verb == "create" && made.iter().any(|resource| call.is_resource(resource))
    });
    let last = ends.into_iter().max();
    ensure!(
        first > last,
        "something was made by call {first:?}, before call {last:?} closed what was overdue"
    );
    Ok(())
}
