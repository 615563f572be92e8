//! From a verdict and what is there to the one next step. Pure: no I/O, no clock, no randomness.
//!
//! Active means that everything exists; inactive, that nothing that grants access exists. A step is planned from what is
//! observed, never from what was done before, so that an interrupted one is found and put right by the next.

pub mod announcement;
pub mod children;
pub mod decision;
pub mod integration;
mod outcome;
mod recertification;
mod step;
mod summary;
#[cfg(test)]
mod tests;

use crate::api::v1alpha1::{AccessGrantStatus, ChildKind, ChildRef, Instant, MOST_ASKED};
use crate::domain::lifetime::TokenAsk;

pub use outcome::{Minted, issued, rotated};
pub use step::plan;

/// A live grant is judged again at least this often, in seconds: timers are hints.
pub const LOOK_AGAIN: i64 = 60;
/// After drift, a grant is activated again at most this often, in seconds.
pub const REACTIVATE_AFTER: i64 = 60;

/// An object of a grant, as it is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Child {
    /// Its kind; the order is the one in which children are taken away.
    pub kind: ChildKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Hash of what it grants: a Role's rules, a binding's role and subjects; empty for other kinds.
    pub content: String,
    /// Somebody else wrote into a Secret's data: the field manager's name.
    pub foreign_writer: Option<String>,
}

impl From<ChildRef> for Child {
    fn from(child: ChildRef) -> Self {
        Self {
            kind: child.kind,
            namespace: child.namespace,
            name: child.name,
            uid: child.uid,
            content: String::new(),
            foreign_writer: None,
        }
    }
}

/// What is there of one grant, and what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Every object of the grant: by reserved name, and by recorded UID or our annotation.
    pub children: Vec<Child>,
    /// Recorded objects that nobody sees, though the operator may look there: without their label they are not told of.
    pub unseen: Vec<Child>,
    /// Objects of the grant in namespaces that don't let the operator in any more.
    pub beyond_reach: Vec<Child>,
    /// Whether the namespace of the delivery Secret is watched by now: if not, its absence means nothing.
    pub delivery_known: bool,
    /// Our finalizer is on the grant.
    pub finalizer: bool,
    /// What the annotation that asks for a rotation says, by [`rotation_asked`].
    pub rotate_requested: Option<String>,
}

/// What the annotation asks, cut to what a status can hold as answered: the annotation itself can be long.
#[must_use]
pub fn rotation_asked(annotation: &str) -> String {
    annotation.chars().take(MOST_ASKED).collect()
}

/// The next step and the status to write once it is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The step.
    pub step: Step,
    /// The status after it; of an issue or a rotation, the claim that goes before it.
    pub status: AccessGrantStatus,
    /// When to look again, in seconds, at least 1.
    pub again_in: i64,
}

/// One step; each is safe to be interrupted anywhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing but the status.
    Rest,
    /// Take these away, in this order, each until it is gone.
    Close(Vec<Child>),
    /// Make everything, the bindings last.
    Issue(Issue),
    /// Deliver another token.
    Rotate(Rotate),
    /// Take away what is of no use any more: anchors of tokens that are not delivered, and what an earlier activation left.
    Retire(Vec<Child>),
    /// Let the grant go.
    Finish,
}

impl Step {
    /// The step in one word, for logs and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Close(_) => "close",
            Self::Issue(_) => "issue",
            Self::Rotate(_) => "rotate",
            Self::Retire(_) => "retire",
            Self::Finish => "finish",
        }
    }
}

/// What an activation needs to know; the shell mints.
#[derive(Clone, Debug, PartialEq)]
pub struct Issue {
    /// Its number.
    pub activation: i64,
    /// The token to ask for; none where the credential is a static one.
    pub token: Option<TokenAsk>,
    /// When access ends.
    pub until: Instant,
    /// The finalizer is yet to be set.
    pub add_finalizer: bool,
}

/// What a rotation needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotate {
    /// The generation to mint.
    pub generation: i64,
    /// The token to ask for.
    pub token: TokenAsk,
    /// When access ends.
    pub until: Instant,
    /// The request that it answers: the annotation's value.
    pub answers: Option<String>,
    /// When the generation before stops working; at once where it was asked for, or where somebody tampered.
    pub retire_at: Instant,
}
