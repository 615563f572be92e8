//! A static credential: a ServiceAccount and its token that somebody made by hand. What is found of it, and what is said of
//! that. Pure.
//!
//! Nothing of it is ever written or removed. Source of the label: Kubernetes, "Legacy ServiceAccount token tracking" (KEP-2799).

use crate::api::v1alpha1::{AccessGrant, Instant, StaticSpec};

use super::permission::Shown;

/// On a token Secret, by Kubernetes: the day on which its token was last used.
pub const LABEL_LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
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
}

/// What a verdict and a plan need to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// UID of the ServiceAccount, where it is there.
    pub uid: Option<String>,
    /// What is not there, in words.
    pub missing: Option<String>,
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
            missing: missing(namespace, spec, found),
            finding: finding(namespace, spec, found),
        })
    }

    /// Everything is there: what is presumed where only the operator may look.
    #[must_use]
    pub fn presumed() -> Self {
        Self {
            uid: Some(String::new()),
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
    let (declared, others): (Vec<&StaticToken>, Vec<&StaticToken>) =
        tokens.into_iter().partition(|token| token.name == spec.secret_name.0);
    let mut parts = Vec::new();
    if let Some(account) = &found.account {
        let name = &spec.service_account_name;
        parts.push(format!("ServiceAccount {namespace}/{name}{}", made(account.made)));
    }
    if let Some(token) = declared.first() {
        let used = token.last_used.as_deref().map_or_else(
            || "not known to have been used".to_owned(),
            |day| format!("last used on {}", Shown(day)),
        );
        let name = &token.name;
        parts.push(format!(
            "token in Secret {namespace}/{name}{}, {used}",
            made(token.made)
        ));
    }
    if !others.is_empty() {
        let more = others.len().saturating_sub(MOST);
        let mut names: Vec<String> = others.iter().take(MOST).map(|token| token.name.clone()).collect();
        if more > 0 {
            names.push(format!("and {more} more"));
        }
        parts.push(format!("static tokens that no grant declares: {}", names.join(", ")));
    }
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

fn made(at: Option<Instant>) -> String {
    at.map_or_else(String::new, |at| format!(" of {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{at, static_grant};

    fn token(name: &str, last_used: Option<&str>) -> StaticToken {
        StaticToken {
            name: name.to_owned(),
            made: Some(at("2024-02-03T00:00:00Z")),
            last_used: last_used.map(str::to_owned),
        }
    }

    fn found(tokens: &[StaticToken]) -> Found {
        Found {
            account: Some(Account {
                uid: "uid-of-legacy".to_owned(),
                made: Some(at("2024-01-02T00:00:00Z")),
            }),
            tokens: tokens.to_vec(),
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
        };
        let words = Seen::of(&static_grant(), &orphan).unwrap().finding.unwrap();
        assert!(words.contains("not known to have been used"), "{words}");
        assert_eq!(Seen::of(&crate::domain::fixtures::grant(), &orphan), None);
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
