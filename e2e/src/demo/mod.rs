//! The story that `make demo` plays and a test plays too: a partner gets exactly the access that was approved, uses it, and
//! loses it. Played with the real kubectl, helm and plugin, by people with certificates of their own, on `deploy/samples/`.
//!
//! | module | what it gives |
//! | --- | --- |
//! | [`story`] | the chapters |
//! | [`cast`] | who plays, and the commands they type |
//! | [`partner`] | the partner as a program that reads without a pause |
//! | [`manifests`] | the samples, with other dates and names |
//! | [`stage`] | what is shown, and what was not as expected |

pub mod cast;
pub mod manifests;
pub mod partner;
pub mod stage;
pub mod story;

pub use stage::Stage;
pub use story::{Played, play};
