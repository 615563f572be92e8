//! The arguments of `stop` and `owner`, with their help. No I/O.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::line;
use crate::api::v1alpha1::Period;
use crate::cli::directory::is_label;
use crate::cli::handover::Role;

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
        after_help = "CSV has a header: name, displayName, email, usernames (separated by ';'), active, until; displayName and email are needed, and name or usernames. Without a name the object is called by the first username up to its '@'.\n\nNobody is deleted: who is inactive gets active: false, for good; who returns is another object (alice-2). Nothing is written if any row is bad.\n\nExit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 some objects were written and some not.\n\nExamples:\n  kubectl wayleave owner sync -f people.csv --source hr --dry-run\n  kubectl wayleave owner sync -f users.json --source idp --username-prefix oidc:"
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
    /// What the API server puts before the identity provider's user names, such as oidc: (--oidc-username-prefix, or claimMappings.username.prefix)
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub username_prefix: Option<String>,
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

/// What user names can begin with. Those of Kubernetes' own are no person's.
fn prefix(text: &str) -> Result<String, String> {
    let text = line(text)?;
    if text.starts_with("system:") || text.contains(char::is_whitespace) {
        return Err("must hold no blanks, and not begin with system:, as Kubernetes' own users do".to_owned());
    }
    Ok(text)
}

/// A label's value that is a DNS label too.
fn label(text: &str) -> Result<String, String> {
    if is_label(text) {
        Ok(text.to_owned())
    } else {
        Err("must be a DNS label: a-z, 0-9 and '-', at most 63 characters".to_owned())
    }
}
