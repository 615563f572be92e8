//! The plugin's arguments, with their help. No I/O.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use super::handover::Role;

use crate::api::v1alpha1::{Instant, Period};

/// Partner access: see it, decide on it, fetch its credential.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-wayleave",
    bin_name = "kubectl wayleave",
    version,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 done in part."
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
    /// Approve a grant exactly as shown
    #[command(
        after_help = "Example:\n  kubectl wayleave approve acme-reader -n payments --reason 'read-only, one object'"
    )]
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

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
pub struct Stop {
    /// The partner's id, as in spec.partner.id
    #[arg(long, value_name = "ID", value_parser = line)]
    pub partner: String,
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT", value_parser = line)]
    pub reason: String,
    /// In every namespace; so it is when no namespace is given
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Show what would be stopped, and stop nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for the grants to end
    #[arg(long, value_name = "TIME", default_value = "30s", conflicts_with = "no_wait")]
    pub wait: Period,
    /// Don't wait for the grants to end
    #[arg(long)]
    pub no_wait: bool,
    /// Don't ask; without a terminal nobody is asked anyway
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `owner`.
#[derive(Debug, clap::Args)]
pub struct Owner {
    /// What to do.
    #[command(subcommand)]
    pub command: OwnerCommand,
}

/// The commands about owners.
#[derive(Debug, Subcommand)]
pub enum OwnerCommand {
    /// List integrations whose owner leaves soon or is gone
    #[command(after_help = "Example:\n  kubectl wayleave owner leaving --all-namespaces --within 60d")]
    Leaving(Leaving),
    /// Name another owner in every integration of one: as YAML for Git, or at once with --apply
    #[command(
        after_help = "Every approval of the grants concerned becomes void with the change; the digests that they will have are shown, so that they can be approved before.\n\nExit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 some were handed over and some not.\n\nExamples:\n  kubectl wayleave owner handover alice dora --all-namespaces > handover.yaml\n  kubectl wayleave owner handover alice dora -n payments --role business --apply"
    )]
    Handover(Handover),
    /// Fill AccessOwners from a directory's export: CSV, or a SCIM 2.0 ListResponse
    #[command(
        after_help = "CSV has a header: name, displayName, email, usernames (separated by ';'), active, until; displayName and email are needed, and name or usernames. Without a name the object is called by the first username up to its '@'.\n\nNobody is deleted: who is inactive gets active: false, for good; who returns is another object (alice-2). Nothing is written if any row is bad.\n\nExit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 some objects were written and some not.\n\nExample:\n  kubectl wayleave owner sync -f people.csv --source hr --dry-run"
    )]
    Sync(Sync),
}

/// Arguments of `owner leaving`.
#[derive(Debug, clap::Args)]
pub struct Leaving {
    /// Integrations of every namespace
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// So far ahead
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub within: Period,
}

/// Arguments of `owner handover`.
#[derive(Debug, clap::Args)]
pub struct Handover {
    /// Name of the AccessOwner who leaves
    pub from: String,
    /// Name of the AccessOwner who takes over
    #[arg(value_parser = line)]
    pub to: String,
    /// Integrations of every namespace
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Only where FROM is the owner of this kind
    #[arg(long, value_enum)]
    pub role: Option<Role>,
    /// Change the objects, as you, instead of printing them
    #[arg(long)]
    pub apply: bool,
    /// Don't ask
    #[arg(short, long, requires = "apply")]
    pub yes: bool,
}

/// Arguments of `owner sync`.
#[derive(Debug, clap::Args)]
pub struct Sync {
    /// The export
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// What it is; by the file's name (.csv, .json) when left out
    #[arg(long, value_enum)]
    pub format: Option<ExportFormat>,
    /// The directory's name: objects of other sources, and those made by hand, are left alone
    #[arg(long, value_name = "NAME", default_value = "directory", value_parser = label)]
    pub source: String,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Set active: false for those of this source who are not in the export
    #[arg(long)]
    pub deactivate_missing: bool,
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Forms of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// CSV with a header.
    Csv,
    /// A SCIM 2.0 ListResponse.
    Scim,
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

/// A label's value that is a DNS label too.
fn label(text: &str) -> Result<String, String> {
    if super::directory::is_label(text) {
        Ok(text.to_owned())
    } else {
        Err("must be a DNS label: a-z, 0-9 and '-', at most 63 characters".to_owned())
    }
}

/// One line of text, as the schema of a reason has it.
fn line(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().count() > 256 {
        return Err("must be 1 to 256 characters, and not blanks alone".to_owned());
    }
    if text.chars().any(super::output::is_hostile) {
        return Err("must be one line without control or formatting characters".to_owned());
    }
    Ok(text.to_owned())
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
    fn one_namespace_and_all_of_them_exclude_each_other() {
        assert!(Args::try_parse_from(["kubectl-wayleave", "list", "-A", "-n", "payments"]).is_err());
    }
}
