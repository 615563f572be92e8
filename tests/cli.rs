//! The kubectl plugin as a process: help, version, exit codes.

use assert_cmd::Command;

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
    for command in [
        "version",
        "list",
        "approve",
        "deny",
        "revoke",
        "stop",
        "owner",
        "kubeconfig",
        "rotate",
    ] {
        assert!(help.contains(command), "{command} in {help}");
    }
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
