//! Somebody with the kubectl plugin, in a folder of their own.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::control_plane::ControlPlane;
use crate::operator;
use crate::tools::Output;

const PLUGIN: &str = "kubectl-wayleave";
/// How every JSON Web Token begins.
const TOKEN: &str = "eyJ";

/// See the module.
pub struct Plugin<'a> {
    cp: &'a ControlPlane,
    kubeconfig: PathBuf,
    program: PathBuf,
    folder: TempDir,
}

impl<'a> Plugin<'a> {
    /// The plugin as a user of some groups runs it.
    pub async fn of(cp: &'a ControlPlane, user: &str, groups: &[&str]) -> Result<Self> {
        Self::with(cp, cp.user_kubeconfig(user, groups).await?).await
    }

    /// The plugin as whoever a kubeconfig speaks as runs it.
    pub async fn with(cp: &'a ControlPlane, kubeconfig: PathBuf) -> Result<Self> {
        Ok(Self {
            cp,
            kubeconfig,
            program: operator::program(PLUGIN).await?,
            folder: tempfile::tempdir()?,
        })
    }

    /// The kubeconfig that commands go by.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The plugin's program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The folder that commands run in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.folder().join(name), text).with_context(|| format!("writing {name}"))
    }

    /// Runs a command, whose output never holds a token.
    pub async fn run(&self, words: &[&str]) -> Result<Output> {
        let tool = self.cp.tool(&self.program, &self.kubeconfig);
        let output = tool.args(words).dir(self.folder.path()).run().await?;
        ensure!(
            !output.stdout.contains(TOKEN) && !output.stderr.contains(TOKEN),
            "{} shows a token",
            output.command
        );
        Ok(output)
    }

    /// Runs a command that succeeds.
    pub async fn works(&self, words: &[&str]) -> Result<Output> {
        let output = self.run(words).await?;
        output.clone().ok()?;
        Ok(output)
    }

    /// Runs a command that exits with a code.
    pub async fn exits(&self, words: &[&str], code: i32) -> Result<Output> {
        let output = self.run(words).await?;
        ensure!(
            output.status.code() == Some(code),
            "{}: {:?}\n{}\n{}",
            output.command,
            output.status,
            output.stdout,
            output.stderr
        );
        Ok(output)
    }

    /// Applies YAML with kubectl as this user.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        let kubectl = self.cp.kubectl(&self.kubeconfig).await?;
        kubectl.args(["apply", "-f", "-"]).stdin(yaml).run().await?.ok()
    }
}

/// Demands that a text holds all of these.
pub fn has(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part} is not in: {text}");
    }
    Ok(())
}
