//! The API server starts again with the policies in place, and they with it.

use anyhow::{Result, ensure};
use serde_json::json;
use wayleave_e2e::{Part, eventually};

use crate::ordinary::LIMIT;
use crate::world::{CAROL, build, object, refused_with, values, world_on};

#[tokio::test]
async fn an_api_server_that_starts_again_serves_and_refuses_as_before() -> Result<()> {
    let cp = build(values()).await?;
    let world = world_on(&cp, "restarted").await?;
    world.carol().await?.create(world.grant("reader", json!({}))).await?;
    cp.restart(Part::ApiServer).await?;
    let (adam, carol) = (world.adam().await?, world.carol().await?);
    // It serves before it has read the policies: what asks for access is held up, and nobody is let through unnamed.
    adam.create(world.object("ConfigMap", "ordinary", json!({}))).await?;
    eventually("the policies to hold again", LIMIT, || async {
        let answer = adam
            .create(world.object("ServiceAccount", "wlg-forged", json!({})))
            .await;
        if answer.is_ok() {
            adam.delete("ServiceAccount", &world.ns, "wlg-forged").await?;
        }
        refused_with("reserved", answer).map(Some)
    })
    .await?;
    let made = eventually("requests to be taken again", 2 * LIMIT, || async {
        Ok(Some(carol.create(world.grant("writer", json!({}))).await?))
    })
    .await?;
    ensure!(made["spec"]["requestedBy"] == CAROL, "{made}");
    world.root.create(object("Namespace", "", "after", json!({}))).await?;
    Ok(())
}
