//! Names of what is made for a grant: reserved, never chosen by a user, never used twice.
//!
//! Every name is `wlg-`, 16 hexadecimal digits of the SHA-256 of the grant's UID, and the count of its activations. RBAC
//! goes by name: a name that came back would inherit whatever still refers to it.

use sha2::{Digest as _, Sha256};

use crate::api::names::RESERVED_PREFIX;

const DIGITS: usize = 16;

/// The part of every name that stands for the grant.
#[must_use]
pub fn grant_key(uid: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(uid.as_bytes()));
    digits.truncate(DIGITS);
    digits
}

/// The part of a reserved name that stands for a grant; none for any other name.
#[must_use]
pub fn grant_key_of(name: &str) -> Option<&str> {
    let (key, rest) = name.strip_prefix(RESERVED_PREFIX)?.split_at_checked(DIGITS)?;
    let is_key = key
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (is_key && rest.starts_with('-')).then_some(key)
}

/// Whether a reserved name is of something that was made for the grant of this UID.
#[must_use]
pub fn is_of_grant(name: &str, uid: &str) -> bool {
    grant_key_of(name) == Some(grant_key(uid).as_str())
}

/// The ServiceAccount of an activation.
#[must_use]
pub fn identity(uid: &str, activation: i64) -> String {
    format!("{RESERVED_PREFIX}{}-{activation}", grant_key(uid))
}

/// The Role, where there is one, and the RoleBinding of the access entry at `index`.
#[must_use]
pub fn access(uid: &str, activation: i64, index: usize) -> String {
    format!("{}-{index}", identity(uid, activation))
}

/// The same of access by a static credential: its identity outlives it, so that a binding that is left is never without use.
#[must_use]
pub fn static_access(uid: &str, activation: i64, index: usize) -> String {
    format!("{}-s{index}", identity(uid, activation))
}

/// Whether a Role or RoleBinding of a reserved name is of access by a static credential.
#[must_use]
pub fn is_static_access(name: &str) -> bool {
    is_last_of('s', name)
}

/// The Secret that the token of a generation is bound to.
#[must_use]
pub fn anchor(uid: &str, activation: i64, generation: i64) -> String {
    format!("{}-g{generation}", identity(uid, activation))
}

/// The generation of an anchor of this activation; none for any other name.
#[must_use]
pub fn generation_of(name: &str, uid: &str, activation: i64) -> Option<i64> {
    name.strip_prefix(&format!("{}-g", identity(uid, activation)))?
        .parse()
        .ok()
}

/// Whether a Secret of a reserved name is an anchor.
#[must_use]
pub fn is_anchor(name: &str) -> bool {
    is_last_of('g', name)
}

/// Whether a reserved name ends in a number after this letter.
fn is_last_of(letter: char, name: &str) -> bool {
    let last = name.rsplit('-').next().and_then(|last| last.strip_prefix(letter));
    grant_key_of(name).is_some()
        && last.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The delivery Secret of a grant whose credential is delivered in private.
#[must_use]
pub fn private_delivery(uid: &str) -> String {
    format!("{RESERVED_PREFIX}{}-credential", grant_key(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "5d0c6a7e-0000-4000-8000-000000000001";

    #[test]
    fn names_lead_back_to_their_grant() {
        for name in [
            identity(UID, 1),
            access(UID, 12, 3),
            static_access(UID, 12, 3),
            anchor(UID, 1, 9),
            private_delivery(UID),
        ] {
            assert_eq!(grant_key_of(&name), Some(grant_key(UID).as_str()), "{name}");
            assert!(is_of_grant(&name, UID) && !is_of_grant(&name, "another"), "{name}");
            assert!(name.len() <= 63, "{name}");
        }
    }

    #[test]
    fn other_names_lead_nowhere() {
        for name in [
            "",
            "wlg-",
            "wlg-0123456789abcdef",
            "wlg-0123456789ABCDEF-1",
            "xwlg-0123456789abcdef-1",
            "wlg-ééééééééé",
        ] {
            assert_eq!(grant_key_of(name), None, "{name}");
        }
    }

    #[test]
    fn access_by_a_static_credential_is_told_by_its_name() {
        assert!(is_static_access(&static_access(UID, 2, 0)));
        for name in [access(UID, 2, 0), anchor(UID, 2, 1), "x-s1".to_owned()] {
            assert!(!is_static_access(&name), "{name}");
        }
    }

    #[test]
    fn an_anchor_tells_its_generation() {
        assert_eq!(generation_of(&anchor(UID, 2, 7), UID, 2), Some(7));
        assert_eq!(generation_of(&anchor(UID, 2, 7), UID, 3), None);
        assert_eq!(generation_of(&identity(UID, 2), UID, 2), None);
        assert!(is_anchor(&anchor(UID, 2, 7)));
        assert!(!is_anchor(&private_delivery(UID)) && !is_anchor(&identity(UID, 2)) && !is_anchor("x-g1"));
        for last in ["g", "gx", "g1x"] {
            assert!(!is_anchor(&format!("{}-{last}", identity(UID, 2))), "{last}");
        }
    }
}
