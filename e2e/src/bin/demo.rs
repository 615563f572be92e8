//! `make demo`: plays the story on a control plane of its own, and ends with 1 if anything was not as expected. `KEEP=1`
//! leaves everything up until it is told to stop.
#![expect(clippy::disallowed_methods, reason = "drives a real cluster")]

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use wayleave_e2e::ControlPlane;
use wayleave_e2e::demo::{Played, Stage, play};

const KEEP_VARIABLE: &str = "KEEP";
/// As shells have it for a command that was interrupted.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let keep = std::env::var(KEEP_VARIABLE).is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    let live = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut stage = Stage::new(Box::new(std::io::stdout()), live);
    stage.line("Wayleave: a partner gets exactly the access that was approved, uses it, and loses it.")?;
    stage.line(
        "Nothing is played by a stand-in: kube-apiserver, etcd, kubectl, helm and the operator are the real ones.",
    )?;
    // Whoever stops it wants everything stopped: the processes end as they are dropped.
    let cp = tokio::select! {
        started = ControlPlane::start() => started?,
        () = stopped() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let played = tokio::select! {
        played = play(&cp, &mut stage) => played,
        () = stopped() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let (as_expected, played) = match played {
        Ok(played) => (stage.misses().is_empty(), Some(played)),
        Err(error) => {
            stage.failure(&error)?;
            (false, None)
        }
    };
    stage.end()?;
    if let (true, Some(played)) = (keep, &played) {
        explain(&mut stage, played)?;
        stopped().await;
        stage.line("stopped")?;
    }
    drop(played);
    if as_expected {
        cp.remove();
        return Ok(ExitCode::SUCCESS);
    }
    stage.line(&format!("the logs are in {} until the next run", cp.dir().display()))?;
    Ok(ExitCode::FAILURE)
}

/// How to use what was left up.
fn explain(stage: &mut Stage, played: &Played<'_>) -> Result<()> {
    let cast = &played.cast;
    let (dir, bin) = (cast.dir.display(), cast.bin.display());
    stage.line("\nEverything stays up. In another terminal:\n")?;
    stage.line(&format!("    cd {dir}"))?;
    stage.line(&format!("    export PATH={bin}:$PATH"))?;
    for (person, role) in [
        (&cast.platform, "a cluster administrator"),
        (&cast.carol, "asks for access"),
        (&cast.dave, "approves"),
        (&cast.eve, "may nothing"),
    ] {
        let export = format!("export KUBECONFIG={}", person.kubeconfig.display());
        stage.line(&format!("    {export}   # {}: {role}", person.name))?;
    }
    stage.line("\nThen, for example:\n")?;
    for (command, note) in [
        (
            "kubectl wayleave list -A",
            "who has access, why, on whose word, until when",
        ),
        (
            "kubectl describe accessgrant acme-billing-second -n payments",
            "why this one has none",
        ),
        (
            "kubectl wayleave approve acme-billing-second -n payments --reason 'frank owns it now'",
            "as dave: gives it back",
        ),
        ("kubectl explain accessgrant.spec --recursive", "every field"),
    ] {
        stage.line(&format!("    {command}   # {note}"))?;
    }
    let log = played.operator.process().log().display();
    stage.line(&format!("\nThe operator logs to {log}"))?;
    stage.line(&format!("To stop it: Ctrl-C here, or kill {}\n", std::process::id()))
}

/// Returns when somebody asks this process to stop.
async fn stopped() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without a handler the signal itself ends the process, and its children with it.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
