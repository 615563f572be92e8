//! What was let through against an object of ours, done for real: each to a grant of its own. Nobody gets more by it, and what
//! was broken ends, or is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use wayleave_e2e::tenant::{LIMIT, Partner, api, condition, merge, text};
use wayleave_e2e::{eventually, progress};

use crate::attempt::{Answer, Attempt};
use crate::attempts;
use crate::cluster::{Attacker, DEPOT, SHOP, World, far, live};
use crate::ours::{self, Target};
use crate::rights;
use crate::table::Outcome;

const AT_ONCE: usize = 8;
/// A grant whose objects were lost is issued again a minute after it was issued first.
const ISSUED_AGAIN: Duration = Duration::from_secs(110);

/// What must come of a deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlook {
    /// Access ends and does not come back by itself.
    Ends,
    /// What was made for the partner is sound again: at once, or in another activation.
    IsMended,
    /// Nothing comes of it.
    IsNothing,
}

/// One way in which one object of ours can be altered.
struct Deed<'a> {
    name: String,
    attacker: &'a Attacker,
    namespace: String,
    role: String,
    verb: &'static str,
    what: String,
    outlook: Outlook,
}

/// Every deed of the table, once, whoever was let through first.
fn deeds<'a>(outcomes: &[Outcome<'a>]) -> Result<Vec<Deed<'a>>> {
    let mut all: BTreeMap<(String, String, &str, String), Deed<'a>> = BTreeMap::new();
    for Outcome {
        attacker,
        attempt,
        answer,
    } in outcomes
    {
        let Some(role) = attempt.target.clone() else { continue };
        let is_elsewhere = role.starts_with("namespace ") || role == "identity" || role == "enrolment";
        if *answer != Answer::Accepted || is_elsewhere {
            continue;
        }
        // The form of a change makes no difference any more; of deletions there are two.
        let verb = if attempt.verb.starts_with("delete") {
            attempt.verb
        } else {
            "patch as merge"
        };
        let what = if verb == "delete" {
            "Background"
        } else {
            attempt.what.as_str()
        };
        let outlook = outlook(&role, verb, what).with_context(|| format!("{role}: {verb}, {what}"))?;
        let key = (attempt.namespace.clone(), role.clone(), verb, what.to_owned());
        let name = format!("deed-{}", all.len());
        all.entry(key).or_insert(Deed {
            name,
            attacker,
            namespace: attempt.namespace.clone(),
            role,
            verb,
            what: what.to_owned(),
            outlook,
        });
    }
    Ok(all.into_values().collect())
}

/// What must come of it; none where nobody has thought about it yet.
fn outlook(role: &str, verb: &str, what: &str) -> Option<Outlook> {
    use Outlook::{Ends, IsMended, IsNothing};
    let is_deletion = verb.starts_with("delete");
    match role {
        "binding of a partner" | "role of a partner" => is_deletion.then_some(IsMended),
        // What is delivered is made anew where its content or our label was touched. By the rest nobody goes, and none of it
        // keeps the Secret once the grant is to go.
        "delivered credential" if is_deletion || what == "puts other data in" || what.contains(" labels") => {
            Some(IsMended)
        }
        "delivered credential" => Some(IsNothing),
        _ if is_deletion => Some(Ends),
        "grant" | "integration" if what == "names an owner that is not there" => Some(Ends),
        _ if ["forges our labels", "forges our annotations", "holds it by a finalizer"].contains(&what) => {
            Some(IsNothing)
        }
        "grant" | "integration"
            if ["asks for", "suspends", "documents", "names another"]
                .iter()
                .any(|it| what.starts_with(it)) =>
        {
            Some(Ends)
        }
        _ => None,
    }
}

/// Does all of them.
pub async fn bring_nothing(world: &World, outcomes: &[Outcome<'_>]) -> Result<()> {
    let deeds = deeds(outcomes)?;
    let before = made(&ours::settled(&world.root, &world.catalog).await?);
    ensure!(deeds.len() > 30, "only {} deeds", deeds.len());
    let partners: Vec<Partner> = stream::iter(deeds.iter().map(|deed| victim(world, deed)))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let targets = ours::everything(&world.root, &world.catalog).await?;
    let mut activations = Vec::new();
    for deed in &deeds {
        activations.push(world.shop.get_grant(&deed.name).await?["status"]["identity"].clone());
    }
    for deed in &deeds {
        done(world, deed, &targets).await.with_context(|| described(deed))?;
    }
    let begun = Instant::now();
    let waits = deeds.iter().zip(&partners).map(|(deed, partner)| async move {
        let came = came_of_it(world, deed, partner).await;
        came.err().map(|error| format!("{}: {error:#}", described(deed)))
    });
    let wrong: Vec<String> = stream::iter(waits)
        .buffer_unordered(deeds.len())
        .filter_map(future::ready)
        .collect()
        .await;
    ensure!(
        wrong.is_empty(),
        "{} deeds came to something else:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let count = |outlook| deeds.iter().filter(|it| it.outlook == outlook).count();
    progress(&format!(
        "{} deeds: {} ended access, {} were mended within {:?}, {} were nothing",
        deeds.len(),
        count(Outlook::Ends),
        count(Outlook::IsMended),
        begun.elapsed(),
        count(Outlook::IsNothing),
    ));
    gone(world, &deeds, &partners).await?;
    eventually("nothing else to be left of the deeds", LIMIT, || async {
        let after = made(&ours::everything(&world.root, &world.catalog).await?);
        ensure!(
            after == before,
            "left: {:?}",
            after.difference(&before).collect::<Vec<_>>()
        );
        Ok(Some(()))
    })
    .await
}

/// Everything that was made for partners.
fn made(all: &[Target]) -> BTreeSet<String> {
    let of_partners = |it: &&Target| !it.resource.is_ours() && it.resource.namespaced;
    all.iter()
        .filter(of_partners)
        .map(|it| format!("{} {}/{}", it.resource.shown(), it.namespace, it.name))
        .collect()
}

fn described(deed: &Deed<'_>) -> String {
    format!(
        "{}: {} of the {} in {}: {}, by {}",
        deed.name, deed.verb, deed.role, deed.namespace, deed.what, deed.attacker.name
    )
}

/// A live grant that the deed is done to, with an integration of its own.
async fn victim(world: &World, deed: &Deed<'_>) -> Result<Partner> {
    let shop = &world.shop;
    shop.integration(&deed.name, json!({})).await?;
    let mut spec = if deed.namespace == DEPOT { far(shop) } else { json!({}) };
    merge(&mut spec, json!({"integrationRef": {"name": deed.name}}));
    if deed.role == "decision Deny" {
        // A no about a live grant would end it: this one is about another.
        shop.grant(&format!("{}-denied", deed.name), json!({})).await?;
        shop.decide("AccessGrant", &format!("{}-denied", deed.name), "Deny", json!({}))
            .await?;
    }
    let partner = live(shop, &deed.name, spec).await?;
    partner.answered().await?;
    Ok(partner)
}

/// The object of a deed: what was made for its grant, or what people wrote for it.
fn object<'t>(deed: &Deed<'_>, targets: &'t [Target]) -> Result<&'t Target> {
    let grant = json!(format!("{SHOP}/{}", deed.name));
    let mut found = targets
        .iter()
        .filter(|it| it.role == deed.role && it.namespace == deed.namespace);
    let is_its = |it: &&Target| {
        let meta = &it.object["metadata"];
        match it.resource.kind.as_str() {
            "AccessGrant" | "PartnerIntegration" => it.name == deed.name,
            "AccessDecision" => {
                let about = text(&it.object["spec"]["subject"]["name"]);
                about == deed.name || about == format!("{}-denied", deed.name)
            }
            _ => meta["annotations"]["wayleave.dev/grant"] == grant,
        }
    };
    found.find(is_its).context("nothing of it is there")
}

async fn done(world: &World, deed: &Deed<'_>, targets: &[Target]) -> Result<()> {
    let mut target = object(deed, targets)?.clone();
    // As it is now: another deed may have made the operator write to it.
    let path = target.resource.path(&target.namespace, Some(&target.name));
    let now: Value = world.root.request(http::Request::get(path).body(Vec::new())?).await?;
    merge(&mut target.object, now);
    let same = |it: &&Attempt| it.verb == deed.verb && it.what == deed.what && !it.resource.contains('/');
    let all = attempts::against(world, &target);
    let attempt = all.iter().find(same).context("no such attempt")?;
    let (answer, _) = attempt.request.send(&deed.attacker.client, false).await?;
    ensure!(answer == Answer::Accepted, "for real it is refused: {answer:?}");
    Ok(())
}

async fn came_of_it(world: &World, deed: &Deed<'_>, partner: &Partner) -> Result<()> {
    let old = world.cp.with_token(&partner.token).await?;
    has_no_more(world, &old).await?;
    match deed.outlook {
        Outlook::Ends => {
            eventually("the partner to be refused", LIMIT, || async {
                let code = partner.read().await?;
                ensure!(code == 401 || code == 403, "answered with {code}");
                Ok(Some(()))
            })
            .await?;
        }
        Outlook::IsMended => {
            eventually("the grant to be sound again", ISSUED_AGAIN, || async {
                let grant = world.shop.get_grant(&deed.name).await?;
                let active = condition(&grant, "Active");
                ensure!(active["reason"] == "Issued", "{active}");
                let targets = ours::everything(&world.root, &world.catalog).await?;
                is_sound(object(deed, &targets)?, &grant)?;
                let partner = world.shop.partner(&deed.name).await?;
                ensure!(partner.read().await? == 200);
                has_no_more(world, &world.cp.with_token(&partner.token).await?).await?;
                Ok(Some(()))
            })
            .await?;
        }
        Outlook::IsNothing => {
            let grant = world.shop.get_grant(&deed.name).await?;
            ensure!(
                condition(&grant, "Active")["reason"] == "Issued" && partner.read().await? == 200,
                "{}",
                grant["status"]
            );
        }
    }
    has_no_more(world, &old).await
}

/// What was made for a partner is as the operator makes it.
fn is_sound(target: &Target, grant: &Value) -> Result<()> {
    let meta = &target.object["metadata"];
    let notes = &meta["annotations"];
    ensure!(
        meta["labels"] == json!({"wayleave.dev/managed": "true"}),
        "labels: {}",
        meta["labels"]
    );
    ensure!(
        notes["wayleave.dev/grant-uid"] == grant["metadata"]["uid"] && notes["wayleave.dev/last-no"].is_null(),
        "{notes}"
    );
    ensure!(notes.get("kubernetes.io/service-account.name").is_none(), "{notes}");
    ensure!(
        meta["finalizers"].is_null() && meta["deletionTimestamp"].is_null(),
        "{meta}"
    );
    let owners = meta["ownerReferences"].as_array().map_or(0, Vec::len);
    ensure!(
        owners == usize::from(target.namespace == SHOP),
        "owners: {}",
        meta["ownerReferences"]
    );
    Ok(())
}

/// Whoever has this credential can do nothing in any namespace but what was approved.
async fn has_no_more(world: &World, partner: &kube::Client) -> Result<()> {
    let approved = world.shop.grant_spec()["access"][0]["rules"]
        .as_array()
        .cloned()
        .context("no rules")?;
    let anybody = world.cp.service_account("default", "default").await?;
    for namespace in [SHOP, DEPOT, "vault"] {
        let mut wanted = rights::of(&anybody, namespace).await?;
        wanted.extend(rights::expanded(&approved));
        match rights::of(partner, namespace).await {
            Ok(found) => {
                let more: Vec<_> = found.difference(&wanted).collect();
                ensure!(more.is_empty(), "more in {namespace}: {more:?}");
            }
            // It is dead.
            Err(error) if matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 401) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Nothing that was done holds a grant once it is to go: all that was made for it goes, and no credential is left.
async fn gone(world: &World, deeds: &[Deed<'_>], partners: &[Partner]) -> Result<()> {
    let grants = api(&world.root, "AccessGrant", SHOP);
    let mut uids = Vec::new();
    for deed in deeds {
        let Some(grant) = grants.get_opt(&deed.name).await? else {
            continue;
        };
        uids.push(grant.metadata.uid.clone().unwrap_or_default());
        // What an attacker holds by a finalizer of its own is the attacker's to let go.
        let patch = json!({"metadata": {"finalizers": ["wayleave.dev/close-access"]}});
        if grant.metadata.finalizers.iter().flatten().any(|it| it.contains("evil")) {
            world.shop.patch("AccessGrant", &deed.name, patch).await?;
        }
        grants.delete(&deed.name, &DeleteParams::default()).await?;
    }
    for uid in &uids {
        world.shop.wait_nothing_left(uid).await?;
    }
    for (deed, partner) in deeds.iter().zip(partners) {
        eventually("the first credential to be dead", LIMIT, || async {
            match partner.read().await? {
                401 => Ok(Some(())),
                code => bail!("{}: answered with {code}", deed.name),
            }
        })
        .await?;
    }
    Ok(())
}
