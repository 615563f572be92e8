//! The benchmark: what Wayleave costs and how fast it is, beside a raw client that makes the same calls in the same run.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`run`](mod@run) | the order of everything that is measured |
//! | `field` | the cluster, its people, and sets of grants that are asked for and approved |
//! | `ours` | what Wayleave makes of a set: issued, rotated, ended |
//! | `ruler` | the raw client: the same objects by the same calls, nothing around them |
//! | `single` | one grant alone: from the approval to the first answer, from the end to the first refusal |
//! | `load` | ten thousand grants: memory, a restart, churn |
//! | `meter` | numbers from the audit log, from the operator's metrics and from `/proc` |
//! | [`report`] | rows, and how they are shown and kept |
//! | [`picture`] | the rows as an SVG |
//!
//! How each number is come by stands in `docs/benchmark.md`.

mod field;
mod load;
mod meter;
mod ours;
pub mod picture;
pub mod report;
mod ruler;
pub mod run;
mod single;

pub use report::{Report, Row};
pub use run::{Part, Sizes, run};
