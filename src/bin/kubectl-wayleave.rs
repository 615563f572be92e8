//! The kubectl plugin: requests, decisions and credentials from the command line.

fn main() {}
