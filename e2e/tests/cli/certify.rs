//! `certify`: shown first, then kept or revoked, one integration or a campaign.

use anyhow::{Context as _, Result, ensure};
use kube::api::ListParams;
use serde_json::{Value, json};
use wayleave_e2e::tenant::{CAROL, DAVE, LIMIT, api, condition, create, next_second, text, wait_allowed};
use wayleave_e2e::{Tenant, eventually};

use super::{RBAC, User, approve, asked, cluster, dave, eve, has};

/// A tenant with `reader` and `second`, both live, and `waiting`, which nobody approved.
async fn live(ns: &str) -> Result<Tenant<'static>> {
    let tenant = asked(ns).await?;
    tenant.grant("second", json!({})).await?;
    tenant.grant("waiting", json!({})).await?;
    approve(ns).await?;
    tenant.approve("second", json!({})).await?;
    for name in ["reader", "second"] {
        tenant.wait_reason(name, "Issued").await?;
    }
    tenant.wait_reason("waiting", "AwaitingApproval").await?;
    Ok(tenant)
}

async fn decisions(tenant: &Tenant<'_>, word: &str) -> Result<Vec<Value>> {
    let all = api(&tenant.root, "AccessDecision", &tenant.ns)
        .list(&ListParams::default())
        .await?;
    let all = all.into_iter().map(serde_json::to_value);
    let all = all.collect::<Result<Vec<Value>, _>>()?;
    Ok(all.into_iter().filter(|it| it["spec"]["decision"] == word).collect())
}

/// Waits until a Review counts; gives the words.
async fn counted(tenant: &Tenant<'_>, name: &str) -> Result<String> {
    eventually("the review to count", LIMIT, || async {
        let review = api(&tenant.root, "AccessDecision", &tenant.ns).get(name).await?;
        let counted = condition(&serde_json::to_value(review)?, "Counted");
        ensure!(counted["reason"] == "Counted", "{counted}");
        Ok(Some(text(&counted["message"])))
    })
    .await
}

#[tokio::test]
async fn a_certification_shows_what_it_renews_and_renews_or_revokes_each() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let tenant = live("cli-certify").await?;
    let ns = tenant.ns.as_str();
    let dave = dave().await?;
    let certify = ["certify", "acme", "-n", ns, "--reason", "quarterly review"];
    let with = |more: &[&'static str]| [&certify[..], more].concat();

    let said = dave.fails(&certify, 1).await?;
    has(&said, &["there is no terminal to ask on; give --keep GRANT"])?;
    let said = dave
        .fails(&with(&["--keep", "waiting", "--revoke", "nobody"]), 1)
        .await?;
    has(
        &said,
        &[
            "nothing was written: waiting can't be renewed: no approval of it counts",
            "kubectl wayleave approve waiting",
            "cli-certify/acme has no grant nobody",
        ],
    )?;
    let missing = dave
        .fails(&["certify", "other", "-n", ns, "--reason", "x", "--keep-all"], 1)
        .await?;
    has(&missing, &["no integration other in namespace cli-certify"])?;
    dave.fails(&["certify", "acme", "-n", ns], 2).await?;

    // What would be written can be read first.
    let dry = dave
        .works(&with(&["--keep", "reader", "--revoke", "second", "--dry-run"]))
        .await?;
    let documents: Vec<Value> = dry
        .stdout
        .split("---\n")
        .filter(|text| !text.is_empty())
        .map(serde_saphyr::from_str)
        .collect::<Result<_, _>>()?;
    let [revoke, review] = documents.as_slice() else {
        anyhow::bail!("not two documents: {}", dry.stdout);
    };
    let reader = tenant.get_grant("reader").await?;
    ensure!(
        revoke["spec"]["decision"] == "Revoke" && revoke["spec"]["subject"]["name"] == "second",
        "{revoke}"
    );
    let listed = json!([{"name": "reader", "uid": reader["metadata"]["uid"], "digest": reader["status"]["digest"]}]);
    ensure!(
        review["spec"]["grants"] == listed && review["spec"]["subject"]["kind"] == "PartnerIntegration",
        "{review}"
    );
    ensure!(decisions(&tenant, "Review").await?.is_empty() && decisions(&tenant, "Revoke").await?.is_empty());

    // Nothing is renewed unasked.
    let said = dave.fails(&with(&["--keep-all", "--revoke", "second"]), 1).await?;
    has(&said, &["there is no terminal to ask on; give --yes"])?;
    ensure!(decisions(&tenant, "Review").await?.is_empty() && decisions(&tenant, "Revoke").await?.is_empty());

    next_second().await;
    let done = dave
        .works(&with(&["--keep-all", "--revoke", "second", "--yes"]))
        .await?;
    let approval = reader["status"]["approvals"][0].clone();
    let by = format!(
        "  approved    by {DAVE} at {} ({}), good until {}",
        text(&approval["at"]),
        text(&approval["decisionRef"]),
        text(&approval["validUntil"])
    );
    has(
        &done.stderr,
        &[
            "certifying cli-certify/acme as dave@corp.example:",
            "  review      every 90d; due at ",
            "  grant       reader",
            "  state       Issued",
            "  access      get configmaps (core) named feed in cli-certify",
            &by,
            &format!("  review due  {}", text(&approval["reviewDue"])),
            "  decision    approve by dave@corp.example at ",
            "  changed     nothing since the approval at ",
            "  changed     never approved",
            "  last use    not known yet",
            "note: waiting is left as it is: no approval of it counts",
        ],
    )?;
    let made: Vec<&str> = done.stdout.lines().collect();
    ensure!(
        made.len() == 2 && made[0].starts_with("accessdecision/second-revoke-"),
        "{}",
        done.stdout
    );
    let name = made[1].strip_prefix("accessdecision/").context("no decision named")?;
    let name = name.strip_suffix(" created in cli-certify").context("no place named")?;
    ensure!(name.starts_with("acme-review-"), "{name}");
    let words = counted(&tenant, name).await?;
    ensure!(words.starts_with("reader: renewed until 2"), "{words}");
    tenant.wait_reason("second", "Revoked").await?;
    let renewed = tenant.get_grant("reader").await?;
    ensure!(
        renewed["status"]["approvals"][0]["renewedBy"][0]["decisionRef"] == name,
        "{renewed}"
    );
    ensure!(
        text(&renewed["status"]["nextReviewAt"]) > text(&approval["reviewDue"]),
        "the next review is no later"
    );
    ensure!(decisions(&tenant, "Review").await?.len() == 1);
    // Told again with whose word it rests on now.
    let again = dave
        .works(&with(&["--keep", "reader", "--dry-run", "-o", "json"]))
        .await?;
    has(&again.stderr, &[&format!("renewed by {DAVE} at "), name])?;
    let list: Value = serde_json::from_str(&again.stdout)?;
    ensure!(list["items"][0]["spec"]["decision"] == "Review", "{list}");
    Ok(())
}

#[tokio::test]
async fn who_asked_or_may_not_review_does_not_and_is_told_so() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let tenant = live("cli-certify-no").await?;
    let ns = tenant.ns.as_str();
    let keep = [
        "certify", "acme", "-n", ns, "--reason", "mine", "--keep", "reader", "--yes",
    ];
    let carol = User::new(CAROL, &["security"]).await?;
    let said = carol.fails(&keep, 1).await?;
    has(
        &said,
        &["reader can't be renewed: you (carol@corp.example) requested this grant"],
    )?;
    has(&eve().await?.fails(&keep, 1).await?, &["is forbidden", "hint: "])?;
    // Who may read and may write decisions, and holds no right to review: the admission policy says so.
    let rules = json!([
        {"apiGroups": ["wayleave.dev"], "resources": ["partnerintegrations", "accessgrants"], "verbs": ["get", "list"]},
        {"apiGroups": ["wayleave.dev"], "resources": ["accessdecisions"], "verbs": ["get", "list", "create"]},
    ]);
    create(&tenant.root, "Role", ns, "clerk", json!({"rules": rules})).await?;
    let binding = json!({
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "clerk"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "frank@corp.example"}],
    });
    create(&tenant.root, "RoleBinding", ns, "clerk", binding).await?;
    let frank = User::new("frank@corp.example", &[]).await?;
    wait_allowed(
        &tenant.root,
        "frank@corp.example",
        ["create", "wayleave.dev", "accessdecisions", ""],
        ns,
    )
    .await?;
    let said = frank.fails(&keep, 1).await?;
    has(
        &said,
        &[
            "the API server did not take the decision to review cli-certify-no/acme",
            "you lack the verb review on partnerintegrations/approval acme",
        ],
    )?;
    ensure!(decisions(&tenant, "Review").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_campaign_is_checked_whole_before_any_of_it_is_written() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let (one, two) = tokio::try_join!(live("cli-campaign-1"), live("cli-campaign-2"))?;
    let dave = dave().await?;
    let campaign = |second: &str| {
        format!(
            "- {{namespace: cli-campaign-1, integration: acme, keep: [reader], reason: Q4}}\n\
             - {{namespace: cli-campaign-2, integration: acme, keep: [{second}], revoke: [second], reason: Q4}}\n"
        )
    };
    std::fs::write(dave.file("wrong.yaml"), campaign("waiting"))?;
    std::fs::write(dave.file("right.yaml"), campaign("reader"))?;
    std::fs::write(dave.file("odd.yaml"), "- {integration: acme, renew: [reader]}")?;
    has(
        &dave.fails(&["certify", "--from-file", "odd.yaml"], 1).await?,
        &["odd.yaml: not a list of"],
    )?;
    has(
        &dave.fails(&["certify", "--from-file", "none.yaml"], 1).await?,
        &["opening none.yaml"],
    )?;
    let said = dave.fails(&["certify", "--from-file", "wrong.yaml"], 1).await?;
    has(&said, &["nothing was written: waiting can't be renewed"])?;
    for tenant in [&one, &two] {
        ensure!(decisions(tenant, "Review").await?.is_empty() && decisions(tenant, "Revoke").await?.is_empty());
    }
    let done = dave
        .works(&["certify", "--from-file", "right.yaml", "--yes", "-o", "json"])
        .await?;
    let list: Value = serde_json::from_str(&done.stdout)?;
    let made = list["items"].as_array().context("no list")?;
    let words: Vec<String> = made
        .iter()
        .map(|it| {
            format!(
                "{} {}",
                text(&it["metadata"]["namespace"]),
                text(&it["spec"]["decision"])
            )
        })
        .collect();
    ensure!(
        words
            == [
                "cli-campaign-1 Review",
                "cli-campaign-2 Revoke",
                "cli-campaign-2 Review"
            ],
        "{words:?}"
    );
    counted(&one, &text(&made[0]["metadata"]["name"])).await?;
    counted(&two, &text(&made[2]["metadata"]["name"])).await?;
    two.wait_reason("second", "Revoked").await?;
    one.wait_reason("second", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn a_campaign_that_was_written_in_part_has_an_exit_code_of_its_own() -> Result<()> {
    const FRANK: &str = "frank@corp.example";
    let _working = cluster().await?.at_work.read().await;
    let (one, two) = tokio::try_join!(live("cli-part-1"), live("cli-part-2"))?;
    let subjects = json!([{"apiGroup": RBAC, "kind": "User", "name": FRANK}]);
    let bind = |kind: &str, role: &str| json!({"roleRef": {"apiGroup": RBAC, "kind": kind, "name": role}, "subjects": subjects});
    // He may review in the one namespace; in the other he reads and writes decisions, and holds no right to review.
    let approver = bind("ClusterRole", "wayleave-approver");
    create(&one.root, "RoleBinding", &one.ns, "reviewer", approver).await?;
    let rules = json!([
        {"apiGroups": ["wayleave.dev"], "resources": ["partnerintegrations", "accessgrants"], "verbs": ["get", "list"]},
        {"apiGroups": ["wayleave.dev"], "resources": ["accessdecisions"], "verbs": ["get", "list", "create"]},
    ]);
    create(&two.root, "Role", &two.ns, "clerk", json!({"rules": rules})).await?;
    create(&two.root, "RoleBinding", &two.ns, "clerk", bind("Role", "clerk")).await?;
    let frank = User::new(FRANK, &[]).await?;
    frank.write(
        "q4.yaml",
        "- {namespace: cli-part-2, integration: acme, keep: [reader], reason: Q4}\n\
         - {namespace: cli-part-1, integration: acme, keep: [reader], reason: Q4}\n",
    )?;
    let campaign = ["certify", "--from-file", "q4.yaml", "--yes"];
    eventually("his rights to be seen", LIMIT, || async {
        frank.works(&[&campaign[..], &["--dry-run"]].concat()).await.map(Some)
    })
    .await?;
    let done = frank.exits(&campaign, 3).await?;
    has(
        &done.stderr,
        &[
            "error: not all was certified: ",
            "did not take the decision to review cli-part-2/acme",
            "you lack the verb review",
        ],
    )?;
    let made = decisions(&one, "Review").await?;
    ensure!(
        made.len() == 1 && decisions(&two, "Review").await?.is_empty(),
        "{made:?}"
    );
    let name = text(&made[0]["metadata"]["name"]);
    ensure!(
        done.stdout == format!("accessdecision/{name} created in cli-part-1\n"),
        "{}",
        done.stdout
    );
    counted(&one, &name).await?;
    Ok(())
}

#[tokio::test]
async fn what_the_operator_has_not_seen_is_not_renewed() -> Result<()> {
    let cluster = cluster().await?;
    let _alone = cluster.at_work.write().await;
    let tenant = live("cli-certify-digest").await?;
    let dave = dave().await?;
    let keep = [
        "certify", "acme", "-n", &tenant.ns, "--reason", "Q4", "--keep", "reader", "--yes",
    ];
    cluster.operator.pause()?;
    let changed = json!({"spec": {"ticket": "CHG-4712"}});
    let outcome = async {
        tenant
            .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, "reader", changed)
            .await?;
        dave.fails(&keep, 1).await
    }
    .await;
    cluster.operator.resume()?;
    has(
        &outcome?,
        &[
            "reader can't be renewed: ",
            "the status says sha256:",
            "changed sections: ticket",
        ],
    )?;
    ensure!(decisions(&tenant, "Review").await?.is_empty());
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    let said = dave.fails(&keep, 1).await?;
    has(
        &said,
        &[
            "no approval of it counts, and a review gives none",
            "  changed     ticket since the approval at ",
        ],
    )
}
