//! The working directory of one control plane: there for whoever looks into a failure, gone afterwards.
//!
//! A directory holds a lock file that stays locked while its owner lives. A test that fails by returning an error tells
//! nobody, and a control plane in a static is never dropped: so a drop removes only what is large, and the next start
//! removes every directory that nobody holds. A panic marks the directories of its time as kept: they stay for good.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context as _, Result};

use crate::progress;

const PREFIX: &str = "wayleave-e2e-";
const LOCK_FILE: &str = "lock";
const KEEP_FILE: &str = "keep";
/// The data of etcd: over 64 MB each, next to logs of a few.
const LARGE: &str = "etcd";

/// Set to anything but `0`: working directories are kept.
pub const KEEP_VARIABLE: &str = "WAYLEAVE_KEEP";

static LIVING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A directory of our own in the system's temporary directory.
#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    _lock: File,
}

impl Workdir {
    /// Makes a new one, and removes those left behind by processes that are gone.
    pub fn create() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        remove_abandoned();
        keep_when_something_panics();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-{number}-", std::process::id()))
            .tempdir()
            .context("cannot make a working directory")?;
        let lock = File::create(directory.path().join(LOCK_FILE))?;
        lock.lock().context("cannot lock the working directory")?;
        let path = directory.keep();
        living().push(path.clone());
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now: for programs that know that all went well.
    pub fn remove(self) {
        if !is_kept(&self.path) {
            // What cannot be removed now is removed by the next start.
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    /// A path inside.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        living().retain(|path| *path != self.path);
        if !is_kept(&self.path) {
            // Not there, if the control plane was not ours.
            let _ = fs::remove_dir_all(self.path.join(LARGE));
        }
    }
}

fn keep_all() -> bool {
    std::env::var(KEEP_VARIABLE).is_ok_and(|value| value != "0")
}

fn is_kept(path: &Path) -> bool {
    keep_all() || path.join(KEEP_FILE).exists()
}

fn living() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mark_kept(path: &Path) {
    // Kept for a reader; not being able to is no further failure.
    let _ = File::create(path.join(KEEP_FILE));
}

/// A failed test panics in a thread of its own, and the control plane may be in a static that is never dropped.
fn keep_when_something_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            for path in living().iter() {
                mark_kept(path);
                progress(&format!("logs are kept in {}", path.display()));
            }
        }));
    });
}

fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(PREFIX));
        if !ours || is_kept(&path) {
            continue;
        }
        let abandoned = File::open(path.join(LOCK_FILE)).is_ok_and(|lock| lock.try_lock().is_ok());
        if abandoned {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
