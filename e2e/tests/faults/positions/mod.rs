//! Single faults at every write position of a grant's life, and of the end of all grants: who writes is killed before, between
//! and after, or an answer is lost. Behind the proxy that does so is the real API server, and what counts is what is there at
//! the end: the same as without the fault, with no token that works and nothing foreign touched.

mod bystanders;
mod codes;
mod kills;
mod oracle;
mod picture;
mod scenario;
mod shape;
mod shots;
mod stand;
mod starts;
mod tokens;
mod uninstalls;
