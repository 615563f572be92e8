//! Who plays in the demo, and the commands they type: each runs in one folder, with the real programs on PATH.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::stage::Stage;
use crate::control_plane::ControlPlane;
use crate::operator::{program, workspace};
use crate::tools::{Output, programs};

const PLUGIN: &str = "kubectl-wayleave";

/// Somebody with a kubeconfig.
#[derive(Debug, Clone)]
pub struct Person {
    /// What the story calls them.
    pub name: &'static str,
    /// Their kubeconfig file.
    pub kubeconfig: PathBuf,
}

/// Everybody, and where they work.
pub struct Cast<'a> {
    /// The cluster.
    pub cp: &'a ControlPlane,
    /// The folder of manifests and kubeconfig files.
    pub dir: PathBuf,
    /// The folder of kubectl, helm and the plugin.
    pub bin: PathBuf,
    /// Cluster administrators: install, open namespaces, keep owners.
    pub platform: Person,
    /// Asks for access; a member of the group that approves, too.
    pub carol: Person,
    /// Approves, as a member of the group `security`.
    pub dave: Person,
    /// Has no right.
    pub eve: Person,
}

/// What a command gave, and how long it took.
#[derive(Debug)]
pub struct Done {
    /// Its end and output.
    pub output: Output,
    /// From its start to its end.
    pub took: Duration,
}

impl Done {
    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        self.output.status.success()
    }

    /// Everything it wrote: explanations first, then the result.
    pub fn text(&self) -> String {
        format!("{}{}", self.output.stderr, self.output.stdout)
    }

    /// Its exit code in words.
    pub fn exit(&self) -> String {
        match self.output.status.code() {
            Some(code) => format!("exit code {code}"),
            None => self.output.status.to_string(),
        }
    }
}

impl<'a> Cast<'a> {
    /// Gives everybody a kubeconfig and the programs.
    pub async fn gather(cp: &'a ControlPlane) -> Result<Self> {
        let (dir, bin) = (cp.dir().join("demo"), cp.dir().join("bin"));
        std::fs::create_dir_all(&dir)?;
        std::fs::create_dir_all(&bin)?;
        let built = programs().await?;
        for name in ["kubectl", "helm"] {
            symlink(built.join(name), bin.join(name)).with_context(|| format!("cannot link {name}"))?;
        }
        symlink(program(PLUGIN).await?, bin.join(PLUGIN)).context("cannot link the plugin")?;
        let person = |name: &'static str, kubeconfig: PathBuf| {
            let own = dir.join(format!("{name}.kubeconfig"));
            std::fs::copy(&kubeconfig, &own).with_context(|| format!("cannot write {}", own.display()))?;
            anyhow::Ok(Person { name, kubeconfig: own })
        };
        Ok(Self {
            platform: person("platform", cp.admin_kubeconfig())?,
            carol: person("carol", cp.user_kubeconfig("carol@corp.example", &["security"]).await?)?,
            dave: person("dave", cp.user_kubeconfig("dave@corp.example", &["security"]).await?)?,
            eve: person("eve", cp.user_kubeconfig("eve@corp.example", &[]).await?)?,
            cp,
            dir,
            bin,
        })
    }

    /// Somebody types a command; shows it, what it wrote, and gives it.
    pub async fn types(&self, stage: &mut Stage, who: &Person, words: &[&str]) -> Result<Done> {
        stage.command(who.name, &typed(words))?;
        let done = self.run(who, &self.dir, words).await?;
        stage.output(&done.text())?;
        Ok(done)
    }

    /// The same in the folder of this repository, with nothing shown of what it wrote unless it fails.
    pub async fn types_here(&self, stage: &mut Stage, who: &Person, words: &[&str]) -> Result<Done> {
        stage.command(who.name, &typed(words))?;
        let done = self.run(who, workspace(), words).await?;
        if !done.succeeded() {
            stage.output(&done.text())?;
        }
        Ok(done)
    }

    /// Something is looked up for the story, and not shown.
    pub async fn looks(&self, words: &[&str]) -> Result<String> {
        self.run(&self.platform, &self.dir, words).await?.output.ok()
    }

    async fn run(&self, who: &Person, dir: &Path, words: &[&str]) -> Result<Done> {
        let Some((program, args)) = words.split_first() else {
            bail!("a command without a word");
        };
        // The plugin is found on PATH, as kubectl finds it.
        let mut path = OsString::from(&self.bin);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let tool = self.cp.tool(self.bin.join(program), &who.kubeconfig);
        let started = Instant::now();
        let output = tool.args(args).env("PATH", path).dir(dir).run().await?;
        Ok(Done {
            output,
            took: started.elapsed(),
        })
    }
}

/// A command line as a shell would take it.
pub fn typed(words: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@".contains(c);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            (*word).to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let words = [
            "kubectl",
            "get",
            "-o",
            "jsonpath={.status}",
            "--reason",
            "it's one object",
        ];
        assert_eq!(
            typed(&words),
            r"kubectl get -o 'jsonpath={.status}' --reason 'it'\''s one object'"
        );
    }
}
