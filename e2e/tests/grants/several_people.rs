//! Approvals are of people, not of user names: the lines of a policy are met by different ones, and nobody stands in two.

use std::time::Instant;

use anyhow::{Result, ensure};
use kube::Client;
use serde_json::{Value, json};
use wayleave_e2e::tenant::{CAROL, LIMIT, api, binding, condition, create, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::tenant;
use crate::refusals::{is_told, not_counted};

/// Another user name of carol, who asks.
const ADMIN_CAROL: &str = "adm-carol@corp.example";
const SECURITY: &str = "security";
const LEADS: &str = "payments-leads";

/// Somebody who approves.
struct Approver {
    client: Client,
    user: String,
    groups: &'static [&'static str],
}

impl Approver {
    async fn new(tenant: &Tenant<'_>, user: &str, groups: &'static [&'static str]) -> Result<Self> {
        let client = tenant.cp.user(user, groups).await?;
        let user = user.to_owned();
        Ok(Self { client, user, groups })
    }

    /// Approves, and waits until the approval was weighed; gives its name and its Counted condition.
    async fn approves(&self, tenant: &Tenant<'_>) -> Result<(String, Value)> {
        let names = json!({"decidedBy": self.user, "submittedBy": self.user, "decidedByGroups": self.groups});
        let decision = tenant.approve_as(&self.client, "reader", names).await?;
        let name = text(&decision["metadata"]["name"]);
        let counted = eventually("the approval to be weighed", LIMIT, || async {
            let decision = api(&tenant.root, "AccessDecision", &tenant.ns).get(&name).await?;
            let counted = condition(&serde_json::to_value(decision)?, "Counted");
            let is_weighed = counted["status"] == "True" || counted["status"] == "False";
            Ok(is_weighed.then_some(counted))
        })
        .await?;
        Ok((name, counted))
    }
}

/// Both user names of dana, whom the directory knows of one test alone: it is the whole cluster's.
fn names_of_dana(tenant: &Tenant<'_>) -> [String; 2] {
    ["dana", "adm-dana"].map(|name| format!("{name}@{}.example", tenant.ns))
}

/// Waits until so many approvals count; gives the grant's reason.
async fn counted(tenant: &Tenant<'_>, count: usize) -> Result<String> {
    eventually("the approvals to be counted", LIMIT, || async {
        let grant = tenant.get_grant("reader").await?;
        let approvals = grant["status"]["approvals"].as_array().map_or(0, Vec::len);
        ensure!(approvals == count, "{approvals} approvals count");
        Ok(Some(text(&condition(&grant, "Active")["reason"])))
    })
    .await
}

/// Somebody with several user names.
async fn person(tenant: &Tenant<'_>, name: &str, usernames: &[String]) -> Result<()> {
    let email = format!("{name}@corp.example");
    let spec = json!({"displayName": name, "email": email, "active": true, "usernames": usernames});
    let name = tenant.owner_name(name);
    create(&tenant.root, "AccessOwner", "", &name, json!({"spec": spec})).await?;
    Ok(())
}

/// A tenant whose policy asks for two of security and one of the leads; dana has two user names.
async fn two_lines(ns: &str) -> Result<Tenant<'static>> {
    let tenant = tenant(ns).await?;
    let lines = json!([{"count": 2, "groups": [SECURITY]}, {"count": 1, "groups": [LEADS]}]);
    let policy = json!({"spec": {"requires": {"approvals": lines}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, policy)
        .await?;
    let names = names_of_dana(&tenant);
    person(&tenant, "dana", &names).await?;
    let leads = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": LEADS}]);
    let leads = binding("wayleave-approver", leads);
    create(&tenant.root, "RoleBinding", &tenant.ns, "leads", leads).await?;
    tenant.grant("reader", json!({})).await?;
    let asked = "1 approval of payments-leads and 2 approvals of security (different people) asked for";
    is_told(&tenant, "reader", "AwaitingApproval", asked).await?;
    Ok(tenant)
}

#[tokio::test]
async fn nobody_stands_in_two_lines_or_twice_in_one() -> Result<()> {
    let tenant = two_lines("people-two-lines").await?;
    let names = names_of_dana(&tenant);
    let dana = Approver::new(&tenant, &names[0], &[SECURITY]).await?;
    let admin_dana = Approver::new(&tenant, &names[1], &[SECURITY]).await?;
    let erin = Approver::new(&tenant, "erin@corp.example", &[SECURITY, LEADS]).await?;

    let (first, told) = dana.approves(&tenant).await?;
    ensure!(told["status"] == "True", "{told}");
    ensure!(counted(&tenant, 1).await? == "AwaitingApproval");
    let (second, told) = admin_dana.approves(&tenant).await?;
    ensure!(told["status"] == "True", "{told}");
    // Had it been taken for another person's, the line of the leads would be all that is left.
    let reason = counted(&tenant, 2).await?;
    ensure!(reason == "AwaitingApproval", "{reason}");

    let (third, told) = erin.approves(&tenant).await?;
    ensure!(told["status"] == "True", "{told}");
    // Of both groups, and yet one person.
    let reason = counted(&tenant, 3).await?;
    ensure!(reason == "AwaitingApproval", "{reason}");
    let frank = Approver::new(&tenant, "frank@corp.example", &[LEADS]).await?;
    frank.approves(&tenant).await?;
    tenant.wait_reason("reader", "Issued").await?;
    let partner = tenant.partner("reader").await?;
    partner.answered().await?;

    // Dana has said it twice: one of her approvals may go.
    tenant.delete("AccessDecision", &tenant.ns, &first).await?;
    ensure!(counted(&tenant, 3).await? == "Issued");
    ensure!(partner.read().await? == 200);
    let cause = Instant::now();
    tenant.delete("AccessDecision", &tenant.ns, &second).await?;
    partner.refused_since(cause).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;

    dana.approves(&tenant).await?;
    tenant.wait_reason("reader", "Issued").await?;
    let partner = tenant.partner("reader").await?;
    let cause = Instant::now();
    tenant.delete("AccessDecision", &tenant.ns, &third).await?;
    partner.refused_since(cause).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    Ok(())
}

#[tokio::test]
async fn one_name_of_a_person_in_each_group_is_not_two_people() -> Result<()> {
    let tenant = two_lines("people-one-person").await?;
    let names = names_of_dana(&tenant);
    let dana = Approver::new(&tenant, &names[0], &[SECURITY, LEADS]).await?;
    let admin_dana = Approver::new(&tenant, &names[1], &[SECURITY, LEADS]).await?;
    dana.approves(&tenant).await?;
    admin_dana.approves(&tenant).await?;
    let erin = Approver::new(&tenant, "erin@corp.example", &[LEADS]).await?;
    erin.approves(&tenant).await?;
    let reason = counted(&tenant, 3).await?;
    ensure!(
        reason == "AwaitingApproval",
        "two people met the lines of three: {reason}"
    );
    // Without the directory's word they are two names, and two people as far as anybody can tell.
    tenant.delete("AccessOwner", "", &tenant.owner_name("dana")).await?;
    tenant.wait_reason("reader", "Issued").await?;
    let partner = tenant.partner("reader").await?;
    partner.answered().await?;
    let cause = Instant::now();
    person(&tenant, "dana-again", &names).await?;
    partner.refused_since(cause).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    Ok(())
}

#[tokio::test]
async fn who_asks_does_not_approve_under_another_name() -> Result<()> {
    let tenant = two_lines("people-own-request").await?;
    person(&tenant, "carol", &[CAROL, ADMIN_CAROL].map(ToOwned::to_owned)).await?;
    let admin_carol = Approver::new(&tenant, ADMIN_CAROL, &[SECURITY, LEADS]).await?;
    let (name, _) = admin_carol.approves(&tenant).await?;
    // Who is who is known once the operator has seen the AccessOwner, too.
    not_counted(&tenant, &json!({"metadata": {"name": name}}), "OwnRequest").await?;
    let erin = Approver::new(&tenant, "erin@corp.example", &[SECURITY, LEADS]).await?;
    erin.approves(&tenant).await?;
    let reason = counted(&tenant, 1).await?;
    ensure!(reason == "AwaitingApproval", "{reason}");
    Ok(())
}
