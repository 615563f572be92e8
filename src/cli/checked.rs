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
