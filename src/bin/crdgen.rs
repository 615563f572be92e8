//! Writes the CustomResourceDefinitions, one YAML file a kind, into the folder named by the first argument.

use std::path::PathBuf;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).context("usage: crdgen FOLDER")?.into();
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    for crd in wayleave::api::all_crds() {
        let path = folder.join(format!("{}.yaml", crd.spec.names.plural));
        let yaml = serde_saphyr::to_string(&crd).context("writing YAML")?;
        std::fs::write(&path, yaml).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
