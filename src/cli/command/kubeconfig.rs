//! `kubeconfig`: saves a grant's kubeconfig in a file that only its owner can read. Never prints it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::grant;
use crate::api::v1alpha1::ChildKind;
use crate::cli::args::Kubeconfig;
use crate::cli::{Io, Session, output};

/// Key of the delivery Secret.
const KEY: &str = "kubeconfig";
/// Only the owner reads and writes.
const MODE: u32 = 0o600;

/// Saves the kubeconfig.
///
/// # Errors
///
/// When nothing was delivered, the Secret can't be read, or the file can't be made.
pub async fn run(args: &Kubeconfig, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let path = args
        .file
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.kubeconfig", args.grant)));
    ensure!(
        path != Path::new("-"),
        "a kubeconfig is never printed: name a file with --file"
    );
    let grant = grant(session, &args.grant).await?;
    if let Some(found) = grant.static_credential() {
        bail!(
            "{}/{} is used by a static credential, which Wayleave does not deliver: the partner has the token of Secret {}",
            session.namespace,
            args.grant,
            found.secret_name
        );
    }
    let status = grant.status.unwrap_or_default();
    let Some(credential) = status
        .credential
        .filter(|credential| credential.delivered_generation > 0)
    else {
        bail!(
            "no credential of {}/{} was delivered: see its state in kubectl wayleave list",
            session.namespace,
            args.grant
        );
    };
    let (namespace, name) = (&credential.secret_namespace, &credential.secret_name);
    let secret = Api::<Secret>::namespaced(session.client.clone(), namespace)
        .get(name)
        .await
        .with_context(|| format!("reading Secret {namespace}/{name}"))?;
    let made = status
        .children
        .iter()
        .find(|child| child.kind == ChildKind::DeliverySecret && child.namespace == *namespace && child.name == *name);
    if let Some(made) = made {
        ensure!(
            secret.metadata.uid.as_ref() == Some(&made.uid),
            "Secret {namespace}/{name} is not the one that the operator made: don't use it"
        );
    }
    let content = secret
        .data
        .as_ref()
        .and_then(|data| data.get(KEY))
        .with_context(|| format!("Secret {namespace}/{name} has no key {KEY}"))?;
    save(&path, &content.0, args.force)?;
    let expires = credential.expires_at.map(|at| at.to_string());
    let mut text = format!("saved {}", path.display());
    if let Some(at) = &expires {
        text = format!("{text}, good until {at}");
    }
    let value = serde_json::json!({"file": path, "expiresAt": expires});
    output::write(io.out, session.output, &value, &output::escape(&text))
}

/// Makes the file, or with `force` puts a whole new one in its place.
fn save(path: &Path, content: &[u8], force: bool) -> anyhow::Result<()> {
    if !force {
        return create(path, content);
    }
    let name = path
        .file_name()
        .with_context(|| format!("{} names no file", path.display()))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(beside);
    create(&beside, content)?;
    fs::rename(&beside, path).or_else(|error| {
        // What is left would be a credential that nobody knows of.
        let _ = fs::remove_file(&beside);
        Err(error).with_context(|| format!("replacing {}", path.display()))
    })
}

fn create(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let file = match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!(
                "{} exists: give --force to replace it, or name another file",
                path.display()
            )
        }
        Err(error) => return Err(error).with_context(|| format!("creating {}", path.display())),
    };
    fill(file, content).or_else(|error| {
        // Half a credential is of no use.
        let _ = fs::remove_file(path);
        Err(error).with_context(|| format!("writing {}", path.display()))
    })
}

fn fill(mut file: File, content: &[u8]) -> std::io::Result<()> {
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_can_read_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.kubeconfig");
        save(&path, b"one", false).unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (MODE, b"one".to_vec()));
    }

    #[test]
    fn a_file_is_replaced_only_by_force_and_then_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.kubeconfig");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refusal = save(&path, b"new", false).unwrap_err().to_string();
        assert!(refusal.contains("--force"), "{refusal}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        save(&path, b"new", true).unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (MODE, b"new".to_vec()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("link"), folder.path().join("target"));
        symlink(&target, &path).unwrap();
        assert!(save(&path, b"one", false).is_err());
        save(&path, b"one", true).unwrap();
        assert!(!target.exists());
    }
}
