//! What a grant gives, in words for a terminal; of a ClusterRole what it holds, and what became of it since it was approved.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::api::v1alpha1::{AccessEntry, AccessGrant, ResolvedClusterRole, ResolvedRule, Rule};
use crate::domain::permission::{self, NON_RESOURCE_URLS, TOO_MANY_RULES};

/// What is known of a ClusterRole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its rules as they stand.
    Held(Vec<ResolvedRule>),
    /// It does not exist.
    Absent,
    /// The caller may not read it.
    Unread,
}

/// ClusterRoles by name, as the caller reads them.
pub type Roles = BTreeMap<String, Role>;

/// Lines for [`super::decision::listed`]: each entry, then each ClusterRole with its rules. `approved` is what the status of
/// the grant that stands there keeps: what the ClusterRoles held when they were approved.
#[must_use]
pub fn lines(grant: &AccessGrant, roles: &Roles, approved: &[ResolvedClusterRole]) -> Vec<(&'static str, String)> {
    let own = grant.metadata.namespace.as_deref().unwrap_or_default();
    let entries = grant.spec.access.iter();
    let mut lines: Vec<_> = entries.map(|entry| ("access", describe_entry(entry, own))).collect();
    for name in grant.cluster_roles() {
        let kept = approved.iter().find(|it| it.cluster_role == name);
        let kept = kept.map(|it| it.rules.as_slice());
        lines.extend(of_role(&name, roles.get(&name).unwrap_or(&Role::Unread), kept));
    }
    lines
}

/// What an entry gives, and where; in a grant of the namespace `own`.
fn describe_entry(entry: &AccessEntry, own: &str) -> String {
    let mut parts: Vec<String> = entry.rules.iter().flatten().map(describe_rule).collect();
    if let Some(role) = &entry.cluster_role_ref {
        parts.push(format!("ClusterRole {}", role.name));
    }
    let places = if entry.namespaces.is_empty() {
        own.to_owned()
    } else {
        words(&entry.namespaces)
    };
    format!("{} in {places}", parts.join("; "))
}

fn describe_rule(rule: &Rule) -> String {
    describe(&rule.api_groups, &rule.resources, &rule.verbs, &rule.resource_names)
}

/// A name says nothing of what is given: whoever decides sees the rules behind it, or that they could not be read.
fn of_role(name: &str, role: &Role, approved: Option<&[ResolvedRule]>) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let rules = match (role, approved) {
        (Role::Held(rules), _) => {
            lines.push(("role", format!("{name} holds now:")));
            rules.as_slice()
        }
        (Role::Absent, _) => {
            let words = format!("{name} does not exist: what it will hold once somebody makes it is not known");
            lines.push(("role", words));
            return lines;
        }
        (Role::Unread, Some(kept)) => {
            let words = format!("{name} held, when it was approved (you may not read what it holds now):");
            lines.push(("role", words));
            kept
        }
        (Role::Unread, None) => {
            let words = format!(
                "{name}: its rules could not be read, so what it gives is not known here; \
                 the ClusterRole wayleave-explainer lets you read it"
            );
            lines.push(("role", words));
            return lines;
        }
    };
    if rules.is_empty() {
        lines.push(("", "nothing".to_owned()));
    }
    lines.extend(rules.iter().map(|rule| ("", describe_resolved(rule))));
    if let (Role::Held(now), Some(kept)) = (role, approved) {
        lines.extend(since(name, kept, now));
    }
    lines
}

/// What a ClusterRole gained and lost since it was approved.
fn since(name: &str, kept: &[ResolvedRule], now: &[ResolvedRule]) -> Vec<(&'static str, String)> {
    let (more, less) = (permission::growth(kept, now), permission::uncovered(now, kept));
    let mut lines = Vec::new();
    if !more.is_empty() {
        lines.push(("grew", format!("{name} holds more than was approved: {more}")));
    }
    if !less.is_empty() {
        lines.push(("shrank", format!("{name} no longer holds what was approved: {less}")));
    }
    lines
}

fn describe_resolved(rule: &ResolvedRule) -> String {
    let is_of = |group: &str| rule.api_groups.iter().any(|it| it == group);
    if is_of(TOO_MANY_RULES) {
        return "and more rules than can be shown or judged".to_owned();
    }
    if is_of(NON_RESOURCE_URLS) {
        return format!("{} non-resource URLs {}", words(&rule.verbs), words(&rule.resources));
    }
    describe(&rule.api_groups, &rule.resources, &rule.verbs, &rule.resource_names)
}

fn describe<T: AsRef<str>, U: AsRef<str>, V: AsRef<str>, W: AsRef<str>>(
    groups: &[T],
    resources: &[U],
    verbs: &[V],
    names: &[W],
) -> String {
    let groups: Vec<&str> = groups
        .iter()
        .map(|group| {
            if group.as_ref().is_empty() {
                "core"
            } else {
                group.as_ref()
            }
        })
        .collect();
    let mut text = format!("{} {} ({})", words(verbs), words(resources), words(&groups));
    if !names.is_empty() {
        // Writing to a String can't fail.
        let _ = write!(text, " named {}", words(names));
    }
    text
}

/// Words in a row; one that could be taken for several, or for a part of the sentence, stands in quotes.
pub(super) fn words<T: AsRef<str>>(items: &[T]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:/*".contains(c);
    let shown = items.iter().map(AsRef::as_ref).map(|word| {
        if !word.is_empty() && word.chars().all(is_plain) {
            word.to_owned()
        } else {
            format!("{word:?}")
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The ClusterRoles of some grants, each once.
#[must_use]
pub fn named_by<'a>(grants: impl IntoIterator<Item = &'a AccessGrant>) -> BTreeSet<String> {
    grants.into_iter().flat_map(AccessGrant::cluster_roles).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::ClusterRoleRef;
    use crate::cli::decision::listed;
    use crate::domain::fixtures::grant;

    fn rule(group: &str, resource: &str, verbs: &[&str]) -> ResolvedRule {
        ResolvedRule {
            api_groups: vec![group.to_owned()],
            resources: vec![resource.to_owned()],
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            resource_names: Vec::new(),
        }
    }

    /// A grant of the ClusterRole `reader` in two entries.
    fn of_reader() -> AccessGrant {
        let mut grant = grant();
        let entry = AccessEntry {
            cluster_role_ref: Some(ClusterRoleRef { name: "reader".into() }),
            ..AccessEntry::default()
        };
        grant.spec.access.extend([entry.clone(), entry]);
        grant
    }

    fn shown(role: Role, approved: Option<Vec<ResolvedRule>>) -> String {
        let kept = approved.map(|rules| ResolvedClusterRole {
            cluster_role: "reader".to_owned(),
            rules,
        });
        let kept: Vec<ResolvedClusterRole> = kept.into_iter().collect();
        listed(&lines(&of_reader(), &[("reader".to_owned(), role)].into(), &kept))
    }

    #[test]
    fn the_rules_of_a_cluster_role_are_shown_once_below_what_names_it() {
        let mut named = rule("", "configmaps", &["get"]);
        named.resource_names = vec!["feed".to_owned()];
        let held = Role::Held(vec![
            named,
            rule("apps", "deployments", &["get", "list"]),
            rule(NON_RESOURCE_URLS, "/metrics", &["get"]),
            rule(TOO_MANY_RULES, "", &[]),
        ]);
        assert_eq!(
            shown(held, None),
            "  access      get configmaps (core) named invoice-feed in payments\n  \
               access      ClusterRole reader in payments\n  \
               access      ClusterRole reader in payments\n  \
               role        reader holds now:\n              \
                           get configmaps (core) named feed\n              \
                           get, list deployments (apps)\n              \
                           get non-resource URLs /metrics\n              \
                           and more rules than can be shown or judged\n"
        );
        assert!(
            shown(Role::Held(Vec::new()), None).contains("  role        reader holds now:\n              nothing\n")
        );
    }

    #[test]
    fn what_grew_and_what_shrank_since_the_approval_is_told() {
        let (get, list) = (
            rule("", "configmaps", &["get"]),
            rule("", "configmaps", &["get", "list"]),
        );
        let same = shown(Role::Held(vec![get.clone()]), Some(vec![get.clone()]));
        assert!(!same.contains("grew") && !same.contains("shrank"), "{same}");
        let grown = shown(Role::Held(vec![list.clone()]), Some(vec![get.clone()]));
        assert!(
            grown.contains("  grew        reader holds more than was approved: list configmaps\n")
                && !grown.contains("shrank"),
            "{grown}"
        );
        let shrunk = shown(Role::Held(vec![get]), Some(vec![list]));
        assert!(
            shrunk.contains("  shrank      reader no longer holds what was approved: list configmaps\n")
                && !shrunk.contains("grew"),
            "{shrunk}"
        );
    }

    #[test]
    fn what_could_not_be_read_is_said() {
        let get = rule("", "configmaps", &["get"]);
        let kept = shown(Role::Unread, Some(vec![get]));
        assert!(
            kept.contains("you may not read what it holds now):\n              get configmaps (core)\n"),
            "{kept}"
        );
        let unknown = shown(Role::Unread, None);
        assert!(
            unknown.contains("  role        reader: its rules could not be read")
                && unknown.contains("wayleave-explainer"),
            "{unknown}"
        );
        assert!(shown(Role::Absent, None).contains("reader does not exist"));
        let nobody_looked = listed(&lines(&of_reader(), &Roles::new(), &[]));
        assert_eq!(nobody_looked, unknown);
    }

    #[test]
    fn no_word_of_a_cluster_role_takes_over_the_terminal_or_the_sentence() {
        let mut odd = rule("", "pods\u{1b}[2J", &["get"]);
        odd.resource_names = vec!["a, b".to_owned(), "c\nd".to_owned()];
        let text = shown(Role::Held(vec![odd]), None);
        assert!(
            text.contains("get \"pods\\u{1b}[2J\" (core) named \"a, b\", \"c\\nd\"\n"),
            "{text}"
        );
    }
}
