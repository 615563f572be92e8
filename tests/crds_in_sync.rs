//! The CRDs in the repository are those of the types, and hold nothing that the API server does not know.

use std::path::Path;

#[test]
fn the_files_are_what_the_types_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["crds", "charts/wayleave/files/crds"];
    for folder in folders
        .map(|folder| root.join(folder))
        .iter()
        .filter(|folder| folder.exists())
    {
        for crd in wayleave::api::all_crds() {
            let path = folder.join(format!("{}.yaml", crd.spec.names.plural));
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            let expected = serde_saphyr::to_string(&crd).unwrap();
            assert!(
                found == expected,
                "{} differs from the types: run `make generate`",
                path.display()
            );
        }
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
        assert_eq!(
            files.filter(|name| name != "kustomization.yaml").count(),
            wayleave::api::all_crds().len()
        );
    }
}

#[test]
fn no_format_is_foreign_to_the_schema_of_crds() {
    for crd in wayleave::api::all_crds() {
        let text = serde_json::to_string(&crd).unwrap();
        for format in ["uint8", "uint16", "uint32", "uint64", "int8", "int16"] {
            assert!(
                !text.contains(&format!("\"format\":\"{format}\"")),
                "{}: {format}",
                crd.spec.names.plural
            );
        }
    }
}
