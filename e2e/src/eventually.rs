//! Awaiting a condition of a living system: the only place of the harness where time passes on purpose.

use std::cell::RefCell;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

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

/// Polls until the probe has given the same value for longer than `rest`; fails as [`eventually`] does. An error of the probe means
/// "not yet".
pub async fn settled<T, F, Fut>(what: &str, timeout: Duration, rest: Duration, mut probe: F) -> Result<T>
where
    T: PartialEq,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let last: RefCell<Option<(Instant, T)>> = RefCell::default();
    eventually(what, timeout, || {
        let probed = probe();
        let last = &last;
        async move {
            let value = probed.await?;
            let mut last = last.borrow_mut();
            match last.as_ref() {
                Some((since, before)) if *before == value => Ok((since.elapsed() > rest).then_some(value)),
                _ => {
                    *last = Some((Instant::now(), value));
                    bail!("it still changes")
                }
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const REST: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn what_still_changes_has_not_settled() -> Result<()> {
        let (looks, begun) = (Cell::new(0), Instant::now());
        let value = settled("it", LONG, REST, || async {
            looks.set(looks.get() + 1);
            Ok(looks.get().min(3))
        })
        .await?;
        assert_eq!(value, 3);
        assert!(looks.get() > 3 && begun.elapsed() > REST);
        let never = settled("it", REST * 3, REST, || async {
            looks.set(looks.get() + 1);
            Ok(looks.get())
        });
        let said = never.await.expect_err("it never stays").to_string();
        assert!(said.contains("it still changes"), "{said}");
        Ok(())
    }
}
