//! The demo's manifests: those of `deploy/samples/`, with other dates and names and nothing else.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;

use crate::operator::workspace;

/// Days until the agreement of the demo ends.
const AGREEMENT_DAYS: i64 = 180;
const DAY: i64 = 24 * 60 * 60;

/// Names and dates of the samples that the demo changes.
mod sample {
    pub(super) const GRANT_END: &str = "2027-02-15T00:00:00Z";
    pub(super) const AGREEMENT_END: &str = "2027-06-30T00:00:00Z";
    pub(super) const GRANT: &str = "acme-billing-reader";
    pub(super) const SECRET: &str = "acme-billing-credential";
    pub(super) const DECISION: &str = "acme-billing-reader-example";
    pub(super) const UID: &str = "00000000-0000-0000-0000-000000000000";
    pub(super) const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    pub(super) const DECIDER: &str = "dave@corp.example";
    pub(super) const TECHNICAL_OWNER: &str = "technicalRef: {name: bob}";
}

/// A sample as it is.
pub fn as_it_is(name: &str, dir: &Path) -> Result<()> {
    changed(name, name, dir, &[])
}

/// The integration, with an agreement that is in force.
pub fn integration(into: &str, technical_owner: &str, dir: &Path) -> Result<()> {
    let end = in_seconds(AGREEMENT_DAYS * DAY)?.to_string();
    let owner = format!("technicalRef: {{name: {technical_owner}}}");
    let changes = [
        (sample::AGREEMENT_END, end.as_str()),
        (sample::TECHNICAL_OWNER, owner.as_str()),
    ];
    changed("05-integration.yaml", into, dir, &changes)
}

/// The grant, by another name where one is given, with its end.
pub fn grant(into: &str, names: Option<(&str, &str)>, end: Timestamp, dir: &Path) -> Result<()> {
    let end = end.to_string();
    let mut changes = vec![(sample::GRANT_END, end.as_str())];
    if let Some((grant, secret)) = names {
        changes.extend([(sample::GRANT, grant), (sample::SECRET, secret)]);
    }
    changed("06-grant.yaml", into, dir, &changes)
}

/// An approval of exactly what stands there, by somebody.
pub fn decision(into: &str, name: &str, of: (&str, &str), by: &str, dir: &Path) -> Result<()> {
    let (uid, digest) = of;
    let changes = [
        (sample::DECISION, name),
        (sample::UID, uid),
        (sample::DIGEST, digest),
        (sample::DECIDER, by),
    ];
    changed("08-decision.yaml", into, dir, &changes)
}

/// Who may fetch the credential of another grant.
pub fn receiver(into: &str, secret: &str, dir: &Path) -> Result<()> {
    changed("09-receiver.yaml", into, dir, &[(sample::SECRET, secret)])
}

/// A whole second, so many seconds from now.
pub fn in_seconds(seconds: i64) -> Result<Timestamp> {
    Ok(Timestamp::from_second(Timestamp::now().as_second() + seconds)?)
}

fn changed(sample: &str, into: &str, dir: &Path, changes: &[(&str, &str)]) -> Result<()> {
    let path = workspace().join("deploy/samples").join(sample);
    let mut text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for (from, to) in changes {
        ensure!(text.contains(from), "{} does not hold {from}", path.display());
        text = text.replace(from, to);
    }
    std::fs::write(dir.join(into), text).with_context(|| format!("cannot write {into}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_dates_differ_from_the_samples() {
        let dir = tempfile::tempdir().unwrap();
        let end = in_seconds(75).unwrap();
        grant("g.yaml", Some(("second", "second-credential")), end, dir.path()).unwrap();
        integration("i.yaml", "frank", dir.path()).unwrap();
        for (sample, made, changed) in [("06-grant.yaml", "g.yaml", 3), ("05-integration.yaml", "i.yaml", 2)] {
            let before = std::fs::read_to_string(workspace().join("deploy/samples").join(sample)).unwrap();
            let after = std::fs::read_to_string(dir.path().join(made)).unwrap();
            let differing = before.lines().zip(after.lines()).filter(|(a, b)| a != b).count();
            assert_eq!(
                (before.lines().count(), differing),
                (after.lines().count(), changed),
                "{made}"
            );
        }
    }
}
