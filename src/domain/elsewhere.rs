//! Rights that a partner's identity has beside its grant: by bindings to groups that every ServiceAccount is in, or by any other
//! binding that isn't ours. An identity is a ServiceAccount of ours, or, of a static credential, somebody's own. Source of the groups: Kubernetes, "Service account tokens" under Authenticating.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};

use super::permission::Shown;

/// The groups of everybody who is known, and of every ServiceAccount. A third is that of the namespace.
const GROUPS: [&str; 2] = ["system:authenticated", "system:serviceaccounts"];
/// What the group of a namespace's ServiceAccounts begins with.
const OF_NAMESPACE: &str = "system:serviceaccounts:";
/// What a ServiceAccount's user name begins with.
const USER: &str = "system:serviceaccount:";
/// By what Kubernetes itself gives to everybody: discovery, and questions about oneself. Each has the name of its ClusterRole.
const OF_KUBERNETES: [&str; 5] = [
    "system:basic-user",
    "system:cluster-trust-bundle-discovery",
    "system:discovery",
    "system:public-info-viewer",
    "system:service-account-issuer-discovery",
];
/// What those may hold and it is not told: groups, resources and verbs (Kubernetes 1.37, plugin/pkg/auth/authorizer/rbac/bootstrappolicy).
const ORDINARY: [(&str, &[&str], &[&str]); 3] = [
    (
        "authorization.k8s.io",
        &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        &["create"],
    ),
    ("authentication.k8s.io", &["selfsubjectreviews"], &["create"]),
    (
        "certificates.k8s.io",
        &["clustertrustbundles"],
        &["get", "list", "watch"],
    ),
];
/// What the paths that they may `get` begin with.
const ORDINARY_PATHS: [&str; 9] = [
    ".well-known",
    "api",
    "apis",
    "healthz",
    "livez",
    "openapi",
    "openid",
    "readyz",
    "version",
];
/// The most bindings that a message names.
const MOST: usize = 8;
/// What follows them where a policy refuses a grant for them.
const REFUSED_BY: &str = " (policy ";
/// How the words about other rights begin.
const BESIDE: &str = "beside this grant the identity has: ";

/// A ServiceAccount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name; empty of one that is yet to be made.
    pub name: &'a str,
}

/// A binding that reaches ServiceAccounts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OtherRights {
    /// Its namespace; none where it is a ClusterRoleBinding.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// What it gives: `ClusterRole view`, say.
    pub role: String,
    /// The groups of ServiceAccounts that it names, sorted.
    groups: Vec<String>,
    /// The ServiceAccounts that it names, by namespace and name, sorted.
    accounts: Vec<(String, String)>,
}

impl OtherRights {
    /// Reads a binding that isn't ours; none where it reaches no ServiceAccount.
    #[must_use]
    pub fn of(namespace: Option<&str>, name: &str, role: &RoleRef, subjects: &[Subject]) -> Option<Self> {
        let (mut groups, mut accounts) = (BTreeSet::new(), BTreeSet::new());
        for subject in subjects {
            match subject.kind.as_str() {
                "Group" if GROUPS.contains(&subject.name.as_str()) || subject.name.starts_with(OF_NAMESPACE) => {
                    groups.insert(subject.name.clone());
                }
                "ServiceAccount" => {
                    // In a RoleBinding one without a namespace is of the binding's (Kubernetes, pkg/registry/rbac/validation).
                    let stated = subject.namespace.as_deref().filter(|it| !it.is_empty());
                    let namespace = stated.or(namespace);
                    accounts.extend(namespace.map(|namespace| (namespace.to_owned(), subject.name.clone())));
                }
                "User" => {
                    let account = subject.name.strip_prefix(USER).and_then(|it| it.split_once(':'));
                    accounts.extend(account.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())));
                }
                _ => {}
            }
        }
        (!groups.is_empty() || !accounts.is_empty()).then(|| Self {
            namespace: namespace.map(ToOwned::to_owned),
            name: name.to_owned(),
            role: format!("{} {}", role.kind, role.name),
            groups: groups.into_iter().collect(),
            accounts: accounts.into_iter().collect(),
        })
    }

    /// The ServiceAccounts that it names, by namespace and name.
    #[must_use]
    pub fn accounts(&self) -> &[(String, String)] {
        &self.accounts
    }

    /// The ClusterRole by which Kubernetes itself gives it to everybody; it isn't told while that holds what is ordinary.
    #[must_use]
    pub fn of_kubernetes(&self) -> Option<&str> {
        // A ClusterRoleBinding gives no Role.
        let role = self.role.strip_prefix("ClusterRole ")?;
        (self.namespace.is_none() && role == self.name && is_of_kubernetes(role)).then_some(role)
    }

    /// Whether it names groups, and so may reach any.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether it can reach an identity of the namespace.
    #[must_use]
    pub fn reaches_any_of(&self, namespace: &str) -> bool {
        let account = Account { namespace, name: "" };
        self.groups.iter().any(|group| has(account, group)) || self.accounts.iter().any(|(at, _)| at == namespace)
    }

    /// By what it reaches an identity, if it does.
    fn reaches(&self, account: Account<'_>) -> Option<String> {
        // One that is yet to be made has no name, and nobody binds it.
        let is_it = |(namespace, name): &(String, String)| {
            !name.is_empty() && namespace == account.namespace && name == account.name
        };
        if self.accounts.iter().any(is_it) {
            return Some("the identity itself".to_owned());
        }
        let groups = self.groups.iter().map(String::as_str);
        let groups: Vec<&str> = groups.filter(|group| has(account, group)).collect();
        (!groups.is_empty()).then(|| format!("group {}", groups.join(" and ")))
    }
}

/// Whether Kubernetes itself gives a ClusterRole of this name to everybody.
#[must_use]
pub fn is_of_kubernetes(cluster_role: &str) -> bool {
    OF_KUBERNETES.contains(&cluster_role)
}

/// Whether rules hold no more than discovery, and questions about oneself: who may change ClusterRoles can add to those of Kubernetes, and
/// the API server keeps what was added.
#[must_use]
pub fn is_ordinary(rules: &[PolicyRule]) -> bool {
    let all = |had: Option<&Vec<String>>, may: &[&str]| had.into_iter().flatten().all(|it| may.contains(&it.as_str()));
    rules.iter().all(|rule| {
        let paths = rule.non_resource_urls.as_deref().unwrap_or_default();
        let is_ordinary = |path: &String| {
            let first = path.trim_start_matches('/').split('/').next();
            first.is_some_and(|first| ORDINARY_PATHS.contains(&first))
        };
        let are_paths = paths.iter().all(is_ordinary);
        let gives_paths = are_paths && (paths.is_empty() || all(Some(&rule.verbs), &["get"]));
        let gives_nothing = rule.resources.as_ref().is_none_or(Vec::is_empty);
        let mut ordinary = ORDINARY.iter();
        let gives_resources = ordinary.any(|(group, resources, verbs)| {
            all(rule.api_groups.as_ref(), &[group])
                && all(rule.resources.as_ref(), resources)
                && all(Some(&rule.verbs), verbs)
        });
        gives_paths && (gives_nothing || gives_resources)
    })
}

/// Whether an identity is in a group of ServiceAccounts.
fn has(account: Account<'_>, group: &str) -> bool {
    GROUPS.contains(&group) || group.strip_prefix(OF_NAMESPACE) == Some(account.namespace)
}

/// What an identity may do beside its grant, in words; none where that is nothing. Bindings in namespaces other than those that
/// the grant lies in or reaches are not named: they are other tenants'. The order of bindings doesn't matter.
#[must_use]
pub fn describe<'a>(
    all: impl IntoIterator<Item = &'a OtherRights>,
    account: Account<'_>,
    reached: &BTreeSet<String>,
) -> Option<String> {
    let reaching = all.into_iter().filter(|rights| rights.reaches(account).is_some());
    let all: BTreeSet<&OtherRights> = reaching.collect();
    let is_near = |rights: &&&OtherRights| rights.namespace.as_ref().is_none_or(|it| reached.contains(it));
    let is_far = all.iter().any(|rights| !is_near(&rights));
    let mut found: Vec<String> = all
        .iter()
        .filter(is_near)
        .filter_map(|rights| {
            let by = rights.reaches(account)?;
            let (role, name) = (Shown(&rights.role), Shown(&rights.name));
            Some(rights.namespace.as_deref().map_or_else(
                || format!("{role} in every namespace, by ClusterRoleBinding {name} to {by}"),
                |namespace| {
                    let namespace = Shown(namespace);
                    format!("{role} in namespace {namespace}, by RoleBinding {namespace}/{name} to {by}")
                },
            ))
        })
        .collect();
    let more = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    if is_far {
        found.push("roles in other namespaces, by RoleBindings there".to_owned());
    }
    if found.is_empty() {
        return None;
    }
    Some(format!("{BESIDE}{}; take it out of those bindings", found.join("; ")))
}

/// The words of [`describe`] for which a grant was refused, where that is what the operator said; none where it isn't.
#[must_use]
pub fn of_refusal(message: &str) -> Option<&str> {
    let words = message.starts_with(BESIDE).then_some(message)?;
    Some(words.split_once(REFUSED_BY).map_or(words, |(words, _)| words))
}

/// The words of a refusal for other rights, by a policy.
#[must_use]
pub fn refusal(words: &str, policy: &str) -> String {
    format!("{words}{REFUSED_BY}{policy}: access.onOtherRights is Refuse)")
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITIES: &str = "wayleave-identities";

    fn role(kind: &str, name: &str) -> RoleRef {
        RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        }
    }

    fn subject(kind: &str, name: &str, namespace: Option<&str>) -> Subject {
        Subject {
            api_group: None,
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.map(ToOwned::to_owned),
        }
    }

    fn binding(namespace: Option<&str>, name: &str, subjects: &[Subject]) -> Option<OtherRights> {
        OtherRights::of(namespace, name, &role("ClusterRole", "view"), subjects)
    }

    fn ours(name: &str) -> Account<'_> {
        Account {
            namespace: IDENTITIES,
            name,
        }
    }

    fn near() -> BTreeSet<String> {
        ["payments".to_owned()].into()
    }

    #[test]
    fn what_is_in_other_tenants_namespaces_is_told_and_not_named() {
        let everybody = [subject("Group", "system:serviceaccounts", None)];
        let far = binding(Some("ledger"), "secret-project", &everybody);
        let words = describe(far.as_ref(), ours("wlg-a-1"), &near()).unwrap_or_default();
        assert!(words.contains("roles in other namespaces"), "{words}");
        assert!(
            !words.contains("ledger") && !words.contains("secret-project"),
            "{words}"
        );
    }

    #[test]
    fn every_way_to_reach_an_identity_is_found_and_no_other() {
        for (kind, name, namespace) in [
            ("Group", "system:authenticated", None),
            ("Group", "system:serviceaccounts", None),
            ("Group", "system:serviceaccounts:wayleave-identities", None),
            ("ServiceAccount", "wlg-a-1", Some(IDENTITIES)),
            ("User", "system:serviceaccount:wayleave-identities:wlg-a-1", None),
        ] {
            let found = binding(Some("payments"), "open", &[subject(kind, name, namespace)]);
            let words = found
                .as_ref()
                .and_then(|found| describe([found], ours("wlg-a-1"), &near()));
            let words = words.unwrap_or_default();
            assert!(
                words.contains("ClusterRole view in namespace payments, by RoleBinding payments/open"),
                "{kind} {name}: {words}"
            );
            let another = found
                .as_ref()
                .and_then(|found| describe([found], ours("wlg-b-1"), &near()));
            assert_eq!(another.is_some(), kind == "Group", "{kind} {name}");
            assert!(found.is_some_and(|found| found.reaches_any_of(IDENTITIES)));
        }
        for (kind, name, namespace) in [
            ("Group", "system:unauthenticated", None),
            ("Group", "system:serviceaccounts:payments", None),
            ("Group", "developers", None),
            ("ServiceAccount", "wlg-a-1", Some("payments")),
            ("ServiceAccount", "wlg-a-1", None),
            ("User", "system:serviceaccount:payments:wlg-a-1", None),
            ("User", "system:authenticated", None),
        ] {
            let found = binding(None, "open", &[subject(kind, name, namespace)]);
            assert_eq!(describe(&found, ours("wlg-a-1"), &near()), None, "{kind} {name}");
            assert!(!found.is_some_and(|found| found.reaches_any_of(IDENTITIES)));
        }
    }

    #[test]
    fn an_identity_of_another_namespace_is_reached_by_its_own_name_and_groups() {
        let legacy = Account {
            namespace: "payments",
            name: "legacy",
        };
        for (kind, name, namespace, reaches) in [
            ("ServiceAccount", "legacy", Some("payments"), true),
            ("User", "system:serviceaccount:payments:legacy", None, true),
            ("Group", "system:serviceaccounts:payments", None, true),
            ("Group", "system:serviceaccounts", None, true),
            ("ServiceAccount", "legacy", Some("ledger"), false),
            ("Group", "system:serviceaccounts:ledger", None, false),
            ("Group", "system:serviceaccounts:wayleave-identities", None, false),
        ] {
            let found = binding(None, "open", &[subject(kind, name, namespace)]);
            let words = describe(&found, legacy, &near());
            assert_eq!(words.is_some(), reaches, "{kind} {name}: {words:?}");
        }
        // One without a namespace is of the binding's.
        for (at, reaches) in [("payments", true), ("ledger", false)] {
            for namespace in [None, Some("")] {
                let found = binding(Some(at), "open", &[subject("ServiceAccount", "legacy", namespace)]);
                assert_eq!(describe(&found, legacy, &near()).is_some(), reaches, "{at}");
            }
        }
    }

    #[test]
    fn a_binding_says_whom_it_names_and_is_none_where_that_is_no_service_account() {
        let named = binding(
            None,
            "open",
            &[
                subject("ServiceAccount", "legacy", Some("payments")),
                subject("User", "system:serviceaccount:ledger:ci", None),
            ],
        )
        .unwrap();
        let accounts = [("ledger", "ci"), ("payments", "legacy")].map(|(at, name)| (at.to_owned(), name.to_owned()));
        assert_eq!(named.accounts(), accounts);
        assert!(!named.has_groups());
        let open = binding(None, "open", &[subject("Group", "system:authenticated", None)]).unwrap();
        assert!(open.has_groups() && open.accounts().is_empty());
        for (kind, name) in [
            ("Group", "developers"),
            ("User", "alice"),
            ("Robot", "system:authenticated"),
        ] {
            assert_eq!(
                binding(None, "open", &[subject(kind, name, None)]),
                None,
                "{kind} {name}"
            );
        }
    }

    #[test]
    fn a_refusal_names_the_policy_and_gives_its_words_back() {
        let everybody = [subject("Group", "system:authenticated", None)];
        let words = describe(&binding(None, "open", &everybody), ours("wlg-a-1"), &near()).unwrap();
        let message = refusal(&words, "partners");
        assert_eq!(
            message,
            format!("{words} (policy partners: access.onOtherRights is Refuse)")
        );
        assert_eq!(of_refusal(&message), Some(words.as_str()));
        assert_eq!(of_refusal(&words), Some(words.as_str()));
        assert_eq!(of_refusal("the grant expired"), None);
    }

    #[test]
    fn what_kubernetes_gives_everybody_is_not_told_unless_it_gives_something_else() {
        let everybody = [subject("Group", "system:authenticated", None)];
        let of = |name: &str, given: &str, namespace| {
            OtherRights::of(namespace, name, &role("ClusterRole", given), &everybody)
        };
        let of_kubernetes = |found: Option<OtherRights>| found.and_then(|it| it.of_kubernetes().map(ToOwned::to_owned));
        for name in OF_KUBERNETES {
            assert_eq!(of_kubernetes(of(name, name, None)).as_deref(), Some(name));
            assert_eq!(of_kubernetes(of(name, "cluster-admin", None)), None);
            assert_eq!(of_kubernetes(of(name, name, Some("payments"))), None);
        }
        assert_eq!(of_kubernetes(of("view", "view", None)), None);
        assert!(!is_of_kubernetes("view"));
    }

    #[test]
    fn discovery_and_questions_about_oneself_are_ordinary_and_nothing_more() {
        let rule = |value: serde_json::Value| -> PolicyRule { serde_json::from_value(value).unwrap() };
        let paths = |paths: &[&str], verb: &str| rule(serde_json::json!({"nonResourceURLs": paths, "verbs": [verb]}));
        let on = |group: &str, resource: &str, verb: &str| {
            rule(serde_json::json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}))
        };
        let ordinary = [
            paths(
                &["/api", "/api/*", "/apis/*", "/healthz", "/openapi/*", "/version/"],
                "get",
            ),
            paths(&["/.well-known/openid-configuration/", "/openid/v1/jwks"], "get"),
            on("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
            on("authentication.k8s.io", "selfsubjectreviews", "create"),
            on("certificates.k8s.io", "clustertrustbundles", "watch"),
        ];
        assert!(is_ordinary(&ordinary));
        assert!(is_ordinary(&[]));
        for more in [
            paths(&["/metrics"], "get"),
            paths(&["/*"], "get"),
            paths(&["*"], "get"),
            paths(&["/api/*", "/logs/*"], "get"),
            paths(&["/api/*"], "*"),
            on("", "secrets", "get"),
            on("*", "selfsubjectreviews", "create"),
            on("authentication.k8s.io", "*", "create"),
            on("authentication.k8s.io", "selfsubjectreviews", "*"),
            on("authentication.k8s.io", "tokenreviews", "create"),
            on("certificates.k8s.io", "clustertrustbundles", "update"),
        ] {
            let mut rules = ordinary.to_vec();
            rules.push(more.clone());
            assert!(!is_ordinary(&rules), "{more:?}");
        }
    }

    #[test]
    fn the_words_are_bounded_and_do_not_depend_on_the_order() {
        let everybody = [subject("Group", "system:serviceaccounts", None)];
        let mut all: Vec<OtherRights> = (0..30)
            .filter_map(|number| binding(None, &format!("open-{number}"), &everybody))
            .collect();
        let words = describe(&all, ours("wlg-a-1"), &near()).unwrap_or_default();
        assert!(words.contains("in every namespace, by ClusterRoleBinding open-0 to group system:serviceaccounts"));
        assert!(words.contains("and 22 more"), "{words}");
        all.reverse();
        assert_eq!(describe(&all, ours("wlg-a-1"), &near()), Some(words));
        assert_eq!(describe([], ours("wlg-a-1"), &near()), None);
    }
}
