//! Version `v1alpha1`: one kind a file, and the scalars and fragments that they share.

mod access_decision;
mod access_grant;
mod access_owner;
mod access_policy;
mod access_record;
mod common;
mod grant_status;
mod partner_integration;
mod scalar;

pub use access_decision::*;
pub use access_grant::*;
pub use access_owner::*;
pub use access_policy::*;
pub use access_record::*;
pub use common::*;
pub use grant_status::*;
pub use partner_integration::*;
pub use scalar::*;
