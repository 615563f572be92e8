//! A static credential: a ServiceAccount and its token that somebody made by hand. What is found of it, and what is said of
//! that. Pure.
//!
//! Nothing of it is ever written or removed. Source of the label: Kubernetes, "Legacy ServiceAccount token tracking" (KEP-2799).

use std::collections::BTreeSet;

use crate::api::v1alpha1::{AccessGrant, Instant, StaticSpec};

use super::permission::Shown;
use super::verdict::{is_active, rank};

/// On a token Secret, by Kubernetes: the day on which its token was last used.
pub const LABEL_LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// On a token Secret, by Kubernetes: since when its token is refused, for want of use.
pub const LABEL_INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// On a token Secret: the UID of its ServiceAccount.
pub const ANNOTATION_ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// On a token Secret: the name of its ServiceAccount.
pub const ANNOTATION_ACCOUNT: &str = "kubernetes.io/service-account.name";
/// The most other tokens that a message names.
const MOST: usize = 8;

/// What is there of it in the grant's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The ServiceAccount.
    pub account: Option<Account>,
    /// Every static token of that ServiceAccount, in any order.
    pub tokens: Vec<StaticToken>,
    /// What other grants declare of it.
    pub others: Others,
}

/// Other grants of the namespace that declare the same ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// The Secrets that they declare.
    secrets: BTreeSet<String>,
    /// The grants of the same integration, by name.
    beside: BTreeSet<String>,
    /// An active grant of another integration, which comes first: `reader of PartnerIntegration acme`.
    first: Option<String>,
}

impl Others {
    /// Those among these grants, which may be of any namespace.
    #[must_use]
    pub fn of<'a>(grant: &AccessGrant, all: impl IntoIterator<Item = &'a AccessGrant>) -> Self {
        let mut found = Self::default();
        let Some(own) = grant.static_credential() else {
            return found;
        };
        let name = |it: &AccessGrant| it.metadata.name.clone().unwrap_or_default();
        let mut rivals: Vec<&AccessGrant> = is_active(grant).then_some(grant).into_iter().collect();
        for other in all {
            let same = other
                .static_credential()
                .filter(|it| it.service_account_name == own.service_account_name);
            let (Some(declared), true) = (same, other.metadata.namespace == grant.metadata.namespace) else {
                continue;
            };
            if other.metadata.uid == grant.metadata.uid {
                continue;
            }
            found.secrets.insert(declared.secret_name.0.clone());
            if other.spec.integration_ref == grant.spec.integration_ref {
                found.beside.insert(name(other));
            } else if is_active(other) {
                rivals.push(other);
            }
        }
        let first = rivals.into_iter().min_by_key(|it| rank(it));
        let first = first.filter(|it| it.metadata.uid != grant.metadata.uid);
        found.first = first.map(|it| format!("{} of PartnerIntegration {}", name(it), it.spec.integration_ref.name));
        found
    }
}

impl Others {
    /// Why the ServiceAccount is another partner's, in words.
    #[must_use]
    pub fn taken(&self, grant: &AccessGrant) -> Option<String> {
        let (first, spec) = (self.first.as_ref()?, grant.static_credential()?);
        let namespace = grant.metadata.namespace.as_deref().unwrap_or_default();
        let account = &spec.service_account_name;
        Some(format!(
            "ServiceAccount {namespace}/{account} is used by AccessGrant {first} (spec.credential.static.serviceAccountName): what ends for one partner would go on for the other; give each a ServiceAccount of its own"
        ))
    }
}

/// A ServiceAccount that isn't ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its UID.
    pub uid: String,
    /// When it was made.
    pub made: Option<Instant>,
}

/// A Secret that holds a static token.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaticToken {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub made: Option<Instant>,
    /// The day on which the API server last saw its token; none where it never did, or doesn't say.
    pub last_used: Option<String>,
    /// Kubernetes takes it no more, since it was not used for a year.
    pub is_invalid: bool,
}

/// What a verdict and a plan need to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// UID of the ServiceAccount, where it is there.
    pub uid: Option<String>,
    /// Why nothing is known of it, in words; then nothing else is told here.
    pub unread: Option<String>,
    /// What is not there, in words.
    pub missing: Option<String>,
    /// Why it is another partner's, in words.
    pub taken: Option<String>,
    /// What is there, in words; none where that is nothing.
    pub finding: Option<String>,
}

impl Seen {
    /// What is to be said of what was found; none where the grant has another kind of credential.
    #[must_use]
    pub fn of(grant: &AccessGrant, found: &Found) -> Option<Self> {
        let spec = grant.static_credential()?;
        let namespace = grant.metadata.namespace.as_deref().unwrap_or_default();
        Some(Self {
            uid: found.account.as_ref().map(|account| account.uid.clone()),
            unread: None,
            missing: missing(namespace, spec, found),
            taken: found.others.taken(grant),
            finding: finding(namespace, spec, found),
        })
    }

    /// It can't be read.
    #[must_use]
    pub fn unread(why: &str) -> Self {
        Self {
            unread: Some(why.to_owned()),
            ..Self::default()
        }
    }
}

fn missing(namespace: &str, spec: &StaticSpec, found: &Found) -> Option<String> {
    let (account, secret) = (&spec.service_account_name, &spec.secret_name);
    if found.account.is_none() {
        return Some(format!(
            "there is no ServiceAccount {namespace}/{account} (spec.credential.static.serviceAccountName): name the one that the partner uses"
        ));
    }
    let is_there = found.tokens.iter().any(|token| token.name == secret.0);
    (!is_there).then(|| {
        format!(
            "there is no static token of ServiceAccount {namespace}/{account} in Secret {namespace}/{secret} (spec.credential.static.secretName): name the Secret that the partner uses, or, where it is gone, use a credential of type Token"
        )
    })
}

fn finding(namespace: &str, spec: &StaticSpec, found: &Found) -> Option<String> {
    let mut tokens: Vec<&StaticToken> = found.tokens.iter().collect();
    tokens.sort();
    let (declared, mut others): (Vec<&StaticToken>, Vec<&StaticToken>) =
        tokens.into_iter().partition(|token| token.name == spec.secret_name.0);
    others.retain(|token| !found.others.secrets.contains(&token.name));
    let mut parts = Vec::new();
    if let Some(account) = &found.account {
        let name = &spec.service_account_name;
        parts.push(format!("ServiceAccount {namespace}/{name}{}", made(account.made)));
    }
    if let Some(token) = declared.first() {
        let mut used = token.last_used.as_deref().map_or_else(
            || "not known to have been used".to_owned(),
            |day| format!("last used on {}", Shown(day)),
        );
        if token.is_invalid {
            used = format!("{used}, and refused by Kubernetes since it was not used for long");
        }
        let name = &token.name;
        parts.push(format!(
            "token in Secret {namespace}/{name}{}, {used}",
            made(token.made)
        ));
    }
    let others: Vec<&str> = others.iter().map(|token| token.name.as_str()).collect();
    let beside: Vec<&str> = found.others.beside.iter().map(String::as_str).collect();
    parts.extend(named("static tokens that no grant declares", &others));
    parts.extend(named("used by other grants of the integration", &beside));
    if parts.is_empty() {
        return None;
    }
    let replacement = spec.replacement.as_ref().map_or_else(
        || "nothing is named that replaces it".to_owned(),
        |replacement| format!("to be replaced by {}", Shown(&replacement.0)),
    );
    Some(format!(
        "a static credential, which never ends by itself and outlives this grant: {}; reason given: {}; {replacement}; delete it when it is replaced, Wayleave takes away no more than what it granted",
        parts.join("; "),
        Shown(&spec.reason.0),
    ))
}

/// The first names of a list, if there are any.
fn named(what: &str, names: &[&str]) -> Option<String> {
    let shown: Vec<&str> = names.iter().copied().take(MOST).collect();
    let more = names.len().saturating_sub(MOST);
    let rest = if more > 0 {
        format!(", and {more} more")
    } else {
        String::new()
    };
    (!names.is_empty()).then(|| format!("{what}: {}{rest}", shown.join(", ")))
}

fn made(at: Option<Instant>) -> String {
    at.map_or_else(String::new, |at| format!(" of {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::Reason;
    use crate::api::v1alpha1::AccessGrantStatus;
    use crate::domain::conditions::{merge, of_grant};
    use crate::domain::fixtures::{at, static_grant};

    fn token(name: &str, last_used: Option<&str>) -> StaticToken {
        StaticToken {
            name: name.to_owned(),
            made: Some(at("2024-02-03T00:00:00Z")),
            last_used: last_used.map(str::to_owned),
            is_invalid: false,
        }
    }

    fn found(tokens: &[StaticToken]) -> Found {
        Found {
            account: Some(Account {
                uid: "uid-of-legacy".to_owned(),
                made: Some(at("2024-01-02T00:00:00Z")),
            }),
            tokens: tokens.to_vec(),
            others: Others::default(),
        }
    }

    #[test]
    fn account_and_declared_token_must_both_be_there() {
        let grant = static_grant();
        let seen = |found: &Found| Seen::of(&grant, found).unwrap();
        let nothing = seen(&Found::default());
        assert!(nothing.missing.unwrap().contains("no ServiceAccount payments/legacy "));
        assert_eq!((nothing.uid, nothing.finding), (None, None));
        let without_token = seen(&found(&[]));
        assert!(
            without_token
                .missing
                .unwrap()
                .contains("in Secret payments/legacy-token ")
        );
        let another = seen(&found(&[token("legacy-token-2", None)]));
        assert!(another.missing.is_some());
        let all = seen(&found(&[token("legacy-token", None)]));
        assert_eq!((all.missing, all.uid.as_deref()), (None, Some("uid-of-legacy")));
    }

    #[test]
    fn the_finding_tells_age_last_use_other_tokens_reason_and_replacement() {
        let all = found(&[
            token("z", None),
            token("legacy-token", Some("2026-11-20")),
            token("a", None),
        ]);
        let words = Seen::of(&static_grant(), &all).unwrap().finding.unwrap();
        for part in [
            "ServiceAccount payments/legacy of 2024-01-02T00:00:00Z",
            "token in Secret payments/legacy-token of 2024-02-03T00:00:00Z, last used on 2026-11-20",
            "static tokens that no grant declares: a, z",
            "reason given: its middleware reads one token",
            "to be replaced by AccessGrant acme-billing-reader",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
    }

    #[test]
    fn what_is_left_of_it_stays_told_and_nothing_is_told_when_all_is_gone() {
        let orphan = Found {
            account: None,
            tokens: vec![token("legacy-token", None)],
            others: Others::default(),
        };
        let words = Seen::of(&static_grant(), &orphan).unwrap().finding.unwrap();
        assert!(words.contains("not known to have been used"), "{words}");
        assert_eq!(Seen::of(&crate::domain::fixtures::grant(), &orphan), None);
    }

    #[test]
    fn of_two_partners_who_share_a_service_account_the_first_that_is_active_has_it() {
        let another = |name: &str, integration: &str, is_active: bool| {
            let mut other = static_grant();
            other.metadata.name = Some(name.to_owned());
            other.metadata.uid = Some(format!("uid-of-{name}"));
            other.spec.integration_ref.name = integration.into();
            let reason = if is_active {
                Reason::Issued
            } else {
                Reason::AwaitingApproval
            };
            let conditions = merge(&[], of_grant(reason, ""), None, at("2026-12-02T00:00:00Z"));
            other.status = Some(AccessGrantStatus {
                conditions,
                ..AccessGrantStatus::default()
            });
            other
        };
        let seen = |grant: &AccessGrant, others: &[&AccessGrant]| {
            let found = Found {
                others: Others::of(grant, others.iter().copied()),
                ..found(&[token("legacy-token", None), token("b", None)])
            };
            Seen::of(grant, &found).unwrap()
        };
        let (waiting, first) = (another("a", "acme-billing", false), another("b", "globex", true));
        let taken = seen(&waiting, &[&waiting, &first]).taken.unwrap();
        assert!(
            taken.contains("used by AccessGrant b of PartnerIntegration globex"),
            "{taken}"
        );
        assert_eq!(seen(&first, &[&waiting, &first]).taken, None);
        // Both at once, by a race: the older one keeps it.
        let (one, other) = (another("a", "acme-billing", true), another("b", "globex", true));
        assert_eq!(seen(&one, &[&one, &other]).taken, None);
        assert!(seen(&other, &[&one, &other]).taken.is_some());
        let mut last = another("c", "initech", true);
        last.metadata.creation_timestamp = None;
        for all in [[&other, &last], [&last, &other]] {
            let words = seen(&waiting, &all).taken.unwrap();
            assert!(words.contains("AccessGrant c of PartnerIntegration initech"), "{words}");
        }
        // Of one integration both may; each tells of the other, and of no token that the other declares.
        let mut beside = another("b", "acme-billing", true);
        beside.spec.credential.static_.as_mut().unwrap().secret_name = "b".into();
        let seen = seen(&waiting, &[&waiting, &beside]);
        let finding = seen.finding.unwrap();
        assert!(
            finding.contains("used by other grants of the integration: b") && !finding.contains("no grant declares")
        );
        assert_eq!(seen.taken, None);
        let mut elsewhere = another("b", "globex", true);
        elsewhere.metadata.namespace = Some("ledger".to_owned());
        assert_eq!(Others::of(&waiting, [&elsewhere]), Others::default());
    }

    #[test]
    fn names_are_told_up_to_their_bound() {
        let names = ["a"; MOST + 1];
        assert_eq!(named("tokens", &[]), None);
        assert_eq!(named("tokens", &["a", "b"]).as_deref(), Some("tokens: a, b"));
        assert!(named("tokens", &names[1..]).unwrap().ends_with(", a"));
        assert!(named("tokens", &names).unwrap().ends_with(", a, and 1 more"));
    }

    #[test]
    fn many_tokens_and_hostile_words_are_bounded_and_harmless() {
        let mut grant = static_grant();
        grant.spec.credential.static_.as_mut().unwrap().reason = "a\u{1b}[2Jb".into();
        let tokens: Vec<StaticToken> = (0..30).map(|number| token(&format!("t{number}"), None)).collect();
        let words = Seen::of(&grant, &found(&tokens)).unwrap().finding.unwrap();
        assert!(words.contains("and 22 more") && !words.contains('\u{1b}'), "{words}");
    }
}
