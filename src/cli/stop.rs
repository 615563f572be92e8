//! Whom a stop of a partner reaches, who only looks like that partner, and what became of each grant. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::api::conditions::{Reason, types};

/// From this length on, two letters apart are still near.
const LONG_ENOUGH_FOR_TWO: usize = 5;

/// Namespace and name.
pub type Key = (String, String);

/// What a stop needs to know of an integration; read field by field, so that nothing else in it can be in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integration {
    /// Its namespace and name.
    pub key: Key,
    /// Its UID.
    pub uid: Option<String>,
    /// The partner's id.
    pub partner: String,
    /// The partner's name as people know it.
    pub partner_name: String,
}

impl Integration {
    /// From the object as the API server has it.
    #[must_use]
    pub fn read(object: &Value) -> Self {
        let partner = &object["spec"]["partner"];
        Self {
            key: key(object),
            uid: object["metadata"]["uid"].as_str().map(str::to_owned),
            partner: text(&partner["id"]),
            partner_name: text(&partner["name"]),
        }
    }
}

/// What a stop needs to know of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its namespace and name.
    pub key: Key,
    /// Its integration.
    pub integration: Key,
    /// Whether its partner can use it.
    pub state: State,
    /// Why, in one word; empty where the operator has not said.
    pub reason: String,
}

/// Whether access exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Active,
    /// It is being made or the operator has not spoken yet: it may exist in a moment.
    UnderWay,
    /// It does not.
    Inactive,
}

impl Grant {
    /// From the object as the API server has it.
    #[must_use]
    pub fn read(object: &Value) -> Self {
        let key = key(object);
        let conditions = object["status"]["conditions"].as_array();
        let active = conditions.and_then(|all| all.iter().find(|it| it["type"] == types::ACTIVE));
        let reason = active.map(|it| text(&it["reason"])).unwrap_or_default();
        let state = match active.map(|it| it["status"] == "False") {
            Some(true) if reason == Reason::Issuing.as_str() => State::UnderWay,
            Some(true) => State::Inactive,
            Some(false) => State::Active,
            None => State::UnderWay,
        };
        let integration = (key.0.clone(), text(&object["spec"]["integrationRef"]["name"]));
        Self {
            key,
            integration,
            state,
            reason,
        }
    }
}

/// Somebody who is not stopped, and could have been meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// The partner's id.
    pub id: String,
    /// The partner's names, as integrations have them.
    pub names: BTreeSet<String>,
    /// The integrations: `namespace/name`.
    pub integrations: BTreeSet<String>,
    /// What makes it near.
    pub because: &'static str,
}

/// Those of this very id, and those that are near it.
#[must_use]
pub fn find<'a>(all: &'a [Integration], id: &str) -> (Vec<&'a Integration>, Vec<NearMiss>) {
    let (found, others): (Vec<_>, Vec<_>) = all.iter().partition(|it| it.partner == id);
    let names: BTreeSet<String> = found.iter().map(|it| folded(&it.partner_name)).collect();
    let mut near: BTreeMap<(&str, &'static str), NearMiss> = BTreeMap::new();
    for other in others {
        let Some(because) = nearness(other, id, &names) else {
            continue;
        };
        let miss = near.entry((&other.partner, because)).or_insert_with(|| NearMiss {
            id: other.partner.clone(),
            names: BTreeSet::new(),
            integrations: BTreeSet::new(),
            because,
        });
        miss.names.insert(other.partner_name.clone());
        miss.integrations.insert(format!("{}/{}", other.key.0, other.key.1));
    }
    (found, near.into_values().collect())
}

fn nearness(other: &Integration, id: &str, names: &BTreeSet<String>) -> Option<&'static str> {
    if other.partner.eq_ignore_ascii_case(id) {
        return Some("the same but for capitals");
    }
    let name = folded(&other.partner_name);
    if !name.is_empty() && (names.contains(&name) || name == folded(id)) {
        return Some("the same name under another id");
    }
    let (one, two) = (other.partner.to_lowercase(), id.to_lowercase());
    let longest = one.chars().count().max(two.chars().count());
    match strsim::osa_distance(&one, &two) {
        1 if longest > 1 => Some("one letter apart"),
        2 if longest >= LONG_ENOUGH_FOR_TWO => Some("two letters apart"),
        _ => None,
    }
}

/// A name without what people write in different ways: capitals, blanks and signs.
fn folded(name: &str) -> String {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// The near ones in a sentence; empty where there are none.
#[must_use]
pub fn describe_near(near: &[NearMiss]) -> String {
    let each = near.iter().map(|miss| {
        let names: Vec<&str> = miss.names.iter().map(String::as_str).collect();
        let places: Vec<&str> = miss.integrations.iter().map(String::as_str).collect();
        format!(
            "{} ({}; {}; {})",
            miss.id,
            names.join(", "),
            miss.because,
            places.join(", ")
        )
    });
    each.collect::<Vec<_>>().join("; ")
}

/// What became of one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It had access, which ended so long after the decision was sent.
    Ended(Duration),
    /// It had none, for this reason.
    WasInactive(String),
    /// It was deleted meanwhile.
    Gone,
    /// It may still have access.
    StillActive,
    /// Nobody waited for it.
    NotAwaited,
    /// Its integration could not be revoked.
    NotRevoked,
}

impl Fate {
    /// In words, for a table.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Ended(after) => format!("after {} ms", after.as_millis()),
            Self::WasInactive(reason) if reason.is_empty() => "was not active".to_owned(),
            Self::WasInactive(reason) => format!("was not active ({reason})"),
            Self::Gone => "deleted".to_owned(),
            Self::StillActive => "STILL ACTIVE".to_owned(),
            Self::NotAwaited => "not awaited".to_owned(),
            Self::NotRevoked => "NOT REVOKED".to_owned(),
        }
    }

    /// Whether access may be left.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::StillActive | Self::NotRevoked)
    }

    /// For programs: one word, and the milliseconds.
    #[must_use]
    pub fn as_json(&self) -> Value {
        let word = match self {
            Self::Ended(_) => "Ended",
            Self::WasInactive(_) => "WasInactive",
            Self::Gone => "Gone",
            Self::StillActive => "StillActive",
            Self::NotAwaited => "NotAwaited",
            Self::NotRevoked => "NotRevoked",
        };
        let milliseconds = match self {
            Self::Ended(after) => Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            _ => None,
        };
        serde_json::json!({"outcome": word, "afterMilliseconds": milliseconds})
    }
}

fn key(object: &Value) -> Key {
    let metadata = &object["metadata"];
    (text(&metadata["namespace"]), text(&metadata["name"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn integration(namespace: &str, id: &str, name: &str) -> Integration {
        Integration::read(&json!({
            "metadata": {"namespace": namespace, "name": "it", "uid": "u"},
            "spec": {"partner": {"id": id, "name": name}},
        }))
    }

    fn near(id: &str, others: &[(&str, &str)]) -> Vec<(String, &'static str)> {
        let all: Vec<Integration> = others.iter().map(|(id, name)| integration("ns", id, name)).collect();
        find(&all, id)
            .1
            .into_iter()
            .map(|miss| (miss.id, miss.because))
            .collect()
    }

    #[test]
    fn the_very_id_is_found_in_every_namespace_and_nothing_else() {
        let all = [
            integration("a", "acme", "Acme Corp"),
            integration("b", "acme", "ACME"),
            integration("c", "acme2", "Other"),
            integration("d", "globex", "Globex"),
        ];
        let (found, near) = find(&all, "acme");
        assert_eq!(found.len(), 2);
        assert_eq!(near.len(), 1);
        assert_eq!((near[0].id.as_str(), near[0].because), ("acme2", "one letter apart"));
        assert_eq!(describe_near(&near), "acme2 (Other; one letter apart; c/it)");
    }

    #[test]
    fn near_is_what_a_person_could_have_meant() {
        assert_eq!(
            near("ACME", &[("acme", "Acme")]),
            [("acme".to_owned(), "the same but for capitals")]
        );
        assert_eq!(
            near("acem", &[("acme", "Acme")]),
            [("acme".to_owned(), "one letter apart")],
            "swapped letters are one slip"
        );
        assert_eq!(
            near("globex", &[("glbx", "G")]),
            [("glbx".to_owned(), "two letters apart")]
        );
        assert_eq!(
            near("ibm", &[("abb", "ABB")]),
            [],
            "two of three letters are another word"
        );
        assert_eq!(
            near("acme", &[("acme", "Acme Corp."), ("a-corporation", "ACME corp")]),
            [("a-corporation".to_owned(), "the same name under another id")]
        );
        assert_eq!(
            near("acme-corp", &[("partner-17", "Acme Corp")]),
            [("partner-17".to_owned(), "the same name under another id")],
            "who gives the name instead of the id"
        );
        assert_eq!(near("acme", &[("initech", "Initech")]), []);
    }

    #[test]
    fn a_grant_is_over_only_when_the_operator_says_so() {
        let grant = |conditions: Value| {
            Grant::read(&json!({
                "metadata": {"namespace": "a", "name": "g"},
                "spec": {"integrationRef": {"name": "it"}},
                "status": {"conditions": conditions},
            }))
        };
        let active = |status: &str, reason: &str| json!([{"type": "Active", "status": status, "reason": reason}]);
        assert_eq!(grant(active("True", "Issued")).state, State::Active);
        assert_eq!(grant(active("Unknown", "X")).state, State::Active);
        assert_eq!(grant(active("False", "Issuing")).state, State::UnderWay);
        assert_eq!(grant(active("False", "Revoked")).state, State::Inactive);
        assert_eq!(grant(json!([])).state, State::UnderWay);
        assert_eq!(grant(json!([])).integration, ("a".to_owned(), "it".to_owned()));
    }

    #[test]
    fn what_may_be_left_open_is_told_loudly() {
        for fate in [Fate::StillActive, Fate::NotRevoked] {
            assert!(fate.is_open());
            assert_eq!(fate.words(), fate.words().to_uppercase());
        }
        let ended = Fate::Ended(Duration::from_millis(35));
        assert_eq!((ended.words().as_str(), ended.is_open()), ("after 35 ms", false));
        assert_eq!(ended.as_json(), json!({"outcome": "Ended", "afterMilliseconds": 35}));
    }
}
