//! What must hold at the end, whatever was broken on the way.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use kube::Client;
use wayleave_e2e::eventually;
use wayleave_e2e::faults::Minted;

use super::picture::Picture;
use super::scenario::{Prepared, READER, Scenario};
use super::stand::Stand;
use super::{bystanders, tokens};

/// So many tenants are looked at at once.
pub const AT_ONCE: usize = 8;

/// A case that was run, in words.
pub struct Tried<'a> {
    pub case: String,
    pub prepared: Prepared<'a>,
}

/// What was tried, and what it came to.
#[derive(Default)]
pub struct Tally {
    /// Scenarios.
    pub scenarios: usize,
    /// Positions at which a fault was met.
    pub positions: usize,
    /// Faults that were met, after which everything was as it should be.
    pub faults: usize,
    /// Cases at the second or a later write of one kind that did not come again.
    pub missed: usize,
    /// Tokens that were presented, and work no more.
    pub tokens: usize,
    failures: Vec<String>,
}

impl Tally {
    /// Of one scenario, in which nothing was tried yet.
    pub fn of_scenario() -> Self {
        Self {
            scenarios: 1,
            ..Self::default()
        }
    }

    /// In words, of what one scenario is: `4 scenarios, 30 positions, ...`.
    pub fn of(&self, scenarios: &str) -> String {
        format!(
            "{} {scenarios}, {} positions, {} faults, {} repeated writes did not come again; {} tokens were presented",
            self.scenarios, self.positions, self.faults, self.missed, self.tokens
        )
    }

    /// Keeps a failure for the end, and tells it now.
    pub fn fail(&mut self, line: String) {
        wayleave_e2e::progress(&line);
        self.failures.push(line);
    }

    /// What another came to is a part of this.
    pub fn add(&mut self, other: Self) {
        self.scenarios += other.scenarios;
        self.positions += other.positions;
        self.faults += other.faults;
        self.missed += other.missed;
        self.tokens += other.tokens;
        self.failures.extend(other.failures);
    }

    /// What failed, if anything did.
    pub fn outcome(self) -> Result<()> {
        let failures = self.failures;
        ensure!(
            failures.is_empty(),
            "{} failures:\n{}",
            failures.len(),
            failures.join("\n")
        );
        Ok(())
    }
}

/// Waits until a tenant looks as it would without a fault.
pub async fn wait_end(prepared: &Prepared<'_>, end: &Picture, limit: Duration) -> Result<()> {
    eventually("the end state of a run without a fault", limit, || async {
        let differences = Picture::of(prepared).await?.differences(end);
        ensure!(differences.is_empty(), "{differences:#?}");
        Ok(Some(()))
    })
    .await
}

/// What must hold of all cases of a scenario when they are over: the end state is still there, no token works but the one that
/// was delivered last, and that one only until it is revoked; nothing foreign was touched.
pub async fn look_back(
    stand: &Stand,
    scenario: Scenario,
    tried: &[Tried<'_>],
    end: &Picture,
    tally: &mut Tally,
) -> Result<()> {
    stand.operator.wait_ready().await?;
    let anybody = stand.cp.anonymous().await?;
    let all = stand.faults.minted();
    let looks = tried
        .iter()
        .map(|tried| look_at(stand, &anybody, scenario, tried, end, &all));
    let looks: Vec<Result<usize>> = futures::stream::iter(looks).buffered(AT_ONCE).collect().await;
    for (Tried { case, prepared }, looked) in tried.iter().zip(looks) {
        match looked {
            Ok(tokens) => tally.tokens += tokens,
            Err(error) => tally.fail(format!(
                "{} ({}): {case}: {error:#}",
                scenario.as_str(),
                prepared.tenant.ns
            )),
        }
    }
    if !scenario.ends_live() {
        return Ok(());
    }
    for Tried { prepared, .. } in tried {
        prepared.revoke().await?;
    }
    for Tried { prepared, .. } in tried {
        prepared.tenant.wait_reason(READER, "Revoked").await?;
        tokens::wait_dead(&anybody, prepared, &of_tenant(&all, prepared)).await?;
        if let Some(token) = &prepared.static_token {
            tokens::is_of_no_use(&anybody, prepared, token).await?;
        }
        tally.tokens += 1;
    }
    Ok(())
}

/// Looks at one case; gives how many tokens work no more.
async fn look_at(
    stand: &Stand,
    anybody: &Client,
    scenario: Scenario,
    Tried { prepared, .. }: &Tried<'_>,
    end: &Picture,
    all: &[Minted],
) -> Result<usize> {
    stand.quiet(&prepared.tenant.ns, 0).await?;
    // It stays as it is.
    let differences = Picture::of(prepared).await?.differences(end);
    ensure!(differences.is_empty(), "later: {differences:#?}");
    bystanders::unchanged(prepared, scenario.ends_without_namespace()).await?;
    let mut minted = of_tenant(all, prepared);
    ensure!(
        minted.is_empty() == prepared.shape.is_static(),
        "{} tokens were seen to be minted",
        minted.len()
    );
    if scenario.ends_live() {
        let delivered = prepared.working().await?;
        let before = minted.len();
        minted.retain(|it| *it != delivered);
        ensure!(
            minted.len() + 1 == before || prepared.shape.is_static(),
            "what is delivered was not seen to be minted"
        );
    } else if let Some(token) = &prepared.static_token {
        tokens::is_of_no_use(anybody, prepared, token).await?;
    }
    tokens::wait_dead(anybody, prepared, &minted).await?;
    let is_of_no_use = prepared.static_token.is_some() && !scenario.ends_live();
    Ok(minted.len() + usize::from(is_of_no_use))
}

/// The tokens that were minted for a tenant.
pub fn of_tenant(all: &[Minted], prepared: &Prepared<'_>) -> Vec<String> {
    let theirs = all.iter().filter(|minted| minted.tenant == prepared.tenant.ns);
    theirs.map(|minted| minted.token.clone()).collect()
}

/// No token that was minted stands in what somebody could read, nor a part of one.
pub fn holds_no_token(stand: &Stand, text: &str) -> Result<()> {
    for minted in stand.faults.minted() {
        let mut parts = minted.token.split('.').skip(1);
        ensure!(
            !parts.any(|part| text.contains(part)),
            "a token, or a part of one, is in it"
        );
    }
    Ok(())
}
