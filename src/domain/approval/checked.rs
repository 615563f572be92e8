//! Why a decision, or what it is about, counts as checked by nobody.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::standing::{Objection, Question};
use crate::api::conditions::counted as words;
use crate::api::v1alpha1::Instant;
use crate::domain::admission::Proofs;

/// Why nothing can be approved that nobody checked: whoever asked may stand there under another name.
pub(super) fn unchecked_request(question: &Question<'_>, proofs: &Proofs) -> Option<Objection> {
    let created = |meta: &ObjectMeta| meta.creation_timestamp.as_ref().map(|time| Instant::new(time.0));
    let written = [
        ("the AccessGrant was created", created(&question.grant.metadata)),
        (
            "its PartnerIntegration was created",
            created(&question.integration.metadata),
        ),
        ("what it approves was written", question.previous.digest_since),
    ];
    let unchecked = written
        .into_iter()
        .find(|(_, at)| at.is_some_and(|at| !proofs.held_at(at)));
    unchecked.map(|(what, at)| {
        let at = at.map_or_else(String::new, |at| format!(" at {at}"));
        let words = format!(
            "{what}{at}, while the admission policies were not seen to hold, so that nobody checked who asked: it has to be written anew"
        );
        Objection::new(words::UNCHECKED, words)
    })
}

/// Why a decision does not count that nobody checked.
pub(super) fn unchecked() -> Objection {
    let words = "it was made while the admission policies were not seen to hold, so that nobody checked who decided: decide again";
    Objection::new(words::UNCHECKED, words)
}
