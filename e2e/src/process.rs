//! Child processes that can be paused, stopped and started again, and that never outlive the process that started them.
//!
//! Each is started through `setpriv --pdeathsig KILL`: the kernel ends it when the thread that started it is gone, even
//! after SIGKILL. As that is a matter of the thread, one thread that lives as long as we do starts them all.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::eventually::eventually;

/// How long a process may take to end after SIGTERM before it is killed.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// A command and, while it runs, its process. Standard output and error go to the log file, appended.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    log: PathBuf,
    running: Mutex<Option<Child>>,
}

impl Process {
    /// A command that is not started yet.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            log: log.into(),
            running: Mutex::new(None),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The name given to [`Process::new`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts the process; it must not be running.
    pub fn start(&self) -> Result<()> {
        let mut running = self.lock();
        if let Some(child) = running.as_mut()
            && child.try_wait()?.is_none()
        {
            bail!("{} runs already", self.name);
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot open the log {}", self.log.display()))?;
        let child = spawn(self.command(log)?).with_context(|| {
            format!(
                "cannot start {} through setpriv (part of util-linux): is it installed?",
                self.program.display()
            )
        })?;
        *running = Some(child);
        Ok(())
    }

    fn command(&self, log: File) -> Result<Command> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    /// The process id, if it was started and its end was not yet seen.
    pub fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(Child::id)
    }

    /// How it ended; `None` while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.lock().as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&self) -> bool {
        self.lock()
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// SIGSTOP: it keeps its connections and answers nothing. Returns when every thread stands still, which takes a while
    /// where the machine is busy.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let pid = self.lock().as_ref().map(Pid::from_child);
        let pid = pid.with_context(|| format!("{} does not run", self.name))?;
        // Its end is left to be waited for as ever.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let stopped = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options))
            .with_context(|| format!("waiting for {} to stand still", self.name))?;
        if !stopped.is_some_and(|status| status.stopped()) {
            bail!("{} has ended", self.name);
        }
        Ok(())
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGUSR1: what it means is the process's own affair.
    pub fn signal_user(&self) -> Result<()> {
        self.signal(Signal::USR1)
    }

    /// SIGTERM, then waits for the end. One that takes longer than [`STOP_TIMEOUT`] is killed, which is an error.
    pub async fn stop(&self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        // A paused process would see the signal only when resumed.
        self.signal(Signal::CONT)?;
        let ended = eventually(&format!("the end of {}", self.name), STOP_TIMEOUT, || async {
            Ok(self.exit_status())
        })
        .await;
        if ended.is_err() {
            self.kill()?;
        }
        let status = ended.with_context(|| self.log_tail(20))?;
        self.lock().take();
        Ok(status)
    }

    /// SIGKILL, then waits for the end. Nothing to do is no error.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut child) = self.lock().take() {
            // Fails only if it has ended.
            let _ = child.kill();
            child.wait()?;
        }
        Ok(())
    }

    /// The whole log.
    pub fn logs(&self) -> Result<String> {
        match std::fs::read(&self.log) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.log.display())),
        }
    }

    /// The last lines of the log, with a heading, for error messages.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = self.logs().unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        let tail = &all[all.len().saturating_sub(lines)..];
        format!("the end of {}:\n{}", self.log.display(), tail.join("\n"))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let mut running = self.lock();
        let Some(child) = running.as_mut() else {
            bail!("{} does not run", self.name);
        };
        // Not waited for yet, so the id is still its own.
        match child.try_wait()? {
            Some(_) if matches!(signal, Signal::TERM | Signal::CONT) => Ok(()),
            Some(status) => bail!("{} has ended: {status}", self.name),
            None => {
                kill_process(Pid::from_child(child), signal).with_context(|| format!("cannot signal {}", self.name))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.kill();
    }
}

fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // The one who asked is waiting for it.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = mpsc::channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    let orders = spawner.lock().unwrap_or_else(PoisonError::into_inner);
    orders
        .send((command, answer))
        .map_err(|_| io::Error::other("the thread that starts processes is gone"))?;
    child.recv().map_err(gone)?
}
