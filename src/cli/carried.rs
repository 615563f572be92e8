//! What the cluster knows of objects that files hold anew: whose they are, and what became of them. Pure.

use crate::api::v1alpha1::{AccessGrant, PartnerIntegration, Principal};

/// Gives a grant of a file what it keeps when it is applied over the one that stands there.
pub fn into_grant(coming: &mut AccessGrant, standing: &AccessGrant) {
    let (metadata, before) = (&mut coming.metadata, &standing.metadata);
    metadata.uid.clone_from(&before.uid);
    metadata.creation_timestamp.clone_from(&before.creation_timestamp);
    metadata.generation = before.generation;
    coming.status.clone_from(&standing.status);
    asked_for_grant(coming, standing);
}

/// Gives an integration of a file what it keeps when it is applied over the one that stands there.
pub fn into_integration(coming: &mut PartnerIntegration, standing: &PartnerIntegration) {
    let (metadata, before) = (&mut coming.metadata, &standing.metadata);
    metadata.uid.clone_from(&before.uid);
    metadata.creation_timestamp.clone_from(&before.creation_timestamp);
    metadata.generation = before.generation;
    coming.status.clone_from(&standing.status);
    asked_for_integration(coming, standing);
}

/// Who asked for the grant that stands there has a part in what replaces it, and so has everybody who changed it.
pub fn asked_for_grant(coming: &mut AccessGrant, standing: &AccessGrant) {
    let (coming, standing) = (&mut coming.spec, &standing.spec);
    asked_by(&mut coming.requested_by, &standing.requested_by);
    changed_by(&mut coming.contributors, &standing.contributors);
}

/// As of a grant.
pub fn asked_for_integration(coming: &mut PartnerIntegration, standing: &PartnerIntegration) {
    let (coming, standing) = (&mut coming.spec, &standing.spec);
    asked_by(&mut coming.requested_by, &standing.requested_by);
    changed_by(&mut coming.contributors, &standing.contributors);
}

/// The API server lets nobody change who asked: a file that says another, or nobody, changes nothing about it.
fn asked_by(coming: &mut Option<Principal>, standing: &Option<Principal>) {
    if standing.is_some() {
        coming.clone_from(standing);
    }
}

/// Nor is anybody taken off.
fn changed_by(coming: &mut Vec<Principal>, standing: &[Principal]) {
    for other in standing {
        if !coming.contains(other) {
            coming.push(other.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{grant, integration};

    #[test]
    fn who_asked_and_who_changed_it_stay_whatever_the_file_says() {
        let bot: Principal = "system:serviceaccount:gitops:applier".into();
        let mut standing = grant();
        standing.spec.contributors = vec![bot.clone()];
        let mut coming = grant();
        coming.metadata.uid = None;
        coming.spec.requested_by = Some("somebody@corp.example".into());
        coming.spec.contributors = vec!["erin@corp.example".into()];
        into_grant(&mut coming, &standing);
        assert_eq!(coming.metadata.uid, standing.metadata.uid);
        assert_eq!(coming.spec.requested_by, standing.spec.requested_by);
        assert_eq!(coming.spec.contributors, ["erin@corp.example".into(), bot.clone()]);

        let mut standing = integration();
        standing.spec.contributors = vec![bot.clone()];
        let mut coming = integration();
        coming.spec.requested_by = None;
        into_integration(&mut coming, &standing);
        assert_eq!(coming.spec.requested_by, standing.spec.requested_by);
        assert_eq!(coming.spec.contributors, [bot]);

        standing.spec.requested_by = None;
        let mut coming = integration();
        asked_for_integration(&mut coming, &standing);
        assert!(
            coming.spec.requested_by.is_some(),
            "the file's word, where there is no other"
        );
    }
}
