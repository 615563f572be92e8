//! Writes the CustomResourceDefinitions, one YAML file a kind, into each folder named on the command line.

use std::path::PathBuf;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    anyhow::ensure!(!folders.is_empty(), "usage: crdgen FOLDER...");
    for folder in folders {
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        for crd in wayleave::api::all_crds() {
            let path = folder.join(format!("{}.yaml", crd.spec.names.plural));
            let yaml = serde_saphyr::to_string(&crd).context("writing YAML")?;
            std::fs::write(&path, yaml).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}
