//! The plugin's arguments, with their help. No I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::api::v1alpha1::Instant;

mod partners;

pub use partners::*;

/// Partner access: see it, decide on it, fetch its credential.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-wayleave",
    bin_name = "kubectl wayleave",
    version,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 done in part; of check: 0 all permitted, 1 refused, 2 can't be judged."
)]
pub struct Args {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// The kubeconfig to use; KUBECONFIG or ~/.kube/config when left out
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace; the context's when left out
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The form of the result
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// Forms of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Columns, or a line of text.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

const EXPLAIN_HELP: &str = "What you may not read is named, and the answer said to be incomplete.

Example:
  kubectl wayleave explain acme-reader -n payments";

const CHECK_HELP: &str = "Files hold PartnerIntegrations, AccessGrants and, if need be, AccessOwners, AccessPolicies, \
Namespaces and ClusterRoles; what is not in them comes from the cluster. With --policies nothing is asked of any cluster.

Exit codes:
  0  every grant is permitted
  1  a grant is refused
  2  a grant can't be judged: bad input, something unknown, or no cluster

Examples:
  kubectl wayleave check -f acme.yaml -n payments
  kubectl wayleave check -f acme.yaml --policies policies.yaml --namespace-labels payments=partners.example/allowed=true";

const DIGEST_HELP: &str =
    "The digest covers both specs and the UIDs of the namespaces that are reached. Where the grant \
is in the cluster, the sections that differ from it are named.

Example:
  kubectl wayleave digest -f acme.yaml -n payments --sections";

const APPROVE_HELP: &str =
    "With --file, what the files hold is shown and approved: a change that is yet to be merged. \
With --digest, only what has this digest is approved.

Examples:
  kubectl wayleave approve acme-reader -n payments --reason 'read-only, one object'
  kubectl wayleave approve acme-reader -n payments --reason 'new owner' -f acme.yaml \
    --digest sha256:07267be49a245ab481aa66cfe8079155b630902cf1ec08f45adc17c40c5fd41b";

const CERTIFY_HELP: &str = "A file is a list in YAML or JSON:
  - {namespace: payments, integration: acme-billing, keep: [acme-reader], revoke: [acme-writer], reason: Q4}

A review renews approvals that are in force. What lapsed is approved again: kubectl wayleave approve GRANT

Exit codes: 0 done, 1 refused or failed and nothing was written, 2 wrong usage, 3 some decisions were written and some not.

Examples:
  kubectl wayleave certify acme-billing -n payments --reason 'quarterly review'
  kubectl wayleave certify acme-billing -n payments --reason Q4 --keep acme-reader --revoke acme-writer --yes
  kubectl wayleave certify --from-file campaign.yaml --dry-run";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the version of the plugin, and of the API server with --server
    Version(Version),
    /// List grants: partner, owners, purpose, approver, state, end
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  kubectl wayleave list --all-namespaces"
    )]
    List(List),
    /// Explain a grant: the verdict, approvals, each policy with each point, and what to change
    #[command(after_help = EXPLAIN_HELP)]
    Explain(Explain),
    /// Check grants in files before they are applied
    #[command(after_help = CHECK_HELP)]
    Check(Check),
    /// Compute the digest of grants in files, to approve a change before it is merged
    #[command(after_help = DIGEST_HELP)]
    Digest(DigestOf),
    /// Approve a grant exactly as shown, or a change of it that is yet to come
    #[command(after_help = APPROVE_HELP)]
    Approve(Approve),
    /// Deny a grant: only approvals made later count
    #[command(after_help = "Example:\n  kubectl wayleave deny acme-reader -n payments --reason 'too broad'")]
    Deny(Deny),
    /// Revoke a grant: its access ends now, and only approvals made later count
    #[command(after_help = "Example:\n  kubectl wayleave revoke acme-reader -n payments --reason 'incident 42' --yes")]
    Revoke(Revoke),
    /// Stop a partner: every integration with its id is revoked, in all namespaces, and all its grants end
    #[command(
        after_help = "A suspension patched by hand is put back by GitOps; these decisions stay. With --namespace only what is there is stopped. Starting again takes fresh approvals.\n\nExit codes: 0 all has ended, 1 nobody has this id or nothing could be stopped, 2 wrong usage, 3 something is left: an integration that you may not revoke, or a grant that has not ended in time.\n\nExample:\n  kubectl wayleave stop --partner acme --reason 'incident 42'"
    )]
    Stop(Stop),
    /// Owners: who leaves, who takes over, and how they come from a directory
    Owner(Owner),
    /// Recertify an integration: show what its grants are, and keep or revoke each
    #[command(after_help = CERTIFY_HELP)]
    Certify(Certify),
    /// Save a grant's kubeconfig in a file that only you can read; it is never printed
    #[command(after_help = "Example:\n  kubectl wayleave kubeconfig acme-reader -n payments -f acme.kubeconfig")]
    Kubeconfig(Kubeconfig),
    /// Ask for a new credential
    #[command(after_help = "Example:\n  kubectl wayleave rotate acme-reader -n payments")]
    Rotate(Rotate),
}

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
pub struct Version {
    /// Ask the API server for its version too
    #[arg(long)]
    pub server: bool,
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Grants of every namespace
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Only grants of static credentials, which never end by themselves
    #[arg(long = "static")]
    pub static_credentials: bool,
}

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// Name of the AccessGrant
    pub grant: String,
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// A file of YAML or JSON documents, - for standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// A file of AccessPolicies; may be repeated; then nothing is asked of any cluster
    #[arg(long, value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// Labels of a namespace, such as payments=team=ledger,tier=2; may be repeated
    #[arg(long, value_name = "NAMESPACE=KEY=VALUE,...", value_parser = namespace_labels)]
    pub namespace_labels: Vec<(String, BTreeMap<String, String>)>,
}

/// Arguments of `digest`.
#[derive(Debug, clap::Args)]
pub struct DigestOf {
    /// A file of YAML or JSON documents, - for standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The UID of a namespace, in place of the cluster's word; may be repeated
    #[arg(long, value_name = "NAMESPACE=UID", value_parser = namespace_uid)]
    pub namespace_uid: Vec<(String, String)>,
    /// Ask no cluster: integrations come from the files, UIDs from --namespace-uid
    #[arg(long)]
    pub offline: bool,
    /// Show the hash of each section
    #[arg(long)]
    pub sections: bool,
}

/// Arguments of `approve`.
#[derive(Debug, clap::Args)]
pub struct Approve {
    /// Name of the AccessGrant
    pub grant: String,
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT", value_parser = line)]
    pub reason: String,
    /// Until when the approval is good, such as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "RFC3339")]
    pub valid_until: Option<Instant>,
    /// Approve only what has this digest, now or once it is merged, such as kubectl wayleave digest prints
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    pub digest: Option<String>,
    /// A file that holds the grant, and its integration if that changes too, as they are to be; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A group of yours that you approve for; may be repeated; all of yours when left out
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `deny`.
#[derive(Debug, clap::Args)]
pub struct Deny {
    /// Name of the AccessGrant
    pub grant: String,
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT", value_parser = line)]
    pub reason: String,
}

/// Arguments of `revoke`.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// Name of the AccessGrant
    pub grant: String,
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT", value_parser = line)]
    pub reason: String,
    /// Don't ask; without a terminal nobody is asked anyway
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `certify`.
#[derive(Debug, clap::Args)]
pub struct Certify {
    /// Name of the PartnerIntegration
    #[arg(required_unless_present = "from_file", conflicts_with = "from_file")]
    pub integration: Option<String>,
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT", value_parser = line, required_unless_present = "from_file", conflicts_with = "from_file")]
    pub reason: Option<String>,
    /// A grant to renew; may be repeated
    #[arg(long, value_name = "GRANT", conflicts_with = "from_file")]
    pub keep: Vec<String>,
    /// A grant to revoke; may be repeated
    #[arg(long, value_name = "GRANT", conflicts_with = "from_file")]
    pub revoke: Vec<String>,
    /// Renew every grant that can be renewed, but for those to revoke
    #[arg(long, conflicts_with_all = ["keep", "from_file"])]
    pub keep_all: bool,
    /// Recertify the integrations that a file lists, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub from_file: Option<PathBuf>,
    /// Until when what is renewed is good at most, such as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "RFC3339")]
    pub valid_until: Option<Instant>,
    /// A group of yours that you review for; may be repeated; all of yours when left out
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Show the decisions as YAML and write none
    #[arg(long)]
    pub dry_run: bool,
    /// Don't ask whether to write what was chosen; needed to renew without a terminal
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `kubeconfig`.
#[derive(Debug, clap::Args)]
pub struct Kubeconfig {
    /// Name of the AccessGrant
    pub grant: String,
    /// The file to make; GRANT.kubeconfig when left out
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `rotate`.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// Name of the AccessGrant
    pub grant: String,
}

/// One line of text, as the schema of a reason has it.
pub(super) fn line(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().count() > 256 {
        return Err("must be 1 to 256 characters, and not blanks alone".to_owned());
    }
    if text.chars().any(super::output::is_hostile) {
        return Err("must be one line without control or formatting characters".to_owned());
    }
    Ok(text.to_owned())
}

/// `sha256:` and 64 hexadecimal digits.
fn digest(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    let is_digit = |digit: char| matches!(digit, '0'..='9' | 'a'..='f');
    if digits.len() == 64 && digits.chars().all(is_digit) {
        Ok(text.to_owned())
    } else {
        Err("must be sha256: followed by 64 lower-case hexadecimal digits".to_owned())
    }
}

/// `namespace=key=value,...`.
fn namespace_labels(text: &str) -> Result<(String, BTreeMap<String, String>), String> {
    let wrong = || "must be NAMESPACE=KEY=VALUE,..., such as payments=team=ledger,tier=2".to_owned();
    let (namespace, labels) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(wrong)?;
    let mut found = BTreeMap::new();
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (key, value) = label
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(wrong)?;
        found.insert(key.to_owned(), value.to_owned());
    }
    Ok((namespace.to_owned(), found))
}

/// `namespace=uid`.
fn namespace_uid(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(name, uid)| !name.is_empty() && !uid.is_empty())
        .map(|(name, uid)| (name.to_owned(), uid.to_owned()))
        .ok_or_else(|| "must be NAMESPACE=UID".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_decision_needs_a_reason_of_one_line() {
        let parse = |words: &[&str]| Args::try_parse_from([&["kubectl-wayleave"], words].concat());
        assert!(parse(&["approve", "g"]).is_err());
        assert!(parse(&["revoke", "g", "--reason", "a\nb"]).is_err());
        assert!(parse(&["deny", "g", "--reason", " "]).is_err());
        assert!(parse(&["revoke", "g", "--reason", "leaked", "-n", "payments"]).is_ok());
    }

    #[test]
    fn a_certification_is_of_one_integration_with_a_reason_or_of_a_file() {
        let parse = |words: &[&str]| Args::try_parse_from([&["kubectl-wayleave", "certify"], words].concat());
        assert!(parse(&["acme", "--reason", "Q4"]).is_ok());
        assert!(parse(&["acme", "--reason", "Q4", "--keep", "a", "--keep", "b", "--revoke", "c"]).is_ok());
        assert!(parse(&["--from-file", "q4.yaml", "--dry-run"]).is_ok());
        for wrong in [
            &[][..],
            &["acme"],
            &["acme", "--from-file", "q4.yaml"],
            &["acme", "--reason", "Q4", "--keep-all", "--keep", "a"],
            &["--from-file", "q4.yaml", "--keep-all"],
            &["--from-file", "q4.yaml", "--reason", "Q4"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn one_namespace_and_all_of_them_exclude_each_other() {
        assert!(Args::try_parse_from(["kubectl-wayleave", "list", "-A", "-n", "payments"]).is_err());
    }

    #[test]
    fn labels_uids_and_digests_are_read_and_nothing_else() {
        let (namespace, labels) = namespace_labels("payments=team=ledger,corp.example/tier=").unwrap();
        assert_eq!((namespace.as_str(), labels.len()), ("payments", 2));
        assert_eq!(labels["corp.example/tier"], "");
        assert!(namespace_labels("payments=").unwrap().1.is_empty());
        assert!(namespace_labels("payments").is_err() && namespace_labels("payments=team").is_err());
        assert!(namespace_uid("payments=").is_err());
        assert!(digest(&format!("sha256:{}", "0a".repeat(32))).is_ok());
        assert!(digest(&format!("sha256:{}", "0A".repeat(32))).is_err());
        assert!(digest("sha256:").is_err());
    }
}
