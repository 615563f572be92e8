//! Awaiting a condition of a living system: the only place of the harness where time passes on purpose.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Polls until the probe gives a value, or fails after `timeout` with `what` and the last thing seen.
///
/// `Ok(None)` means "not yet". An error means "not yet" too and is told if time runs out, so that a probe can say what
/// it saw instead: `bail!("phase is {phase}")`. A probe that hangs is cut off at the timeout.
pub async fn eventually<T, F, Fut>(what: &str, timeout: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + timeout;
    let mut pause = FIRST_PAUSE;
    let mut seen = String::from("the condition did not hold");
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => seen = String::from("the condition did not hold"),
            Ok(Err(error)) => seen = format!("{error:#}"),
            Err(_) => seen = format!("{seen}; the last try was still under way"),
        }
        if Instant::now() + pause >= deadline {
            return Err(anyhow!(
                "{what}: not within {} ms; last seen: {seen}",
                timeout.as_millis()
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
