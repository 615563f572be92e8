//! The pages say what the plugin and the operator have: no command, flag or reason in them is invented, and none is missing.
//! Manifests of the pages are tried by the demo's test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use wayleave::api::conditions::Reason;
use wayleave::cli::args::Args;

const README: &str = include_str!("../README.md");
const CLI: &str = include_str!("../docs/cli.md");
const REQUESTERS: &str = include_str!("../docs/requesters.md");

/// What clap says of a command that stops early.
const LEFT_OUT: [ErrorKind; 3] = [
    ErrorKind::MissingRequiredArgument,
    ErrorKind::InvalidValue,
    ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page for people, by its path.
fn pages() -> Vec<(PathBuf, String)> {
    let mut folders = vec![
        root().join("docs"),
        root().join("docs/decisions"),
        root().join("docs/runbooks"),
        root().join("deploy/samples"),
    ];
    folders.extend(["charts/wayleave", "charts/wayleave-policies"].map(|chart| root().join(chart)));
    let mut paths = vec![root().join("README.md")];
    for folder in folders {
        let entries = std::fs::read_dir(&folder).expect("the folder is there");
        let files = entries.map(|entry| entry.expect("it can be listed").path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|it| it == "md")));
    }
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read_to_string(&path).expect("a page is text"));
    paths.into_iter().map(read).collect()
}

/// The lines of a page's console blocks, joined where a backslash ends one.
fn console_lines(page: &str) -> Vec<String> {
    let blocks = page.split("```console\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default());
    let lines = blocks.flat_map(|block| {
        block
            .replace("\\\n", " ")
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    lines.collect()
}

/// The plugin's words in each command of a line; none of other programs'.
fn of_plugin(line: &str) -> Vec<Vec<String>> {
    let is_mark = |word: &String| ["|", "&&", ";"].contains(&word.as_str());
    let is_redirection = |word: &String| word.starts_with('>') || word.starts_with('<');
    let words = shlex::split(line).unwrap_or_default();
    assert!(
        !words.is_empty() || !line.contains("kubectl wayleave"),
        "quotes without an end: {line}"
    );
    let commands = words.split(is_mark).filter_map(|words| {
        let words = words.split(is_redirection).next().unwrap_or_default();
        let [kubectl, wayleave, rest @ ..] = words else {
            return None;
        };
        (kubectl == "kubectl" && wayleave == "wayleave").then(|| rest.to_vec())
    });
    commands.collect()
}

fn parse(words: &[String]) -> Result<Args, clap::Error> {
    Args::try_parse_from(std::iter::once("kubectl-wayleave").chain(words.iter().map(String::as_str)))
}

/// `--help` and `--version` end the parsing too.
fn is_taken(parsed: &Result<Args, clap::Error>) -> bool {
    parsed.as_ref().err().is_none_or(|error| !error.use_stderr())
}

#[test]
fn every_command_of_the_pages_is_one_that_the_plugin_takes() {
    let mut tried = 0;
    for (path, page) in pages() {
        for line in console_lines(&page) {
            for words in of_plugin(&line) {
                let parsed = parse(&words);
                assert!(is_taken(&parsed), "{}: {line}\n{}", path.display(), parsed.unwrap_err());
                tried += 1;
            }
        }
    }
    assert!(tried > 10, "{tried} commands in all of the pages");
}

/// In a sentence arguments may be left out, and what is there must exist.
#[test]
fn what_the_sentences_call_a_command_exists() {
    let mut tried = 0;
    for (path, page) in pages() {
        let text: String = page.split("```").step_by(2).collect();
        let text = text.replace('\n', " ");
        for span in text.split('`').skip(1).step_by(2) {
            // Any command, and what is left out.
            let span = span.replace("COMMAND", "list").replace(" ...", "");
            for words in of_plugin(&span) {
                let parsed = parse(&words);
                let fault = parsed.as_ref().err().map(clap::Error::kind);
                let is_known = fault.is_some_and(|kind| LEFT_OUT.contains(&kind));
                assert!(
                    is_known || is_taken(&parsed),
                    "{}: {span}\n{}",
                    path.display(),
                    parsed.unwrap_err()
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 10, "{tried} commands in all sentences");
}

/// Every command and those below it, by their whole names.
fn commands() -> Vec<(String, clap::Command)> {
    let mut all = Vec::new();
    for command in Args::command().get_subcommands() {
        all.push((command.get_name().to_owned(), command.clone()));
        let below = command.get_subcommands();
        all.extend(below.map(|it| (format!("{} {}", command.get_name(), it.get_name()), it.clone())));
    }
    all
}

#[test]
fn every_example_of_the_help_is_one_that_the_plugin_takes() {
    for (name, command) in commands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter(|line| line.starts_with("  kubectl")) {
            let commands = of_plugin(line);
            assert!(!commands.is_empty(), "help of {name}: {line}");
            for words in commands {
                let parsed = parse(&words);
                assert!(is_taken(&parsed), "help of {name}: {line}\n{}", parsed.unwrap_err());
            }
        }
    }
}

#[test]
fn every_command_has_its_place_in_the_readme_and_in_the_page_of_the_plugin() {
    let table: String = README.lines().filter(|line| line.starts_with("| `")).collect();
    for (name, command) in commands() {
        if command.has_subcommands() {
            continue;
        }
        let is_in_table = ["`", " "]
            .iter()
            .any(|after| table.contains(&format!("`{name}{after}")));
        assert!(is_in_table, "{name} is not in the README's table");
        let is_in_page = ["`", " ", "\n"]
            .iter()
            .any(|after| CLI.contains(&format!("`{name}{after}")) || CLI.contains(&format!("wayleave {name}{after}")));
        assert!(is_in_page, "{name} is not in docs/cli.md");
    }
}

/// Requesters see a reason as one word; the page says what to do about each.
#[test]
fn the_page_for_requesters_has_every_reason_and_no_other() {
    let table = REQUESTERS
        .split("| reason | what to do |\n")
        .nth(1)
        .expect("no table of reasons");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let mut told = BTreeSet::new();
    for row in rows {
        let cell = row.split('|').nth(1).unwrap_or_default();
        for reason in cell.split('`').skip(1).step_by(2) {
            assert!(told.insert(reason), "{reason} twice");
        }
    }
    let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(told, known);
}
