//! What is said of a grant that is yet to be applied. Pure.

use serde::Serialize;

use super::Answer;
use super::explanation::{PointView, ReasonView, Text, asked_for, reasons, views};
use super::world::{Missing, Opinion, key};
use crate::api::conditions::Reason;
use crate::domain::policy::Outcome;

/// The answer about one grant.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    namespace: String,
    grant: String,
    /// `permitted`, `refused` or `unknown`.
    answer: &'static str,
    /// The policies that permit it.
    policies: Vec<String>,
    /// The policy that comes nearest, where none permits it.
    nearest: Option<String>,
    /// What approvals it needs.
    asks_for: Option<String>,
    /// Every failing point.
    failing: Vec<PointView>,
    /// What else stands against it.
    against: Vec<ReasonView>,
    /// What it has to wait for, though nothing is wrong.
    waits: Vec<ReasonView>,
    /// What could not be known.
    incomplete: Vec<String>,
}

/// A grant with this reason is refused as it stands: to wait doesn't mend it.
fn refuses(reason: &str) -> bool {
    let mending = [
        Reason::Deleting,
        Reason::OwnerRemoved,
        Reason::IntegrationMissing,
        Reason::AgreementEnded,
        Reason::Expired,
        Reason::NotEnrolled,
        Reason::NotPermitted,
        Reason::TooShort,
    ];
    mending.iter().any(|it| it.as_str() == reason)
}

impl Checked {
    /// Of what is said of a grant.
    #[must_use]
    pub fn of(opinion: &Opinion<'_>) -> Self {
        let (namespace, grant) = key(opinion.grant);
        let lacks = |missing: Missing| opinion.gaps.iter().any(|gap| gap.missing == missing);
        let judgement = opinion.judgement.as_ref();
        let (policies, nearest) = match judgement.map(|it| it.outcome.clone()) {
            Some(Outcome::Permitted { policies, .. }) => (policies, None),
            Some(Outcome::Refused { nearest, .. }) => (Vec::new(), nearest),
            None => (Vec::new(), None),
        };
        let failing = judgement.map(|it| views(&it.failing)).unwrap_or_default();
        let by_points = |it: &ReasonView| failing.iter().any(|point| point.is(&it.message));
        // Without the owners nothing is said of them.
        let unheard = |it: &ReasonView| lacks(Missing::Owners) && it.reason == Reason::OwnerRemoved.as_str();
        // How many approvals are needed is open as long as no policy permits it.
        let untold = |it: &ReasonView| policies.is_empty() && it.reason == Reason::AwaitingApproval.as_str();
        let others = reasons(opinion).into_iter();
        let others = others.filter(|it| !by_points(it) && !unheard(it) && !untold(it));
        let (against, waits): (Vec<_>, Vec<_>) = others.partition(|it| refuses(it.reason));
        let unknown = opinion
            .gaps
            .iter()
            .any(|gap| gap.missing.hides_policies() || gap.missing == Missing::Integration);
        let answer = if unknown {
            "unknown"
        } else if failing.is_empty() && against.is_empty() && !policies.is_empty() {
            "permitted"
        } else {
            "refused"
        };
        Self {
            namespace,
            grant,
            answer,
            policies,
            nearest,
            asks_for: judgement.and_then(|it| it.terms.as_ref()).map(asked_for),
            failing: if unknown { Vec::new() } else { failing },
            against: if unknown { Vec::new() } else { against },
            waits: if unknown { Vec::new() } else { waits },
            incomplete: opinion.gaps.iter().map(ToString::to_string).collect(),
        }
    }

    fn write(&self, out: &mut Text) {
        let place = format!("{}/{}", self.namespace, self.grant);
        let asks = self.asks_for.as_deref().unwrap_or("nothing");
        out.line(
            0,
            &match self.answer {
                "permitted" => format!("{place}: permitted by {}, asks for {asks}", self.policies.join(", ")),
                "refused" => match &self.nearest {
                    Some(nearest) => format!("{place}: refused; nearest is policy {nearest}"),
                    None => format!("{place}: refused"),
                },
                _ => format!("{place}: can't be judged"),
            },
        );
        out.points(&self.failing);
        for reason in &self.against {
            out.line(1, &format!("no  {:<26} {}", reason.reason, reason.message));
        }
        for reason in &self.waits {
            out.line(1, &format!("    {:<26} {}", reason.reason, reason.message));
        }
        for gap in &self.incomplete {
            out.line(1, &format!("incomplete: {gap}"));
        }
    }
}

/// For a terminal.
#[must_use]
pub fn text(checked: &[Checked]) -> String {
    let mut out = Text(String::new());
    for it in checked {
        it.write(&mut out);
    }
    out.0.truncate(out.0.trim_end().len());
    out.0
}

/// The answer about all of them: what can't be judged goes before what is refused.
#[must_use]
pub fn answer(checked: &[Checked]) -> Answer {
    let any = |answer: &str| checked.iter().any(|it| it.answer == answer);
    if any("unknown") {
        Answer::Unknown
    } else if any("refused") {
        Answer::No
    } else {
        Answer::Yes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::v1alpha1::AccessGrant;
    use crate::cli::world::{World, integration_key};
    use crate::domain::fixtures::{at, grant, integration, owner, policy};
    use crate::domain::verdict::Namespace;

    fn world() -> World {
        let namespace = Namespace {
            labels: [("partners.example/allowed".to_owned(), "true".to_owned())].into(),
            enrolled: true,
            ..Namespace::default()
        };
        World {
            integrations: [(integration_key(&grant()), integration())].into(),
            owners: ["alice", "bob"].map(|name| (name.to_owned(), owner(name))).into(),
            policies: [("read-only-partners".to_owned(), policy())].into(),
            namespaces: [("payments".to_owned(), namespace)].into(),
            ..World::default()
        }
    }

    fn check(world: &World, grant: &AccessGrant) -> (&'static str, String) {
        let checked = Checked::of(&world.judge(grant, at("2026-12-01T00:00:00Z")));
        (checked.answer, text(std::slice::from_ref(&checked)))
    }

    #[test]
    fn what_waits_for_people_and_dates_alone_is_permitted() {
        let mut later = grant();
        later.spec.starts_at = Some(at("2026-12-05T00:00:00Z"));
        let (answer, text) = check(&world(), &later);
        assert_eq!(answer, "permitted");
        assert_eq!(
            text,
            "payments/acme-billing-reader: permitted by read-only-partners, asks for 1 approval
      AwaitingApproval           1 approval asked for
      Scheduled                  spec.startsAt 2026-12-05T00:00:00Z is yet to come"
        );
    }

    #[test]
    fn owners_ends_and_enrolment_refuse_too_and_unknown_owners_do_not() {
        let mut world = world();
        world.owners.remove("bob");
        assert!(
            check(&world, &grant())
                .1
                .contains("no  OwnerRemoved               AccessOwner bob does not exist")
        );
        world.owners.clear();
        world.lacks(Missing::Owners, "", "none given".to_owned());
        assert_eq!(check(&world, &grant()).0, "permitted");
        let mut ended = grant();
        ended.spec.expires_at = at("2026-11-30T00:00:00Z");
        assert_eq!(check(&world, &ended).0, "refused");
        for namespace in world.namespaces.values_mut() {
            namespace.enrolled = false;
        }
        assert_eq!(check(&world, &grant()).0, "refused");
    }

    #[test]
    fn without_policies_labels_or_integration_nothing_is_made_up() {
        for missing in [Missing::Policies, Missing::Namespace, Missing::Integration] {
            let mut world = world();
            let name = if missing == Missing::Integration {
                "acme-billing"
            } else {
                "payments"
            };
            world.lacks(missing, name, "\u{1b}not there".to_owned());
            let (answer, text) = check(&world, &grant());
            assert_eq!(answer, "unknown", "{missing:?}");
            assert!(
                text.starts_with("payments/acme-billing-reader: can't be judged\n  incomplete: \\u{1b}"),
                "{text}"
            );
        }
        let mut world = world();
        world.integrations = BTreeMap::new();
        assert_eq!(check(&world, &grant()).0, "refused", "it does not exist, as is known");
    }

    #[test]
    fn what_a_delegate_wrote_is_refused_though_the_files_do_not_say_so() {
        let bot = "system:serviceaccount:gitops:applier";
        let (mut by_grant, mut by_integration) = (World::default(), World::default());
        let mut applied = grant();
        applied.spec.contributors = vec![bot.into()];
        by_grant.grants = [(key(&applied), applied)].into();
        let mut applied = integration();
        applied.spec.contributors = vec![bot.into()];
        by_integration.integrations = [(integration_key(&grant()), applied)].into();
        for there in [by_grant, by_integration] {
            let mut world = world();
            world.grants = [(key(&grant()), grant())].into();
            assert_eq!(check(&world, &grant()).0, "permitted", "not applied yet");
            world.goes_on_with(there);
            let coming = world.grants[&key(&grant())].clone();
            let (answer, text) = check(&world, &coming);
            assert_eq!(answer, "refused");
            assert!(
                text.contains("written by system:serviceaccount:gitops:applier"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_judged_goes_before_what_is_refused() {
        let world = world();
        let now = at("2026-12-01T00:00:00Z");
        let permitted = Checked::of(&world.judge(&grant(), now));
        let with = |answer: &'static str| Checked {
            answer,
            ..permitted.clone()
        };
        assert_eq!(answer(std::slice::from_ref(&permitted)), Answer::Yes);
        assert_eq!(answer(&[permitted.clone(), with("refused")]), Answer::No);
        assert_eq!(answer(&[with("unknown"), with("refused"), permitted]), Answer::Unknown);
    }
}
