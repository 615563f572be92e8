//! What the attacker is told, made comparable: of two texts, one of which names something of the victim and the other nothing,
//! the answers must be the same.

use serde_json::{Value, json};
use wayleave_e2e::tenant::text;

/// The conditions of an object without what every object has to itself. `names` are all that may have been written, the
/// longest first.
pub fn of(object: &Value, names: &[&str]) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let meta = &object["metadata"];
    let own = [text(&meta["name"]), text(&meta["uid"])];
    let plain = |condition: &Value| {
        // Which of the attacker's many approvals of one grant count is a matter of their order.
        if condition["reason"] == "Surplus" || condition["reason"] == "Counted" {
            return json!([condition["type"], "counts, or is one too many"]);
        }
        let message = comparable(&text(&condition["message"]), names, &own);
        json!([condition["type"], condition["status"], condition["reason"], message])
    };
    conditions.iter().map(plain).collect()
}

/// A message with marks in place of what was written, of names of its own, of digests and instants.
fn comparable(message: &str, names: &[&str], own: &[String; 2]) -> String {
    let mut message = message.to_owned();
    for name in names {
        message = message.replace(name, "<name>");
    }
    for own in own {
        message = message.replace(own.as_str(), "<own>");
    }
    let words = message.split(' ').map(|word| {
        let plain = word.trim_matches([',', ';', ':', '(', ')', '.']);
        let is_digest = plain.starts_with("sha256:");
        let is_instant = plain.parse::<jiff::Timestamp>().is_ok();
        if is_digest || is_instant { "<varies>" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn answers_differ_only_in_what_is_told() {
    let answer = |name: &str, message: &str| {
        let object = json!({"metadata": {"name": name, "uid": "u-1"}, "status": {"conditions": [
            {"type": "Ready", "status": "False", "reason": "NotPermitted", "message": message, "lastTransitionTime": "x"},
        ]}});
        of(&object, &["nobody", "victim"])
    };
    let one = answer(
        "x-1",
        "x-1: victim is not selected until 2026-01-01T00:00:00Z, sha256:ab",
    );
    let other = answer(
        "x-2",
        "x-2: nobody is not selected until 2026-01-02T00:00:00Z, sha256:cd",
    );
    assert_eq!(one, other);
    assert_ne!(one, answer("x-2", "x-2: there is no nobody"));
}
