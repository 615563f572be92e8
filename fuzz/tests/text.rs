//! Every parser of text that somebody else wrote: no input is taken that breaks the rules, none makes it panic, and what is said of
//! a bad one can be shown.
#![expect(clippy::unwrap_used, reason = "a panic is what fails here")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wayleave::api::v1alpha1::{Instant, Period};
use wayleave::cli::certify::campaign;
use wayleave::cli::directory::{Person, Problem, compare, is_label, read_csv, read_scim};
use wayleave::cli::documents::Documents;
use wayleave::domain::admission::{Proof, Proofs};
use wayleave::domain::digest::digest;
use wayleave::domain::names;
use wayleave::domain::text::{bounded, escape, is_hostile};
use wayleave::plan::rotation_asked;
use wayleave_fuzz::text;

/// So many inputs beside the corpus in every run.
const INPUTS: usize = 20_000;
/// The same where each takes long.
const INPUTS_OF_FILES: usize = 3_000;
const SAMPLES: [&str; 3] = [
    include_str!("../../deploy/samples/03-owners.yaml"),
    include_str!("../../deploy/samples/05-integration.yaml"),
    include_str!("../../deploy/samples/06-grant.yaml"),
];
const CAMPAIGN: &str =
    "- {namespace: payments, integration: acme-billing, keep: [reader], revoke: [writer], reason: It is used}\n";
const ROWS: &str = "name,displayName,email,usernames,active,until\nalice,Alice Doe,alice@corp.example,alice;adm-alice,true,2027-01-01\n\"bob\",Bob,b@c.example,bob,false,\n";
const SCIM: &str = r#"{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":1,"Resources":[{"userName":"alice@corp.example","displayName":"Alice Doe","active":true,"emails":[{"value":"alice@corp.example","primary":true}]}]}"#;
const RECORD: &str = r#"{"fingerprint":"ab","periods":[{"since":"2026-12-01T00:00:00Z","until":"2026-12-02T00:00:00Z"},{"since":"2026-12-03T00:00:00Z"}],"broken":false}"#;

fn now() -> Instant {
    Instant::new(Timestamp::from_second(1_796_000_000).unwrap())
}

fn is_shown_safely(words: &str) {
    let hostile = words
        .chars()
        .find(|character| is_hostile(*character) && *character != '\n');
    assert_eq!(hostile, None, "{words:?}");
}

/// Whatever was read is written and read again as it is.
fn survives<T: Serialize + DeserializeOwned>(value: &T) {
    let written = serde_json::to_value(value).unwrap();
    let read: T = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), written);
}

#[test]
fn objects_from_files() {
    bolero::check!()
        .with_iterations(INPUTS_OF_FILES)
        .with_max_len(512)
        .for_each(|input: &[u8]| {
            let mut documents = Documents::default();
            documents.read("file.yaml", &text(input, &SAMPLES), "payments");
            for fault in &documents.faults {
                is_shown_safely(&fault.words);
                is_shown_safely(fault.object.as_deref().unwrap_or_default());
            }
            documents.ignored.iter().for_each(|words| is_shown_safely(words));
            documents.owners.values().for_each(survives);
            for integration in documents.integrations.values() {
                survives(integration);
                for grant in documents.grants.values() {
                    survives(grant);
                    let targets: BTreeMap<String, String> = grant
                        .target_namespaces()
                        .into_iter()
                        .map(|name| (name, "uid".to_owned()))
                        .collect();
                    let one = digest(integration, grant, &targets);
                    assert_eq!(one.digest, digest(integration, grant, &targets).digest);
                    assert!(one.digest.len() == 71 && one.digest.starts_with("sha256:"));
                }
            }
        });
}

#[test]
fn campaigns() {
    bolero::check!()
        .with_iterations(INPUTS)
        .with_max_len(512)
        .for_each(|input: &[u8]| {
            if let Ok(wishes) = campaign(&text(input, &[CAMPAIGN])) {
                assert!(!wishes.is_empty());
                for wish in wishes {
                    let mut named: Vec<&String> = wish.keep.iter().chain(&wish.revoke).collect();
                    let all = named.len();
                    assert_ne!(all, 0, "what is neither kept nor revoked is no wish");
                    named.sort();
                    named.dedup();
                    assert_eq!(named.len(), all, "named twice");
                    is_shown_safely(&wish.reason);
                }
            }
        });
}

fn people_are_sound(read: Result<Vec<Person>, Vec<Problem>>) {
    let people = match read {
        Ok(people) => people,
        Err(problems) => return assert!(!problems.is_empty(), "refused, and nobody knows why"),
    };
    for person in &people {
        assert!(is_label(&person.name), "{}", person.name);
        is_shown_safely(&person.display_name);
        assert!(person.usernames.len() <= 16);
        for username in &person.usernames {
            assert!(!username.is_empty() && username.len() <= 253 && username.trim() == username);
            is_shown_safely(username);
        }
    }
    if let Ok(diff) = compare(&people, &[], "directory", true, now()) {
        diff.changes
            .iter()
            .for_each(|change| is_shown_safely(&change.describe()));
    }
}

#[test]
fn directories_in_rows() {
    bolero::check!()
        .with_iterations(INPUTS)
        .with_max_len(512)
        .for_each(|input: &[u8]| {
            people_are_sound(read_csv(&text(input, &[ROWS])));
        });
}

#[test]
fn directories_in_scim() {
    bolero::check!()
        .with_iterations(INPUTS)
        .with_max_len(512)
        .for_each(|input: &[u8]| {
            people_are_sound(read_scim(&text(input, &[SCIM])));
        });
}

#[test]
fn dates_and_periods() {
    let seeds = [
        "2026-12-01T00:00:00Z",
        "2026-12-01T00:00:00+02:00",
        "90d",
        "1h30m",
        "900s",
    ];
    bolero::check!()
        .with_iterations(INPUTS)
        .with_max_len(64)
        .for_each(|input: &[u8]| {
            let text = text(input, &seeds);
            if let Ok(at) = text.parse::<Instant>() {
                assert_eq!(at.to_string().parse::<Instant>().unwrap(), at);
                // Whatever is added, it stays a date.
                for seconds in [i64::MIN, -1, 1, i64::MAX] {
                    survives(&at.plus(seconds));
                }
            }
            if let Ok(period) = text.parse::<Period>() {
                assert_eq!(
                    period.to_string().parse::<Period>().unwrap().as_seconds(),
                    period.as_seconds()
                );
                assert!(period.as_seconds() >= 0);
            }
        });
}

#[test]
fn the_record_of_proofs() {
    bolero::check!()
        .with_iterations(INPUTS)
        .with_max_len(256)
        .for_each(|input: &[u8]| {
            let Ok(mut proofs) = serde_json::from_str::<Proofs>(&text(input, &[RECORD])) else {
                return;
            };
            survives(&proofs);
            proofs.take(&Proof {
                at: now(),
                refused: input.len().is_multiple_of(2),
                fingerprint: "cd",
                dated: now().plus(-100),
                seen: now().plus(-100),
                before: None,
            });
            assert!(
                !proofs.held_at(now()) || input.len().is_multiple_of(2),
                "it holds what nobody proved"
            );
        });
}

#[test]
fn names_and_words() {
    let seeds = [
        "wlg-0123456789abcdef-1-2",
        "wlg-0123456789abcdef-9223372036854775807",
        "2026-12-01T00:00:00Z",
    ];
    bolero::check!()
        .with_iterations(INPUTS)
        .with_max_len(128)
        .for_each(|input: &[u8]| {
            let name = text(input, &seeds);
            let _ = (
                names::grant_key_of(&name),
                names::is_anchor(&name),
                names::is_static_access(&name),
            );
            if let Some(generation) = names::generation_of(&name, "uid", 1) {
                assert_eq!(names::anchor("uid", 1, generation), name);
            }
            is_shown_safely(&escape(&name));
            for longest in [0, 1, 2, 3, 16] {
                let cut = bounded(name.clone(), longest);
                assert!(cut == name || cut.len() <= longest.max(3), "{cut:?}");
            }
            assert!(rotation_asked(&name).chars().count() <= 256);
        });
}
