//! The kubectl plugin: decisions and credentials from the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    wayleave::cli::main(std::env::args_os())
}
