//! `make bench`: measures Wayleave beside a raw client on a control plane of its own; shows a table, keeps JSON lines and
//! a picture. Ends with 1 where a target was missed and `--strict` is given.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use wayleave_e2e::bench::{Part, Sizes, picture, run};

/// Measures Wayleave beside a raw client that makes the same calls, on a real control plane.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// So many grants are issued and ended together: few.
    #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = at_least_one)]
    grants: usize,
    /// The same: many.
    #[arg(long, default_value_t = 1_000, value_name = "COUNT", value_parser = at_least_one)]
    many: usize,
    /// So many are held at last, to see what that takes.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT", value_parser = at_least_one)]
    load: usize,
    /// So many are measured alone, in each round.
    #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = at_least_one)]
    singles: usize,
    /// How often the raw client and Wayleave take turns.
    #[arg(long, default_value_t = 3, value_name = "COUNT", value_parser = at_least_one)]
    rounds: usize,
    /// For how many seconds nothing happens, to see that nothing is called.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    idle: u64,
    /// Only this part, or these, with commas between them.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Where the numbers are kept, as JSON lines.
    #[arg(long, default_value = "target/bench/bench.jsonl", value_name = "FILE")]
    json: PathBuf,
    /// Where they are drawn, as SVG.
    #[arg(long, default_value = "target/bench/bench.svg", value_name = "FILE")]
    svg: PathBuf,
    /// End with 1 where a target is missed.
    #[arg(long)]
    strict: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("not a number of at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let sizes = Sizes {
        grants: args.grants,
        many: args.many,
        load: args.load,
        singles: args.singles,
        rounds: args.rounds,
        idle: Duration::from_secs(args.idle),
    };
    let parts = if args.only.is_empty() {
        Part::ALL.to_vec()
    } else {
        args.only
    };
    let report = run(sizes, &parts).await?;
    write(&args.json, &report.json_lines()?)?;
    let fact = |name: &str| {
        let fact = report.facts.get(name);
        fact.and_then(|fact| fact.as_str()).unwrap_or_default().to_owned()
    };
    let title = format!(
        "Wayleave {} on Kubernetes {}, {}",
        fact("version"),
        fact("kubernetes"),
        fact("at").split('T').next().unwrap_or_default()
    );
    write(&args.svg, &picture::draw(&report, &title))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{title}; load before: {}\n", fact("loadBefore"))?;
    writeln!(out, "{}\n", report.table())?;
    writeln!(out, "kept in {} and {}", args.json.display(), args.svg.display())?;
    let missed = report.rows().iter().any(|row| row.is_met() == Some(false));
    Ok(if missed && args.strict {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
