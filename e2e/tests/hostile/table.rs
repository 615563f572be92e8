//! The table of all attempts, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use wayleave_e2e::progress;

use crate::allowed;
use crate::attempt::{Answer, Attempt};
use crate::cluster::{Attacker, World};

const AT_ONCE: usize = 16;

/// An attempt of an attacker and what came of it.
pub struct Outcome<'a> {
    pub attacker: &'a Attacker,
    pub attempt: &'a Attempt,
    pub answer: Answer,
}

/// Everybody tries everything. Nothing is stored, but where a token would be given: of these there is no dry run.
pub async fn play<'a>(world: &'a World, attempts: &'a [Attempt]) -> Result<Vec<Outcome<'a>>> {
    let each = world
        .attackers
        .iter()
        .flat_map(|attacker| attempts.iter().map(move |attempt| (attacker, attempt)));
    let tries = each.map(|(attacker, attempt)| async move {
        let is_token = attempt.resource == "serviceaccounts/token";
        let (answer, _) = attempt.request.send(&attacker.client, !is_token).await?;
        Ok::<_, anyhow::Error>(Outcome {
            attacker,
            attempt,
            answer,
        })
    });
    stream::iter(tries).buffered(AT_ONCE).try_collect().await
}

/// Shows the table: a line for each attacker, verb and kind, with how often which answer came.
pub fn show(outcomes: &[Outcome<'_>], begun: Instant) {
    let mut cells: BTreeMap<(&str, &str, &str), BTreeMap<String, usize>> = BTreeMap::new();
    let mut totals: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for Outcome {
        attacker,
        attempt,
        answer,
    } in outcomes
    {
        let cell = cells
            .entry((&attempt.resource, attempt.verb, attacker.name))
            .or_default();
        *cell.entry(answer.to_string()).or_default() += 1;
        *totals
            .entry(attacker.name)
            .or_default()
            .entry(answer.to_string())
            .or_default() += 1;
    }
    let words = |counts: &BTreeMap<String, usize>| {
        let each = counts.iter().map(|(answer, count)| format!("{count} {answer}"));
        each.collect::<Vec<_>>().join(", ")
    };
    for ((resource, verb, attacker), counts) in &cells {
        if counts.keys().any(|answer| answer != "no right") {
            progress(&format!("{resource} | {verb} | {attacker} | {}", words(counts)));
        }
    }
    let kinds: BTreeSet<&str> = outcomes.iter().map(|it| it.attempt.resource.as_str()).collect();
    let verbs: BTreeSet<&str> = outcomes.iter().map(|it| it.attempt.verb).collect();
    for (attacker, counts) in &totals {
        progress(&format!("{attacker}: {}", words(counts)));
    }
    progress(&format!(
        "{} attempts of {} attackers: {} verbs, {} resources, {} cells of the table, after {:?}",
        outcomes.len(),
        totals.len(),
        verbs.len(),
        kinds.len(),
        cells.len(),
        begun.elapsed(),
    ));
}

/// Policies of the pack that speak of others than these attackers: of the operator, of who writes for the whole cluster or beside the operator, of sizes,
/// and of who deletes what was decided about his own request.
const OF_OTHERS: [&str; 10] = [
    "decisions-kept-grants",
    "decisions-kept-integrations",
    "operator-limits",
    "operator-pod",
    "operator-spec",
    "operator-tokens",
    "own-records",
    "policy-authority",
    "records",
    "sizes",
];

/// Every policy of the pack stood in somebody's way, so that none of them was idle.
pub async fn every_policy_refused(world: &World, outcomes: &[Outcome<'_>]) -> Result<()> {
    let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let list: Value = world.root.request(http::Request::get(path).body(Vec::new())?).await?;
    let names = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["metadata"]["name"].as_str());
    let names: BTreeSet<&str> = names.filter_map(|it| it.strip_prefix("wayleave-")).collect();
    let refused: BTreeSet<&str> = outcomes
        .iter()
        .filter_map(|it| {
            if let Answer::Policy(name) = &it.answer {
                Some(name.as_str())
            } else {
                None
            }
        })
        .collect();
    let idle: Vec<&&str> = names
        .iter()
        .filter(|it| !refused.contains(*it) && !OF_OTHERS.contains(it))
        .collect();
    ensure!(idle.is_empty() && names.len() > 15, "of {names:?} idle: {idle:?}");
    Ok(())
}

/// Whatever was not refused for want of a right, or by a policy of ours, is explained.
pub fn explained(world: &World, outcomes: &[Outcome<'_>]) -> Result<()> {
    let explanations = allowed::explanations(&world.catalog);
    let mut used = BTreeSet::new();
    let mut unexplained = BTreeSet::new();
    for outcome in outcomes {
        let (attempt, answer) = (outcome.attempt, &outcome.answer);
        if matches!(answer, Answer::NoRight | Answer::Escalation | Answer::Policy(_)) {
            continue;
        }
        match allowed::why(&explanations, outcome) {
            Some(index) => drop(used.insert(index)),
            None => {
                let said = if let Answer::Other(_, said) = answer {
                    said.as_str()
                } else {
                    ""
                };
                unexplained.insert(format!(
                    "{}: {} {} in {:?}, {}: {} -> {answer} {said}",
                    outcome.attacker.name,
                    attempt.verb,
                    attempt.resource,
                    attempt.namespace,
                    attempt.target.as_deref().unwrap_or("a new one"),
                    attempt.what,
                ));
            }
        }
    }
    let all: Vec<String> = unexplained.into_iter().collect();
    ensure!(all.is_empty(), "{} are not explained:\n{}", all.len(), all.join("\n"));
    let idle: Vec<&str> = explanations
        .iter()
        .enumerate()
        .filter(|(index, _)| !used.contains(index))
        .map(|(_, it)| it.why)
        .collect();
    ensure!(idle.is_empty(), "explanations that explain nothing: {idle:?}");
    Ok(())
}
