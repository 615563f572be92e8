//! AccessOwners from a directory's export, as CSV and as SCIM.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::Tenant;
use wayleave_e2e::plugin::{Plugin, has};
use wayleave_e2e::tenant::api;

use crate::cluster::{cluster, plugin};

async fn owner(plugin: &Tenant<'_>, name: &str) -> Result<Value> {
    let found = api(&plugin.root, "AccessOwner", "").get_opt(name).await?;
    Ok(found.map(serde_json::to_value).transpose()?.unwrap_or_default())
}

async fn sync(plugin: &Plugin<'_>, file: &str, source: &str, more: &[&str], code: i32) -> Result<(String, String)> {
    let words = ["owner", "sync", "-f", file, "--source", source];
    let done = plugin.exits(&[&words[..], more].concat(), code).await?;
    Ok((done.stdout, done.stderr))
}

const HEADER: &str = "name,displayName,email,usernames,active,until\n";

#[tokio::test]
async fn a_csv_fills_owners_and_whoever_goes_from_it_ends_grants() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?, "sync-csv").await?;
    // Owners by the policy admin's sync; the integrations are seen by the viewer's right.
    let petra = plugin("petra@corp.example", "wayleave-policy-admin").await?;
    let rows = "sync-csv-ann,Ann Doe,ann@corp.example,ann@sync.example,true,\nsync-csv-ben,Ben Roe,ben@corp.example,ben@sync.example;adm-ben,true,2099-01-01\n";
    petra.write("people.csv", &format!("{HEADER}{rows}"))?;

    petra.write(
        "bad.csv",
        &format!("{HEADER}{rows}Eve,\u{1b}[2J,eve,eve@sync.example,maybe,soon\n"),
    )?;
    let (out, said) = sync(&petra, "bad.csv", "csv", &["--yes"], 1).await?;
    has(
        &said,
        &[
            "bad.csv: line 4, active: given 'maybe', allowed is true or false",
            "bad.csv: line 4, until: given 'soon'",
            "bad.csv: line 4, email: given 'eve'",
            "bad.csv: line 4, name: given 'Eve', allowed is a DNS label",
            "displayName: given '\\u{1b}[2J'",
            "error: nothing was written: 5 things",
        ],
    )?;
    ensure!(
        out.is_empty() && owner(&tenant, "sync-csv-ann").await?.is_null(),
        "written all the same"
    );

    let (out, _) = sync(&petra, "people.csv", "csv", &["--dry-run"], 0).await?;
    has(
        &out,
        &[
            "+ sync-csv-ann: Ann Doe <ann@corp.example>",
            "until 2099-01-01T00:00:00Z",
            "2 to create, 0 to change",
        ],
    )?;
    ensure!(owner(&tenant, "sync-csv-ann").await?.is_null(), "a dry run wrote");
    has(
        &sync(&petra, "people.csv", "csv", &[], 1).await?.1,
        &["there is no terminal to ask on; give --yes"],
    )?;
    ensure!(owner(&tenant, "sync-csv-ann").await?.is_null(), "written unasked");
    has(
        &sync(&petra, "people.csv", "csv", &["--yes"], 0).await?.0,
        &["2 written"],
    )?;
    let ben = owner(&tenant, "sync-csv-ben").await?;
    ensure!(
        ben["metadata"]["labels"]["wayleave.dev/owner-source"] == "csv"
            && ben["spec"]["usernames"] == json!(["ben@sync.example", "adm-ben"])
            && ben["spec"]["until"] == "2099-01-01T00:00:00Z",
        "{ben}"
    );
    has(
        &sync(&petra, "people.csv", "csv", &["--yes"], 0).await?.0,
        &["0 to create, 0 to change, 0 to deactivate, 2 unchanged"],
    )?;

    // They own something, and one of them goes.
    let owners = json!({"businessRef": {"name": "sync-csv-ann"}, "technicalRef": {"name": "sync-csv-ben"}});
    tenant.integration("acme", json!({"owners": owners})).await?;
    let partner = tenant.live("reader", json!({})).await?;
    let left = "sync-csv-ann,Ann Poe,ann@corp.example,ann@sync.example,true,\n";
    petra.write("people.csv", &format!("{HEADER}{left}"))?;
    let viewing = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wayleave-viewer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "petra@corp.example"}],
    });
    wayleave_e2e::tenant::create(&tenant.root, "ClusterRoleBinding", "", "petra-views", viewing).await?;
    let (out, said) = sync(&petra, "people.csv", "csv", &["--dry-run"], 0).await?;
    has(
        &out,
        &[
            "~ sync-csv-ann: displayName \"Ann Doe\" -> \"Ann Poe\"",
            "0 to deactivate",
        ],
    )?;
    has(&said, &["left alone without --deactivate-missing: sync-csv-ben"])?;
    let (out, said) = sync(&petra, "people.csv", "csv", &["--deactivate-missing", "--dry-run"], 0).await?;
    has(&out, &["- sync-csv-ben: active true -> false (not in the export)"])?;
    let lost = "sync-csv/acme (partner acme) loses its technical owner sync-csv-ben, and 1 active grants end";
    has(
        &said,
        &[
            lost,
            "kubectl wayleave owner handover sync-csv-ben NEW-OWNER -n sync-csv",
        ],
    )?;
    ensure!(partner.read().await? == 200, "a dry run did something");
    let (out, said) = sync(&petra, "people.csv", "csv", &["--deactivate-missing", "--yes"], 0).await?;
    partner.refused_since(Instant::now()).await?;
    has(&out, &["2 written"])?;
    has(&said, &[lost])?;
    tenant.wait_reason("reader", "OwnerRemoved").await?;
    // Nobody who was made by hand, or is of another source, is touched.
    ensure!(owner(&tenant, &tenant.owner_name("alice")).await?["spec"]["active"] == true);
    ensure!(owner(&tenant, "sync-csv-ben").await?["spec"]["active"] == false);

    // Ben is back: as another object, which brings nothing back.
    petra.write(
        "people.csv",
        &format!("{HEADER}{left}sync-csv-ben,Ben Roe,ben@corp.example,ben@sync.example,true,\n"),
    )?;
    let (out, _) = sync(&petra, "people.csv", "csv", &["--yes"], 0).await?;
    has(
        &out,
        &["+ sync-csv-ben-2: ", "sync-csv-ben stays inactive", "approved again"],
    )?;
    ensure!(owner(&tenant, "sync-csv-ben").await?["spec"]["active"] == false);
    ensure!(owner(&tenant, "sync-csv-ben-2").await?["spec"]["active"] == true);
    tenant.wait_reason("reader", "OwnerRemoved").await?;
    let by_hand = format!(
        "{HEADER}{},Alice,alice@corp.example,alice@hand.example,true,\n",
        tenant.owner_name("alice")
    );
    petra.write("people.csv", &by_hand)?;
    has(
        &sync(&petra, "people.csv", "csv", &["--yes"], 1).await?.1,
        &["line 2, name: given 'sync-csv-alice'", "is made by hand"],
    )?;
    Ok(())
}

#[tokio::test]
async fn a_scim_list_fills_owners_and_says_who_is_inactive() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?, "sync-scim").await?;
    let sam = plugin("sam@corp.example", "wayleave-policy-admin").await?;
    let user = |name: &str, active: bool| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "id": name, "userName": format!("Scim.{name}@corp.example"), "active": active,
            "name": {"formatted": format!("{name} Doe")},
            "emails": [{"value": "old@corp.example"}, {"value": format!("{name}@corp.example"), "primary": true}],
        })
    };
    let list = |users: Value, total: usize| {
        json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": total, "startIndex": 1, "itemsPerPage": total, "Resources": users,
        })
        .to_string()
    };
    sam.write("people.json", &list(json!([user("kim", true)]), 2))?;
    has(
        &sync(&sam, "people.json", "scim", &["--yes"], 1).await?.1,
        &["given '1 of 2'"],
    )?;
    sam.write("people.json", &list(json!([user("kim", true), user("lee", true)]), 2))?;
    let (out, _) = sync(&sam, "people.json", "scim", &["--yes"], 0).await?;
    has(
        &out,
        &[
            "+ scim-kim: kim Doe <kim@corp.example>, users Scim.kim@corp.example",
            "2 written",
        ],
    )?;
    sam.write("export", &list(json!([user("kim", true), user("lee", false)]), 2))?;
    has(
        &sync(&sam, "export", "scim", &["--dry-run"], 1).await?.1,
        &["give --format"],
    )?;
    let (out, _) = sync(
        &sam,
        "export",
        "scim",
        &["--format", "scim", "--dry-run", "-o", "json"],
        0,
    )
    .await?;
    let told: Value = serde_json::from_str(&out)?;
    ensure!(
        told["changes"] == json!([{"change": "Deactivate", "name": "scim-lee", "because": "inactive in the export"}]),
        "{told}"
    );
    let (out, _) = sync(&sam, "export", "scim", &["--format", "scim", "--yes"], 0).await?;
    has(
        &out,
        &["- scim-lee: active true -> false (inactive in the export)", "1 written"],
    )?;
    ensure!(owner(&tenant, "scim-lee").await?["spec"]["active"] == false);
    ensure!(owner(&tenant, "scim-kim").await?["spec"]["active"] == true);
    // The API server knows them by another name than their directory does, and a day of leaving was set by hand.
    let day = json!({"spec": {"until": "2099-01-01T00:00:00Z"}});
    tenant
        .patch_as(&tenant.root, "AccessOwner", "", "scim-kim", day)
        .await?;
    sam.write("export", &list(json!([user("kim", true), user("lee", false)]), 2))?;
    let prefixed = ["--format", "scim", "--yes", "--username-prefix", "oidc:"];
    has(
        &sync(&sam, "export", "scim", &[&prefixed[..4], &["system:"]].concat(), 2)
            .await?
            .1,
        &["not begin with system:"],
    )?;
    let (out, _) = sync(&sam, "export", "scim", &prefixed, 0).await?;
    has(
        &out,
        &["~ scim-kim: usernames", "oidc:Scim.kim@corp.example", "1 written"],
    )?;
    let kim = owner(&tenant, "scim-kim").await?["spec"].clone();
    ensure!(
        kim["usernames"] == json!(["Scim.kim@corp.example", "oidc:Scim.kim@corp.example"])
            && kim["until"] == "2099-01-01T00:00:00Z",
        "{kim}"
    );
    has(
        &sync(&sam, "export", "scim", &prefixed, 0).await?.0,
        &["0 to create, 0 to change"],
    )?;
    // Who may only look writes nothing.
    let eve = Plugin::of(tenant.cp, "eve@corp.example", &[]).await?;
    eve.write("export", &list(json!([user("max", true)]), 1))?;
    has(
        &sync(&eve, "export", "scim", &["--format", "scim", "--yes"], 1).await?.1,
        &["listing owners", "is forbidden"],
    )?;
    Ok(())
}
