//! What of an object matters to others, as it was last seen: what changes it is told, and nothing else.

use super::Guarded;

/// What tells two states of an object apart but for status and labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    uid: Option<String>,
    generation: Option<i64>,
    is_deleting: bool,
    is_readable: bool,
}

/// What tells two states of a grant apart but for labels and, of the status, all but whether it is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GrantShape {
    pub(super) shape: Shape,
    pub(super) finalizers: Vec<String>,
    pub(super) rotate_requested: Option<String>,
    pub(super) is_active: bool,
}

impl GrantShape {
    /// Whether anybody but the operator changed it.
    pub(super) fn is_another(&self, now: &Self) -> bool {
        let of_others = |it: &Self| (it.shape.clone(), it.finalizers.clone(), it.rotate_requested.clone());
        of_others(self) != of_others(now)
    }
}

impl Shape {
    pub(super) fn of<K: kube::Resource>(object: &Guarded<K>) -> Self
    where
        Guarded<K>: kube::Resource,
    {
        let meta = kube::Resource::meta(object);
        Self {
            uid: meta.uid.clone(),
            generation: meta.generation,
            is_deleting: meta.deletion_timestamp.is_some(),
            is_readable: object.0.is_ok(),
        }
    }
}
