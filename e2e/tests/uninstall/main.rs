//! Away with it: `wayleave uninstall`, helm, the kinds and namespaces in every order, and a store put back to an earlier day.
//! Nothing of ours may hold anything up afterwards, and no credential may work.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive a real cluster"
)]

mod marker;
mod namespaces;
mod orders;
mod restore;
mod stage;
