//! The kubectl plugin as a process: help, version, exit codes.

use assert_cmd::Command;
use clap::CommandFactory as _;
use wayleave::cli::args::Args;

fn plugin() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kubectl-wayleave"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_command() {
    let done = plugin().arg("--help").assert().code(0);
    let help = text(&done.get_output().stdout);
    let named = [
        "version",
        "list",
        "explain",
        "check",
        "digest",
        "approve",
        "deny",
        "revoke",
        "stop",
        "owner",
        "certify",
        "kubeconfig",
        "rotate",
    ];
    for command in named {
        assert!(help.contains(&format!("\n  {command}")), "{command} in {help}");
    }
    let known: Vec<String> = Args::command()
        .get_subcommands()
        .map(|it| it.get_name().to_owned())
        .collect();
    assert_eq!(known, named);
}

#[test]
fn the_version_needs_no_cluster() {
    let done = plugin().args(["version", "-o", "json"]).assert().code(0);
    let version: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!(version["client"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn wrong_usage_exits_with_2() {
    for words in [&["approve", "reader"][..], &["frobnicate"], &[], &["list", "-o", "xml"]] {
        plugin().args(words).assert().code(2);
    }
}

#[test]
fn a_missing_kubeconfig_is_named_and_exits_with_1() {
    let done = plugin()
        .args(["list", "--kubeconfig", "/nonexistent/acme"])
        .assert()
        .code(1);
    let said = text(&done.get_output().stderr);
    assert!(
        said.starts_with("error: ") && said.contains("/nonexistent/acme"),
        "{said}"
    );
}

const INTEGRATION: &str = "apiVersion: wayleave.dev/v1alpha1
kind: PartnerIntegration
metadata: {name: acme, namespace: payments}
spec:
  partner: {id: acme, name: Acme, contact: security@acme.example}
  purpose: Reconcile
  owners: {businessRef: {name: alice}, technicalRef: {name: bob}}
  agreement: {reference: CTR-1}
  dataClassification: Internal
  environment: Production
  review: {interval: 90d}
";

const GRANT: &str = "apiVersion: wayleave.dev/v1alpha1
kind: AccessGrant
metadata: {name: reader, namespace: payments}
spec:
  integrationRef: {name: acme}
  access: [{rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]}]
  credential: {type: Token, token: {lifetime: 1h}}
  startsAt: 2800-01-01T00:00:00Z
  expiresAt: 2800-02-01T00:00:00Z
";

const POLICY: &str = "apiVersion: wayleave.dev/v1alpha1
kind: AccessPolicy
metadata: {name: readers}
spec:
  namespaceSelector: {matchLabels: {partners: 'yes'}}
  dataClassifications: [Internal]
  environments: [Production]
  limits: {duration: 90d}
  access: {rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]}
  credentials: [Token]
  requires: {approvals: [{count: 2, groups: [security]}]}
";

/// A folder of files, and the plugin that runs in it without any cluster.
struct Folder(tempfile::TempDir);

impl Folder {
    fn of(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        Self(folder)
    }

    /// Runs it; gives its code, result and complaints.
    fn run(&self, words: &[&str], input: &str) -> (i32, String, String) {
        let mut plugin = plugin();
        for variable in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"] {
            plugin.env_remove(variable);
        }
        let plugin = plugin.env("HOME", self.0.path()).current_dir(self.0.path());
        let done = plugin.args(words).write_stdin(input).assert();
        let output = done.get_output();
        (
            output.status.code().expect("a code"),
            text(&output.stdout),
            text(&output.stderr),
        )
    }
}

const OFFLINE: [&str; 7] = [
    "check",
    "-f",
    "acme.yaml",
    "--policies",
    "policies.yaml",
    "--namespace-labels",
    "payments=partners=yes",
];

#[test]
fn a_check_without_any_cluster_permits_refuses_or_says_that_it_cannot_judge() {
    let acme = format!("{INTEGRATION}---\n{GRANT}");
    let folder = Folder::of(&[("acme.yaml", &acme), ("policies.yaml", POLICY)]);
    let (code, out, _) = folder.run(&OFFLINE, "");
    assert_eq!(code, 0, "{out}");
    assert!(
        out.starts_with("payments/reader: permitted by readers, asks for 2 approvals of security\n"),
        "{out}"
    );
    let (code, out, _) = folder.run(&[&OFFLINE[..], &["-o", "json"]].concat(), "");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["grants"][0]["answer"]), (0, &"permitted".into()));

    // The labels are not known.
    let (code, out, _) = folder.run(&OFFLINE[..5], "");
    assert_eq!(code, 2, "{out}");
    assert!(
        out.contains("payments/reader: can't be judged") && out.contains("--namespace-labels payments="),
        "{out}"
    );

    // Too long, by a stream on standard input.
    let long = acme.replace("2800-02-01", "2800-08-01");
    let words = [&["check", "-f", "-"], &OFFLINE[3..]].concat();
    let (code, out, _) = folder.run(&words, &long);
    assert_eq!(code, 1, "{out}");
    assert_eq!(
        out,
        "payments/reader: refused; nearest is policy readers
  no  limits.duration            spec.expiresAt: 213d after the start, at most 90d (policy readers)
                                 -> set spec.expiresAt to 2800-03-31T00:00:00Z or earlier
      Scheduled                  spec.startsAt 2800-01-01T00:00:00Z is yet to come
  incomplete: no AccessOwner is in the files: whether the owners are there is not known
"
    );

    // A ClusterRole that is in no file.
    let role = acme.replace(
        "rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]",
        "clusterRoleRef: {name: view}",
    );
    let (code, out, _) = folder.run(&words, &role);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("ClusterRole view is not in the files, so it is unknown: it counts as if it did not exist"),
        "{out}"
    );

    // The integration is in no file.
    let (code, out, _) = folder.run(&words, GRANT);
    assert_eq!(code, 2, "{out}");
    assert!(
        out.contains("PartnerIntegration payments/acme is not in the files"),
        "{out}"
    );
}

#[test]
fn a_check_of_what_is_broken_names_document_line_and_field() {
    let broken = GRANT.replace("expiresAt: 2800-02-01T00:00:00Z", "expires: soon");
    let folder = Folder::of(&[
        ("acme.yaml", &format!("{INTEGRATION}---\n{broken}")),
        ("policies.yaml", POLICY),
    ]);
    let (code, out, err) = folder.run(&OFFLINE, "");
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    let fault = "error: acme.yaml: document 2, line 12: AccessGrant reader: spec.expiresAt: missing, it is required";
    assert!(err.contains(fault), "{err}");
    let (code, _, err) = folder.run(&["check", "-f", "nowhere.yaml", "--policies", "policies.yaml"], "");
    assert_eq!(code, 2);
    assert!(err.starts_with("error: opening nowhere.yaml: "), "{err}");
    // Neither --policies nor a cluster.
    let (code, _, err) = folder.run(&["check", "-f", "acme.yaml"], "");
    assert_eq!(code, 2, "{err}");
}

#[test]
fn a_digest_without_any_cluster_needs_the_uids_and_is_the_same_each_time() {
    let folder = Folder::of(&[("acme.yaml", &format!("{INTEGRATION}---\n{GRANT}"))]);
    let words = ["digest", "-f", "acme.yaml", "--offline"];
    let (code, _, err) = folder.run(&words, "");
    assert_eq!(code, 1);
    assert!(err.contains("give --namespace-uid payments=UID"), "{err}");
    let uid = [
        "--namespace-uid",
        "payments=11111111-1111-1111-1111-111111111111",
        "--sections",
    ];
    let (code, out, _) = folder.run(&[&words[..], &uid].concat(), "");
    assert_eq!(code, 0);
    assert!(
        out.starts_with("payments/reader sha256:") && out.contains("\n  expiresAt "),
        "{out}"
    );
    assert_eq!(folder.run(&[&words[..], &uid].concat(), "").1, out);
}
