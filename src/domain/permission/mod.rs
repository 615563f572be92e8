//! RBAC rules as sets of permissions, read the way Kubernetes' own authorizer reads them. Pure.
//!
//! Two sides meet here: a *ceiling* (what a policy allows, or what was approved) and what is *wanted* of it. Where
//! something can't be judged, it counts as wanted and never as allowed.

mod cover;
mod judge;
mod normal;
#[cfg(test)]
pub(crate) mod properties;
#[cfg(test)]
mod tests;

pub(crate) use cover::Shown;
pub use cover::{Atom, Atoms, MOST_ATOMS, covers, growth, uncovered};
pub use judge::{
    hands_on, is_reading_only, is_self_service_verb, is_write_verb, long_running, may_reach_secrets, named_part,
    needs_naming, never_grantable, reaches_secrets, secret_names,
};
pub use normal::{from_policy_rules, from_rules, normalise};

/// Stands as the API group of a rule for non-resource URLs, whose resources are then the URLs.
///
/// No API group can be called that (they are lower-case), no ceiling covers it, not even `*`, and it is never granted.
pub const NON_RESOURCE_URLS: &str = "nonResourceURLs";

/// Stands as the API group of the rule that replaces what exceeds [`MOST_RULES`]; as with [`NON_RESOURCE_URLS`], nothing
/// covers it and it is never granted: what was cut off can't be judged.
pub const TOO_MANY_RULES: &str = "tooManyRules";

/// The most rules that [`normalise`] returns: what the status of a grant holds of one ClusterRole.
pub const MOST_RULES: usize = 128;

/// Matches every group, resource or verb; in names it has no such meaning.
const ALL: &str = "*";

/// Whether a word in the place of an API group is none.
fn is_pseudo_group(word: &str) -> bool {
    word == NON_RESOURCE_URLS || word == TOO_MANY_RULES
}
