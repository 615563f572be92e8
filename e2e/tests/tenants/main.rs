//! A hostile tenant points every text field and reference of the API at another tenant: nothing of the other is read, touched or
//! told (invariants F17 and F18).
#![expect(clippy::disallowed_types, reason = "tests drive a real cluster")]

mod answers;
mod attack;
mod attacker;
mod hostile;
mod places;
mod victim;
