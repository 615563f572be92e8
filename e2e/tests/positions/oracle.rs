//! What must hold at the end, whatever was broken on the way.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use wayleave_e2e::{Tenant, eventually};

use crate::picture::Picture;
use crate::scenario::{Prepared, READER, Scenario};
use crate::stand::Stand;
use crate::{bystanders, tokens};

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
pub async fn wait_end(tenant: &Tenant<'_>, end: &Picture, limit: Duration) -> Result<()> {
    eventually("the end state of a run without a fault", limit, || async {
        let differences = Picture::of(tenant).await?.differences(end);
        ensure!(differences.is_empty(), "{differences:#?}");
        Ok(Some(()))
    })
    .await
}

/// What must hold of all cases of a scenario when they are over: the end state is still there, no token works but the one that
/// was delivered last, nothing foreign was touched.
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
    let mut live = Vec::new();
    for Tried { case, prepared } in tried {
        let tenant = &prepared.tenant;
        let looked = async {
            stand.quiet(&tenant.ns, 0).await?;
            // It stays as it is.
            let differences = Picture::of(tenant).await?.differences(end);
            ensure!(differences.is_empty(), "later: {differences:#?}");
            bystanders::unchanged(tenant, &prepared.bystanders, scenario.ends_without_namespace()).await?;
            let mut minted: Vec<_> = all.iter().filter(|it| it.tenant == tenant.ns).cloned().collect();
            ensure!(!minted.is_empty(), "no token was seen");
            if scenario.ends_live() {
                let delivered = tenant.partner(READER).await?.token;
                let before = minted.len();
                minted.retain(|it| it.token != delivered);
                ensure!(
                    minted.len() + 1 == before,
                    "what is delivered was not seen to be minted"
                );
                let works = tenant.partner(READER).await?.read().await?;
                ensure!(works == 200, "what is delivered is answered with {works}");
            }
            tokens::wait_dead(&anybody, &minted).await?;
            anyhow::Ok(minted.len())
        };
        match looked.await {
            Ok(tokens) => tally.tokens += tokens,
            Err(error) => tally.fail(format!("{} ({}): {case}: {error:#}", scenario.as_str(), tenant.ns)),
        }
        if scenario.ends_live() {
            live.push(tenant);
        }
    }
    for tenant in &live {
        tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    }
    for tenant in &live {
        tenant.wait_reason(READER, "Revoked").await?;
        let minted: Vec<_> = all.iter().filter(|it| it.tenant == tenant.ns).cloned().collect();
        tokens::wait_dead(&anybody, &minted).await?;
        tally.tokens += 1;
    }
    Ok(())
}
