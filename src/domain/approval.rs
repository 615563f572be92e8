//! Which decisions count: approvals by people other than those who asked, of exactly what stands there now, and the
//! denials and revocations that void them.
//!
//! An approval counts when it is of this grant (UID) and this digest, was made after the last Deny, Revoke, owner removal
//! and replacement of the digest, with the owners of today, by somebody who may approve in every namespace reached and had
//! no hand in the request. Its dates are frozen in status when it is first counted; later edits can only shorten them.

mod checked;
mod counted;
mod kept;
mod lines;
mod review;
mod standing;
#[cfg(test)]
mod tests;

pub use counted::unweighed;
pub use kept::Covered;
#[cfg(test)]
pub(crate) use lines::is_within;
pub use lines::{describe, merged};
pub use review::ReviewOutcome;
pub use standing::{Confirmation, Objection, Question, Standing, consider};
