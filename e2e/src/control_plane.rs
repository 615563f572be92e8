//! One control plane: etcd, kube-apiserver and kube-controller-manager on free ports of the loopback address.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;

use crate::audit::{self, AuditLog};
use crate::eventually::eventually;
use crate::existing::Existing;
use crate::kubeconfig::{self, Cluster, User};
use crate::pki::{self, Authority};
use crate::process::Process;
use crate::workdir::Workdir;
use crate::{progress, tools};

/// How long a part may take until it is ready; on an idle machine the API server takes three seconds.
pub const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The folder of etcd's data.
const STORE: &str = "etcd";
const ADMIN: &str = "e2e-admin";
const MASTERS: &str = "system:masters";
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
    serviceaccount-token-controller,root-ca-certificate-publisher-controller,\
    certificatesigningrequest-signing-controller,certificatesigningrequest-approving-controller,\
    clusterrole-aggregation-controller,validatingadmissionpolicy-status-controller";
/// Those that make pods: nothing here runs them, so only tests of admission have use for these.
const WORKLOAD_CONTROLLERS: &str = "deployment-controller,replicaset-controller,replicationcontroller-controller,\
    statefulset-controller,daemonset-controller,job-controller,cronjob-controller";

/// A part of the control plane that can be paused, stopped and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The store.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager: garbage collection, namespaces, tokens, certificates.
    ControllerManager,
}

/// A running control plane. Dropping it ends its processes; so does the end of this process, however it ends.
#[derive(Debug)]
pub struct ControlPlane {
    pub(crate) backend: Backend,
    pub(crate) cluster: Cluster,
    pub(crate) admin: User,
    pub(crate) workdir: Workdir,
    pub(crate) files: AtomicUsize,
    server_url: String,
    ca_pem: String,
}

#[derive(Debug)]
pub(crate) enum Backend {
    Own(Box<Own>),
    Existing,
}

#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) authority: Mutex<Authority>,
    pub(crate) audit: PathBuf,
    // Dropped in this order: nobody complains about a lost server.
    controller_manager: Process,
    api_server: Process,
    etcd: Process,
    etcd_port: u16,
}

impl ControlPlane {
    /// Starts a control plane and waits until it serves; with `WAYLEAVE_E2E_KUBECONFIG` set, uses that cluster.
    pub async fn start() -> Result<Self> {
        if let Ok(path) = std::env::var(crate::existing::KUBECONFIG_VARIABLE) {
            return Self::use_existing(Path::new(&path)).await;
        }
        let workdir = Workdir::create()?;
        let bin = tools::programs().await?;
        let started = Instant::now();
        let (own, server_url, ca_pem) = Own::prepare(&workdir, &bin)?;
        let cluster = Cluster::new(&server_url, &ca_pem);
        let admin = User::certificate(&own.lock_authority().client(ADMIN, &[MASTERS])?);
        kubeconfig::write(&workdir.join("admin.kubeconfig"), &cluster, &admin)?;
        let backend = Backend::Own(Box::new(own));
        let this = Self {
            backend,
            cluster,
            admin,
            workdir,
            files: AtomicUsize::new(0),
            server_url,
            ca_pem,
        };
        for part in [Part::Etcd, Part::ApiServer, Part::ControllerManager] {
            this.start_part(part).await?;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(this.admin().await?, "default");
        eventually("the default ServiceAccount", READY_TIMEOUT, || async {
            this.own()?.fail_if_ended(Part::ControllerManager)?;
            Ok(accounts.get_opt("default").await?)
        })
        .await?;
        progress(&format!(
            "control plane at {} after {} ms, logs in {}",
            this.server_url,
            started.elapsed().as_millis(),
            this.dir().display()
        ));
        Ok(this)
    }

    /// Uses the cluster of a kubeconfig file, which is left running.
    pub async fn use_existing(path: &Path) -> Result<Self> {
        let workdir = Workdir::create()?;
        let Existing {
            cluster,
            admin,
            server: server_url,
            ca_pem,
        } = Existing::open(path)?;
        kubeconfig::write(&workdir.join("admin.kubeconfig"), &cluster, &admin)?;
        let this = Self {
            backend: Backend::Existing,
            cluster,
            admin,
            workdir,
            files: AtomicUsize::new(0),
            server_url,
            ca_pem,
        };
        this.check_api_server()
            .await
            .with_context(|| format!("the cluster of {} does not answer", path.display()))?;
        progress(&format!("using the cluster at {}", this.server_url));
        Ok(this)
    }

    /// Ends the processes and removes the working directory at once, where a drop leaves the logs to the next start.
    pub fn remove(self) {
        let Self { backend, workdir, .. } = self;
        drop(backend);
        workdir.remove();
    }

    /// The URL of the API server.
    pub fn server_url(&self) -> &str {
        &self.server_url
    }

    /// The certificate authority of the API server, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The working directory, for files of a test.
    pub fn dir(&self) -> &Path {
        self.workdir.path()
    }

    /// Whether this is a cluster that we did not start: its parts cannot be touched and it has no audit log for us.
    pub fn is_existing(&self) -> bool {
        matches!(self.backend, Backend::Existing)
    }

    /// Starts the controllers that make pods from templates, which no other test needs. They run until this is dropped.
    pub async fn workload_controllers(&self) -> Result<Process> {
        let name = "kube-controller-manager";
        let log = self.dir().join(format!("{name}-workloads.log"));
        let process = Process::new(name, tools::programs().await?.join(name), log).args([
            format!("--kubeconfig={}", self.admin_kubeconfig().display()),
            "--use-service-account-credentials".to_owned(),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            format!("--controllers={WORKLOAD_CONTROLLERS}"),
        ]);
        process.start()?;
        Ok(process)
    }

    /// What the API server records of every call.
    pub fn audit(&self) -> Result<AuditLog> {
        Ok(AuditLog::new(&self.own()?.audit))
    }

    /// SIGSTOP: the part keeps its connections and answers nothing.
    pub fn pause(&self, part: Part) -> Result<()> {
        self.own()?.process(part).pause()
    }

    /// SIGCONT, then waits until the part is ready.
    pub async fn resume(&self, part: Part) -> Result<()> {
        self.own()?.process(part).resume()?;
        self.ready(part).await
    }

    /// SIGTERM, then waits for the end.
    pub async fn stop(&self, part: Part) -> Result<()> {
        self.own()?.process(part).stop().await.map(drop)
    }

    /// SIGKILL.
    pub fn kill(&self, part: Part) -> Result<()> {
        self.own()?.process(part).kill()
    }

    /// Starts a stopped part on its data and ports of before, and waits until it is ready.
    pub async fn start_part(&self, part: Part) -> Result<()> {
        self.own()?.process(part).start()?;
        self.ready(part).await
    }

    /// Stops the part, starts it and waits until it is ready. The controller manager shows no readiness: await what it
    /// does.
    pub async fn restart(&self, part: Part) -> Result<()> {
        self.stop(part).await?;
        self.start_part(part).await
    }

    /// Stops the control plane, copies its store, and starts it again; gives the copy, for [`ControlPlane::restore`].
    pub async fn snapshot(&self) -> Result<PathBuf> {
        let copy = self.dir().join(format!("etcd-copy-{}", self.next_number()));
        self.while_stopped(|store| copy_folder(store, &copy)).await?;
        Ok(copy)
    }

    /// Stops the control plane, puts a copy of its store in place of what it has now, and starts it again.
    pub async fn restore(&self, copy: &Path) -> Result<()> {
        let put_back = |store: &Path| {
            std::fs::remove_dir_all(store)?;
            copy_folder(copy, store)
        };
        self.while_stopped(put_back).await
    }

    async fn while_stopped(&self, change: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
        for part in [Part::ControllerManager, Part::ApiServer, Part::Etcd] {
            self.stop(part).await?;
        }
        change(&self.dir().join(STORE)).context("copying the store")?;
        for part in [Part::Etcd, Part::ApiServer, Part::ControllerManager] {
            self.start_part(part).await?;
        }
        Ok(())
    }

    /// Waits until a running part is ready.
    pub async fn ready(&self, part: Part) -> Result<()> {
        let own = self.own()?;
        // A part that ended will not become ready: the inner result ends the waiting.
        let outcome = eventually(&format!("{part:?} to be ready"), READY_TIMEOUT, || async {
            if let Err(ended) = own.fail_if_ended(part) {
                return Ok(Some(Err(ended)));
            }
            match part {
                Part::Etcd => tools::http_get(own.etcd_port, "/health")
                    .await
                    .and_then(tools::HttpAnswer::ok)?,
                Part::ApiServer => self.check_api_server().await?,
                Part::ControllerManager => String::new(),
            };
            Ok(Some(Ok(())))
        })
        .await;
        outcome.with_context(|| own.process(part).log_tail(20))?
    }

    async fn check_api_server(&self) -> Result<String> {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        Ok(self.admin().await?.request_text(request).await?)
    }

    pub(crate) fn own(&self) -> Result<&Own> {
        match &self.backend {
            Backend::Own(own) => Ok(own),
            Backend::Existing => bail!(
                "this needs a control plane of our own: unset {}",
                crate::existing::KUBECONFIG_VARIABLE
            ),
        }
    }

    /// A number for a file name that no other file has.
    pub(crate) fn next_number(&self) -> usize {
        self.files.fetch_add(1, Ordering::Relaxed)
    }
}

impl Own {
    fn prepare(workdir: &Workdir, bin: &Path) -> Result<(Self, String, String)> {
        let authority = Authority::generate()?;
        let ca = authority.pair();
        let serving = authority.serving(&["localhost", "127.0.0.1", "kubernetes.default.svc"])?;
        let tokens = pki::signing_key()?;
        let files = [
            ("ca.crt", &ca.public),
            ("ca.key", &ca.key),
            ("apiserver.crt", &serving.public),
            ("apiserver.key", &serving.key),
            ("tokens.pub", &tokens.public),
            ("tokens.key", &tokens.key),
        ];
        for (name, content) in files {
            std::fs::write(workdir.join(name), content)?;
        }
        std::fs::write(workdir.join("audit-policy.json"), audit::policy()?)?;

        let [etcd_port, peer_port, api_port] = [free_port()?, free_port()?, free_port()?];
        let server_url = format!("https://127.0.0.1:{api_port}");
        let at = |name: &str| workdir.join(name).display().to_string();
        let process = |name: &str| Process::new(name, bin.join(name), workdir.join(format!("{name}.log")));

        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let etcd = process("etcd").args([
            format!("--data-dir={}", at(STORE)),
            format!("--listen-client-urls={etcd_url}"),
            format!("--advertise-client-urls={etcd_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            "--unsafe-no-fsync".to_owned(),
        ]);
        let api_server = process("kube-apiserver").args([
            format!("--etcd-servers={etcd_url}"),
            format!("--secure-port={api_port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--cert-dir={}", at("cert-dir")),
            format!("--client-ca-file={}", at("ca.crt")),
            format!("--tls-cert-file={}", at("apiserver.crt")),
            format!("--tls-private-key-file={}", at("apiserver.key")),
            format!("--service-account-key-file={}", at("tokens.pub")),
            format!("--service-account-signing-key-file={}", at("tokens.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            // Else open watches hold up a stop for a minute.
            "--shutdown-watch-termination-grace-period=1s".to_owned(),
            format!("--audit-policy-file={}", at("audit-policy.json")),
            format!("--audit-log-path={}", at(audit::FILE)),
            "--audit-log-mode=blocking".to_owned(),
            // Never rotated: marks are positions in one file.
            "--audit-log-maxsize=100000".to_owned(),
        ]);
        let controller_manager = process("kube-controller-manager").args([
            format!("--kubeconfig={}", at("admin.kubeconfig")),
            format!("--service-account-private-key-file={}", at("tokens.key")),
            format!("--root-ca-file={}", at("ca.crt")),
            format!("--cluster-signing-cert-file={}", at("ca.crt")),
            format!("--cluster-signing-key-file={}", at("ca.key")),
            "--use-service-account-credentials".to_owned(),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            format!("--controllers={CONTROLLERS}"),
        ]);
        let audit = workdir.join(audit::FILE);
        let authority = Mutex::new(authority);
        let own = Self {
            authority,
            audit,
            controller_manager,
            api_server,
            etcd,
            etcd_port,
        };
        Ok((own, server_url, ca.public))
    }

    pub(crate) fn lock_authority(&self) -> std::sync::MutexGuard<'_, Authority> {
        self.authority.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn process(&self, part: Part) -> &Process {
        match part {
            Part::Etcd => &self.etcd,
            Part::ApiServer => &self.api_server,
            Part::ControllerManager => &self.controller_manager,
        }
    }

    fn fail_if_ended(&self, part: Part) -> Result<()> {
        let process = self.process(part);
        match process.exit_status() {
            Some(status) => Err(anyhow!(
                "{} has ended: {status}; {}",
                process.name(),
                process.log_tail(20)
            )),
            None => Ok(()),
        }
    }
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    // etcd starts on nothing that others can read.
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let into = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &into)?;
        } else {
            std::fs::copy(entry.path(), into)?;
        }
    }
    Ok(())
}

/// A port of the loopback address that nobody listens on, outside the range that outgoing connections take theirs from:
/// a part that was stopped must find its port free again.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Processes that run at the same time begin at different places.
    let start = usize::try_from(std::process::id())? * 101;
    for _ in 0..COUNT {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % usize::from(COUNT);
        let port = FIRST + u16::try_from(offset)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} on")
}
