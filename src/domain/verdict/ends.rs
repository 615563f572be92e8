//! The known ends of a grant: which comes first, and when the answer can change next.

use super::Facts;
use crate::api::conditions::Reason;
use crate::api::v1alpha1::{Instant, PartnerIntegration};
use crate::domain::approval::Standing;
use crate::domain::{lifetime, ownership};

/// The earliest of all ends that are known, and which it is.
pub(super) fn earliest(facts: &Facts<'_>, integration: &PartnerIntegration, standing: &Standing) -> (Instant, Reason) {
    let lapse = match standing.own_end {
        Some(_) => Reason::ApprovalEnded,
        None => Reason::ReviewLapsed,
    };
    let expiry = (facts.grant.spec.expires_at, Reason::Expired);
    let ends = [
        integration
            .spec
            .agreement
            .ends_at
            .map(|end| (end, Reason::AgreementEnded)),
        standing.in_force_until.map(|end| (end, lapse)),
        ownership::end(integration, facts.owners).map(|end| (end, Reason::OwnerRemoved)),
    ];
    // Of two at the same instant the first named counts.
    ends.into_iter()
        .flatten()
        .fold(expiry, |first, end| if end.0 < first.0 { end } else { first })
}

/// What happens at the earliest end, in words.
pub(super) fn when(ends_because: Reason) -> &'static str {
    match ends_because {
        Reason::AgreementEnded => "when the agreement ends",
        Reason::ReviewLapsed => "when the approval lapses",
        Reason::ApprovalEnded => "when the approval ends, by its own date",
        Reason::OwnerRemoved => "when an owner leaves",
        _ => "when the grant expires",
    }
}

/// The next instant at which a date alone can change the answer.
pub(super) fn next_change(
    facts: &Facts<'_>,
    integration: Option<&PartnerIntegration>,
    approved_until: Option<Instant>,
) -> Option<Instant> {
    let spec = &facts.grant.spec;
    let agreement = integration.and_then(|integration| integration.spec.agreement.ends_at);
    let owners = integration.and_then(|integration| ownership::next_leave(integration, facts.owners, facts.now));
    [Some(spec.expires_at), spec.starts_at, agreement, approved_until, owners]
        .into_iter()
        .flatten()
        .filter(|instant| *instant > facts.now)
        .min()
}

/// Why access can't begin any more.
pub(super) fn too_late(now: Instant, until: Instant) -> String {
    format!(
        "{} s are left until {until}; at least {} s are needed: prolong it",
        until.seconds_since(now),
        lifetime::NO_ISSUE + 1
    )
}

/// Why a credential can't be made for the time that is left.
pub(super) fn too_short(now: Instant, until: Instant) -> String {
    let left = until.seconds_since(now);
    format!(
        "{left} s are left until {until}; a credential that ends by itself needs {} s: prolong it, or let the policy prefer hard expiry (limits.hardExpiry: Preferred; at least {} s)",
        lifetime::SHORTEST + lifetime::FADE + 2,
        lifetime::NO_ISSUE + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::at;

    #[test]
    fn what_is_too_late_or_too_short_says_how_much_is_left_and_what_is_needed() {
        let (now, until) = (at("2026-12-02T00:00:00Z"), at("2026-12-02T00:01:00Z"));
        let left = "60 s are left until 2026-12-02T00:01:00Z";
        assert_eq!(
            too_late(now, until),
            format!("{left}; at least 61 s are needed: prolong it")
        );
        let words = too_short(now, until);
        assert!(
            words.starts_with(&format!(
                "{left}; a credential that ends by itself needs 672 s: prolong it"
            )),
            "{words}"
        );
        assert!(
            words.ends_with("(limits.hardExpiry: Preferred; at least 61 s)"),
            "{words}"
        );
    }

    #[test]
    fn each_end_has_its_words() {
        for (because, words) in [
            (Reason::Expired, "when the grant expires"),
            (Reason::AgreementEnded, "when the agreement ends"),
            (Reason::ReviewLapsed, "when the approval lapses"),
            (Reason::ApprovalEnded, "when the approval ends, by its own date"),
            (Reason::OwnerRemoved, "when an owner leaves"),
        ] {
            assert_eq!(when(because), words);
        }
    }
}
