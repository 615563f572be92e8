//! What is said, in text and for machines.

use super::*;
use crate::cli::world::{Missing, World, integration_key};
use crate::domain::fixtures::{at, decision, grant, integration, owner, policy};
use crate::domain::verdict::Namespace;

fn world() -> World {
    let namespace = Namespace {
        uid: "uid-of-payments".to_owned(),
        labels: [("partners.example/allowed".to_owned(), "true".to_owned())].into(),
        enrolled: true,
        terminating: false,
    };
    let mut narrow = policy();
    narrow.metadata.name = Some("narrow".to_owned());
    narrow.spec.limits.duration = Some("30d".parse().unwrap());
    let mut elsewhere = policy();
    elsewhere.metadata.name = Some("elsewhere".to_owned());
    let other = [("team".to_owned(), "ledger".to_owned())];
    elsewhere.spec.namespace_selector.match_labels = other.into();
    let policies = [policy(), narrow, elsewhere].map(|it| (it.metadata.name.clone().unwrap(), it));
    let old = decision(
        "old",
        "Approve",
        "dave@corp.example",
        "sha256:0",
        "2026-11-20T00:00:00Z",
    );
    World {
        integrations: [(integration_key(&grant()), integration())].into(),
        owners: ["alice", "bob"].map(|name| (name.to_owned(), owner(name))).into(),
        policies: policies.into(),
        namespaces: [("payments".to_owned(), namespace)].into(),
        decisions: [(("payments".to_owned(), "old".to_owned()), old)].into(),
        ..World::default()
    }
}

fn explain(world: &World) -> Explanation {
    Explanation::of(&world.judge(&grant(), at("2026-12-01T00:00:00Z")))
}

#[test]
fn everything_is_said_in_text() {
    let text = explain(&world()).text();
    let expected = include_str!("../explanation.txt");
    assert_eq!(text, expected.trim_end(), "\n{text}");
}

#[test]
fn what_could_not_be_read_is_said_and_no_verdict_made_up() {
    let mut world = world();
    world.policies.clear();
    world.lacks(Missing::Policies, "", "listing policies: forbidden\u{1b}[2J".to_owned());
    let explanation = explain(&world);
    let text = explanation.text();
    assert!(text.contains("now: can't be told"), "{text}");
    assert!(
        text.contains("incomplete: listing policies: forbidden\\u{1b}[2J: what the policies say is not known"),
        "{text}"
    );
    assert!(serde_json::to_value(explanation).unwrap()["verdict"].is_null());
}

#[test]
fn machines_get_every_point() {
    let value = serde_json::to_value(explain(&world())).unwrap();
    assert_eq!(value["verdict"]["reason"], "NotPermitted");
    assert_eq!(value["policies"][0]["name"], "narrow");
    let points = value["policies"][0]["points"].as_array().unwrap();
    let duration = points.iter().find(|it| it["name"] == "limits.duration").unwrap();
    assert_eq!(duration["permitted"], false);
    assert_eq!(
        duration["change"],
        "set spec.expiresAt to 2026-12-01T00:00:00Z or earlier"
    );
    assert_eq!(value["together"]["terms"]["requires.approvals"], "1 approval");
}

#[test]
fn what_partners_wrote_does_not_reach_the_terminal() {
    let mut world = world();
    for integration in world.integrations.values_mut() {
        integration.spec.partner.name = "\u{1b}[2J\u{202e}".into();
    }
    let text = explain(&world).text();
    assert!(
        !text.chars().any(|it| it != '\n' && crate::cli::output::is_hostile(it)),
        "{text:?}"
    );
}
