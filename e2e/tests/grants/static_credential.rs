//! A partner's identity from before: a ServiceAccount that somebody made by hand, with a token that never ends.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use wayleave_e2e::legacy::{LEGACY, TOKEN, by_legacy, legacy, permit, static_token};
use wayleave_e2e::plugin::Plugin;
use wayleave_e2e::tenant::{LIMIT, Partner, api, binding, condition, create, merge, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::tenant;
use crate::refusals::two_hours;

const READER: &str = "reader";

/// A tenant with an identity from before, and its holder.
async fn with_legacy(ns: &str) -> Result<(Tenant<'static>, Partner)> {
    let tenant = tenant(ns).await?;
    let partner = legacy(&tenant).await?;
    Ok((tenant, partner))
}

/// What of the hand-made identity must stay as it is: all of it, but for what Kubernetes itself notes.
async fn untouched(tenant: &Tenant<'_>) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for (kind, name) in [("ServiceAccount", LEGACY), ("Secret", TOKEN)] {
        let mut object = api(&tenant.root, kind, &tenant.ns).get(name).await?;
        object.metadata.managed_fields = None;
        object.metadata.resource_version = None;
        object.labels_mut().remove("kubernetes.io/legacy-token-last-used");
        all.push(serde_json::to_value(object)?);
    }
    Ok(all)
}

async fn says(tenant: &Tenant<'_>, type_: &str, words: &[&str]) -> Result<()> {
    eventually("the finding", LIMIT, || async {
        let found = condition(&tenant.get_grant(READER).await?, type_);
        let said = text(&found["message"]);
        ensure!(found["status"] == "True", "{found}");
        for part in words {
            ensure!(said.contains(part), "{part}: {said}");
        }
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn a_static_credential_is_refused_until_policies_permit_it_and_each_control_is_met() -> Result<()> {
    let (tenant, partner) = with_legacy("static-refused").await?;
    let mut grant = by_legacy();
    merge(&mut grant, two_hours()?);
    tenant.grant(READER, grant).await?;
    let refused = |words: &'static [&'static str]| {
        let tenant = &tenant;
        eventually("the refusal", LIMIT, move || async move {
            let ready = condition(&tenant.get_grant(READER).await?, "Ready");
            let said = text(&ready["message"]);
            ensure!(ready["reason"] == "NotPermitted", "{ready}");
            for part in words {
                ensure!(said.contains(part), "{part}: {said}");
            }
            Ok(Some(()))
        })
    };
    refused(&["spec.credential.type: Static is not among credentials"]).await?;
    // Before policies permit it nothing is looked for, and nothing of it told.
    let waiting = tenant.get_grant(READER).await?;
    for type_ in ["StaticCredential", "OtherRights"] {
        ensure!(
            condition(&waiting, type_).is_null(),
            "{}",
            waiting["status"]["conditions"]
        );
    }
    // A policy that permits it has to name controls.
    let bare = json!({"spec": {"credentials": ["Token", "Static"]}});
    let bare = tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, bare)
        .await;
    let said = format!(
        "{:#}",
        bare.err().map_or_else(String::new, |error| format!("{error:#}"))
    );
    ensure!(
        said.contains("staticCredentials, the compensating controls, must be set"),
        "{said}"
    );

    permit(&tenant, json!({"duration": "1h", "reviewInterval": "30d"})).await?;
    refused(&[
        "spec.expiresAt: 2h after the start, at most 1h",
        "integration spec.review.interval: 90d, at most 30d",
        "integration spec.allowedSources: empty, addresses are required of a static credential",
    ])
    .await?;
    tenant.approve(READER, json!({})).await?;
    ensure!(partner.read().await? == 403, "approved, and not permitted");
    permit(&tenant, json!({"duration": "90d"})).await?;
    let mended = json!({"spec": {"allowedSources": ["203.0.113.0/24"], "review": {"interval": "30d"}}});
    tenant
        .patch_as(&tenant.carol, "PartnerIntegration", &tenant.ns, "acme", mended)
        .await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    // Found, and told, before anything is granted.
    let found = ["ServiceAccount static-refused/legacy", "reader-2"];
    says(&tenant, "StaticCredential", &found).await?;
    tenant
        .patch_as(
            &tenant.carol,
            "AccessGrant",
            &tenant.ns,
            READER,
            json!({"spec": {"credential": {"static": {"replacement": null}}}}),
        )
        .await?;
    refused(&["spec.credential.static.replacement: missing"]).await?;
    tenant
        .patch_as(
            &tenant.carol,
            "AccessGrant",
            &tenant.ns,
            READER,
            json!({"spec": by_legacy()}),
        )
        .await?;
    // What stood there before counts as approved anew only after it was replaced.
    next_second().await;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    partner.answered().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_granted_to_it_goes_at_the_end_and_what_was_there_stays_as_it_was_and_is_told() -> Result<()> {
    let (tenant, partner) = with_legacy("static-life").await?;
    let (ns, root) = (tenant.ns.as_str(), &tenant.root);
    let controls = json!({"duration": "90d", "reviewInterval": "90d", "allowedSources": false});
    permit(&tenant, controls).await?;
    // Without a namespace it is of the binding's.
    let subject = json!([{"kind": "ServiceAccount", "name": LEGACY}]);
    create(root, "RoleBinding", ns, "from-before", binding("view", subject)).await?;
    let before = untouched(&tenant).await?;
    tenant.grant(READER, by_legacy()).await?;
    tenant.approve(READER, json!({})).await?;
    let issued = tenant.wait_reason(READER, "Issued").await?;
    let status = &issued["status"];
    ensure!(
        status["identity"]["serviceAccount"] == LEGACY && status["identity"]["namespace"] == ns,
        "{status}"
    );
    ensure!(status["credential"]["hardExpiry"] == false, "{status}");
    let uid = text(&issued["metadata"]["uid"]);
    let made = tenant.children(&uid).await?;
    ensure!(
        made.len() == 2 && made[0].starts_with("Role ") && made[1].starts_with("RoleBinding "),
        "{made:?}"
    );
    says(
        &tenant,
        "StaticCredential",
        &[
            "ServiceAccount static-life/legacy",
            "Secret static-life/legacy-token",
            "never ends by itself",
        ],
    )
    .await?;
    // What it may do beside the grant, from before.
    let words =
        "ClusterRole view in namespace static-life, by RoleBinding static-life/from-before to the identity itself";
    says(&tenant, "OtherRights", &[words]).await?;
    tenant.delete("RoleBinding", ns, "from-before").await?;
    eventually("no other rights to be told", LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        Ok(condition(&grant, "OtherRights").is_null().then_some(()))
    })
    .await?;
    ensure!(partner.read().await? == 200);
    // The day of its last use is Kubernetes' own word, and another token of it is told of.
    static_token(&tenant, LEGACY, "spare").await?;
    says(
        &tenant,
        "StaticCredential",
        &["last used on ", "static tokens that no grant declares: spare"],
    )
    .await?;
    cli_says_what_it_is(&tenant).await?;

    let cause = Instant::now();
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    partner.refused_since(cause).await?;
    tenant.wait_reason(READER, "Revoked").await?;
    tenant.wait_nothing_left(&uid).await?;
    ensure!(partner.read().await? == 403, "it is still known, and may do nothing");
    ensure!(untouched(&tenant).await? == before, "something of it was changed");
    says(&tenant, "StaticCredential", &["delete it when it is replaced"]).await?;

    for (kind, name) in [("Secret", TOKEN), ("Secret", "spare"), ("ServiceAccount", LEGACY)] {
        tenant.delete(kind, ns, name).await?;
    }
    eventually("the finding to go with what was found", LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        Ok(condition(&grant, "StaticCredential").is_null().then_some(()))
    })
    .await
}

/// The CLI neither rotates nor delivers it, and lists it.
async fn cli_says_what_it_is(tenant: &Tenant<'_>) -> Result<()> {
    let erin = Plugin::of(tenant.cp, "erin@corp.example", &["system:masters"]).await?;
    for command in ["rotate", "kubeconfig"] {
        let said = erin.exits(&[command, READER, "-n", &tenant.ns], 1).await?.stderr;
        ensure!(said.contains("static credential"), "{command}: {said}");
    }
    let listed = erin.works(&["list", "--static", "-n", &tenant.ns]).await?.stdout;
    ensure!(listed.contains(READER), "{listed}");
    let shown = erin
        .works(&[
            "certify",
            "acme",
            "--reason",
            "again",
            "--keep-all",
            "--dry-run",
            "-n",
            &tenant.ns,
        ])
        .await?;
    let shown = format!("{}{}", shown.stdout, shown.stderr);
    ensure!(
        shown.contains("a static credential, which never ends by itself"),
        "{shown}"
    );
    Ok(())
}

#[tokio::test]
async fn access_ends_with_its_service_account_and_another_of_that_name_has_it_only_anew() -> Result<()> {
    let (tenant, _) = with_legacy("static-gone").await?;
    let ns = tenant.ns.as_str();
    permit(
        &tenant,
        json!({"duration": "90d", "reviewInterval": "90d", "allowedSources": false}),
    )
    .await?;
    tenant.grant(READER, by_legacy()).await?;
    tenant.approve(READER, json!({})).await?;
    let issued = tenant.wait_reason(READER, "Issued").await?;
    let uid = text(&issued["metadata"]["uid"]);
    tenant.delete("ServiceAccount", ns, LEGACY).await?;
    // Its token goes too, and may be missed before it.
    eventually("the ServiceAccount to be missed", LIMIT, || async {
        let missing = tenant.wait_reason(READER, "IdentityMissing").await?;
        let said = text(&condition(&missing, "Ready")["message"]);
        ensure!(said.contains("there is no ServiceAccount static-gone/legacy"), "{said}");
        Ok(Some(()))
    })
    .await?;
    tenant.wait_nothing_left(&uid).await?;

    create(&tenant.root, "ServiceAccount", ns, LEGACY, json!({})).await?;
    // Kubernetes takes the token of an account that is gone away.
    eventually("the old token to be gone", LIMIT, || async {
        let gone = api(&tenant.root, "Secret", ns).get_opt(TOKEN).await?.is_none();
        Ok(gone.then_some(()))
    })
    .await?;
    eventually("the token to be missed", LIMIT, || async {
        let ready = condition(&tenant.get_grant(READER).await?, "Ready");
        let is_missed =
            text(&ready["message"]).contains("no static token of ServiceAccount static-gone/legacy in Secret");
        ensure!(is_missed, "{ready}");
        Ok(Some(()))
    })
    .await?;
    let partner = static_token(&tenant, LEGACY, TOKEN).await?;
    // It is another ServiceAccount than the one that was approved.
    let waiting = tenant.wait_reason(READER, "AwaitingApproval").await?;
    let said = text(&condition(&waiting, "Active")["message"]);
    ensure!(said.contains("replacement of the ServiceAccount"), "{said}");
    ensure!(partner.read().await? == 403);
    next_second().await;
    tenant.approve(READER, json!({})).await?;
    // At most one activation a minute, whoever makes and deletes what it is for.
    eventually(
        "access by the other ServiceAccount",
        Duration::from_secs(90),
        || async {
            let code = partner.read().await?;
            ensure!(code == 200, "answered with {code}");
            Ok(Some(()))
        },
    )
    .await?;
    // Without rights there, and without a finalizer, the garbage collector ends it with the grant.
    tenant.delete("AccessGrant", ns, READER).await?;
    tenant.wait_nothing_left(&uid).await?;
    partner.refused_since(Instant::now()).await?;
    Ok(())
}

#[tokio::test]
async fn two_partners_do_not_share_a_service_account() -> Result<()> {
    let (tenant, partner) = with_legacy("static-shared").await?;
    permit(
        &tenant,
        json!({"duration": "90d", "reviewInterval": "90d", "allowedSources": false}),
    )
    .await?;
    tenant.grant(READER, by_legacy()).await?;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    let globex = json!({"partner": {"id": "globex", "name": "Globex", "contact": "it@globex.example"}});
    tenant.integration("globex", globex).await?;
    let mut theirs = by_legacy();
    theirs["integrationRef"] = json!({"name": "globex"});
    tenant.grant("theirs", theirs).await?;
    tenant.approve("theirs", json!({})).await?;
    let refused = tenant.wait_reason("theirs", "NameConflict").await?;
    let said = text(&condition(&refused, "Ready")["message"]);
    ensure!(
        said.contains("is used by AccessGrant reader of PartnerIntegration acme"),
        "{said}"
    );
    tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
    tenant.wait_reason(READER, "Revoked").await?;
    // Whose it is then is whoever was approved to use it.
    tenant.wait_reason("theirs", "Issued").await?;
    partner.answered().await?;
    Ok(())
}

#[tokio::test]
async fn a_static_credential_gives_way_to_a_token_that_was_approved_ahead() -> Result<()> {
    let (tenant, partner) = with_legacy("static-replaced").await?;
    permit(
        &tenant,
        json!({"duration": "90d", "reviewInterval": "90d", "allowedSources": false}),
    )
    .await?;
    tenant.grant(READER, by_legacy()).await?;
    tenant.approve(READER, json!({})).await?;
    let issued = tenant.wait_reason(READER, "Issued").await?;
    partner.answered().await?;
    let token = json!({"spec": {"credential": {"type": "Token", "static": null, "token": {"lifetime": "1h"}}}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, READER, token)
        .await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    // What was approved is not what stands there.
    partner.refused_since(Instant::now()).await?;
    tenant.approve(READER, json!({})).await?;
    let replaced = tenant.wait_reason(READER, "Issued").await?;
    ensure!(condition(&replaced, "StaticCredential").is_null());
    ensure!(partner.read().await? == 403, "the static token");
    tenant.partner(READER).await?.answered().await?;
    let made = tenant.children(&text(&issued["metadata"]["uid"])).await?;
    ensure!(made.len() == 5, "{made:?}");
    tenant.patch_as(&tenant.carol, "AccessGrant", &tenant.ns, READER, json!({"spec": {"credential": {"type": "Static", "token": null, "static": by_legacy()["credential"]["static"]}}})).await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    next_second().await;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    partner.answered().await?;
    let made = tenant.children(&text(&issued["metadata"]["uid"])).await?;
    ensure!(made.len() == 2, "nothing is left of the token: {made:?}");
    Ok(())
}
