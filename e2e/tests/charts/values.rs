//! Every value does what it says, and a wrong one is refused by name.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::render::{CHART, POLICIES, chart, find, for_cluster, helm, objects, of_kind, template};

#[tokio::test]
async fn helm_lint_finds_nothing() -> Result<()> {
    for name in [CHART, POLICIES] {
        let output = helm()
            .await?
            .args(["lint", "--strict"])
            .arg(chart(name))
            .run()
            .await?
            .ok()?;
        ensure!(
            output.contains("0 chart(s) failed") && !output.contains("[WARNING]"),
            "{output}"
        );
    }
    Ok(())
}

/// A value, and what it does to what is rendered.
type Row = (&'static str, Value, fn(&[Value]) -> bool);

fn deployment(objects: &[Value]) -> &Value {
    of_kind(objects, "Deployment")[0]
}

fn pod(objects: &[Value]) -> &Value {
    &deployment(objects)["spec"]["template"]["spec"]
}

fn container(objects: &[Value]) -> &Value {
    &pod(objects)["containers"][0]
}

fn has_argument(objects: &[Value], end: &str) -> bool {
    has_argument_in(pod(objects), end)
}

fn has_argument_in(pod: &Value, end: &str) -> bool {
    let arguments = pod["containers"][0]["args"].as_array();
    arguments.is_some_and(|all| all.iter().filter_map(Value::as_str).any(|it| it.ends_with(end)))
}

/// Whether it holds of every pod that runs as the operator: its own, and the one that ends access before the chart goes.
fn of_everybody(objects: &[Value], holds: fn(&Value) -> bool) -> bool {
    let pods: Vec<_> = ["Deployment", "Job"]
        .into_iter()
        .flat_map(|kind| of_kind(objects, kind))
        .map(|it| &it["spec"]["template"]["spec"])
        .collect();
    pods.len() == 2 && pods.into_iter().all(holds)
}

/// Whether the policy of this name says this somewhere.
fn policy_says(objects: &[Value], name: &str, text: &str) -> bool {
    let policies = objects
        .iter()
        .filter(|it| it["metadata"]["name"] == format!("wayleave-{name}"));
    policies
        .filter(|it| it["spec"].get("matchConstraints").is_some())
        .any(|it| it.to_string().contains(text))
}

fn enrolment_rules(objects: &[Value]) -> String {
    find(objects, "ClusterRole", "wayleave-enrolment").map_or_else(String::new, |role| role["rules"].to_string())
}

/// Whether there is this monitor, with all that the rows set.
fn is_monitor(objects: &[Value], kind: &str, endpoints: &str) -> bool {
    let endpoint = json!([{"port": "http", "path": "/metrics", "interval": "7s", "scrapeTimeout": "5s",
        "relabelings": [{"action": "labelmap"}], "metricRelabelings": [{"action": "drop"}]}]);
    find(objects, kind, "wayleave")
        .is_some_and(|it| it["metadata"]["labels"]["a"] == "b" && it["spec"][endpoints] == endpoint)
}

fn rows() -> Vec<Row> {
    vec![
        ("fullnameOverride", json!("wl"), |all| {
            find(all, "Deployment", "wl").is_some() && find(all, "ClusterRole", "wl-approver").is_some()
        }),
        ("nameOverride", json!("gate"), |all| {
            find(all, "Deployment", "wayleave-gate").is_some()
                && find(all, "ClusterRole", "wayleave-gate-viewer").is_some()
        }),
        ("namespaceOverride", json!("ops"), |all| {
            let namespaces = all.iter().filter_map(|it| it["metadata"]["namespace"].as_str());
            namespaces.collect::<BTreeSet<_>>() == BTreeSet::from(["ops", "wayleave-identities"])
                && find(all, "ClusterRoleBinding", "wayleave").is_some_and(|it| it["subjects"][0]["namespace"] == "ops")
                && policy_says(all, "reserved-names", "system:serviceaccount:ops:wayleave")
                && policy_says(all, "own-records", "\"ops\"")
                // The release's own namespace, with what helm keeps there, can't be enrolled either.
                && policy_says(all, "operator-bindings", "[\\\"ops\\\",\\\"wayleave-identities\\\",\\\"wayleave-system\\\"")
        }),
        ("commonLabels", json!({"team": "security"}), |all| {
            let labelled = |it: &Value| it["metadata"]["labels"]["team"] == "security";
            let its_pods = |it: &Value| it["spec"].get("template").is_none_or(labelled);
            all.iter().all(|it| labelled(it) && its_pods(it))
        }),
        ("crds.enabled", json!(false), |all| {
            of_kind(all, "CustomResourceDefinition").is_empty()
        }),
        ("crds.keep", json!(false), |all| {
            let kinds = of_kind(all, "CustomResourceDefinition");
            kinds.len() == 6
                && kinds
                    .iter()
                    .all(|it| it["metadata"]["annotations"].get("helm.sh/resource-policy").is_none())
        }),
        ("rbac.create", json!(false), |all| {
            let roles = of_kind(all, "ClusterRole");
            roles.len() == 6
                && find(all, "ClusterRole", "wayleave-approver").is_some()
                && ["Role", "RoleBinding", "ClusterRoleBinding"]
                    .iter()
                    .all(|kind| of_kind(all, kind).is_empty())
        }),
        ("rbac.people", json!(false), |all| {
            let roles = of_kind(all, "ClusterRole");
            roles.len() == 2 && find(all, "ClusterRole", "wayleave-enrolment").is_some()
        }),
        ("serviceAccount.create", json!(false), |all| {
            of_kind(all, "ServiceAccount").is_empty()
        }),
        ("serviceAccount.name", json!("op"), |all| {
            let user = "system:serviceaccount:wayleave-system:op";
            find(all, "ServiceAccount", "op").is_some()
                && pod(all)["serviceAccountName"] == "op"
                && has_argument(all, "=op")
                && policy_says(all, "reserved-names", user)
                && find(all, "ClusterRoleBinding", "wayleave").is_some_and(|it| it["subjects"][0]["name"] == "op")
        }),
        ("serviceAccount.annotations", json!({"a": "b"}), |all| {
            find(all, "ServiceAccount", "wayleave").is_some_and(|it| it["metadata"]["annotations"]["a"] == "b")
        }),
        ("identityNamespace.name", json!("ids"), |all| {
            find(all, "Namespace", "ids").is_some()
                && has_argument(all, "=ids")
                && find(all, "Role", "wayleave").is_some_and(|it| it["metadata"]["namespace"] == "ids")
                && ["identity-bindings", "operator-tokens", "pods"]
                    .iter()
                    .all(|name| policy_says(all, name, "'ids'"))
                && !json!(all).to_string().contains("wayleave-identities")
        }),
        ("identityNamespace.create", json!(false), |all| {
            of_kind(all, "Namespace").is_empty()
        }),
        ("identityNamespace.labels", json!({"a": "b"}), |all| {
            of_kind(all, "Namespace")[0]["metadata"]["labels"]["a"] == "b"
        }),
        ("image.repository", json!("r.example/w"), |all| {
            container(all)["image"] == "r.example/w:0.1.0"
        }),
        ("image.tag", json!("v9"), |all| {
            container(all)["image"] == "ghcr.io/wayleave/wayleave:v9"
        }),
        ("image.digest", json!(format!("sha256:{}", "0".repeat(64))), |all| {
            container(all)["image"] == format!("ghcr.io/wayleave/wayleave@sha256:{}", "0".repeat(64))
        }),
        ("image.pullPolicy", json!("Never"), |all| {
            container(all)["imagePullPolicy"] == "Never"
        }),
        ("imagePullSecrets", json!([{"name": "pull"}]), |all| {
            pod(all)["imagePullSecrets"][0]["name"] == "pull"
        }),
        ("replicas", json!(3), |all| deployment(all)["spec"]["replicas"] == 3),
        ("revisionHistoryLimit", json!(7), |all| {
            deployment(all)["spec"]["revisionHistoryLimit"] == 7
        }),
        ("strategy", json!({"type": "Recreate"}), |all| {
            deployment(all)["spec"]["strategy"]["type"] == "Recreate"
        }),
        ("terminationGracePeriodSeconds", json!(99), |all| {
            pod(all)["terminationGracePeriodSeconds"] == 99
        }),
        ("logLevel", json!("debug"), |all| {
            of_everybody(all, |pod| has_argument_in(pod, "=debug"))
        }),
        ("logLevel", json!("info,kube=debug"), |all| {
            has_argument(all, "=info,kube=debug")
        }),
        ("logFormat", json!("text"), |all| {
            of_everybody(all, |pod| has_argument_in(pod, "--log-format=text"))
        }),
        ("leaderElection.leaseDurationSeconds", json!(60), |all| {
            of_everybody(all, |pod| has_argument_in(pod, "--lease-duration=60"))
        }),
        ("concurrency", json!(8), |all| has_argument(all, "--concurrency=8")),
        ("listenAddress", json!("::"), |all| {
            has_argument(all, "--listen=[::]:8080")
        }),
        ("partnerServer", json!("https://api.example"), |all| {
            has_argument(all, "=https://api.example")
        }),
        ("extraArgs", json!(["--more=1"]), |all| has_argument(all, "--more=1")),
        ("extraEnv", json!([{"name": "A", "value": "b"}]), |all| {
            of_everybody(all, |pod| {
                let env = pod["containers"][0]["env"].as_array();
                env.is_some_and(|all| all.contains(&json!({"name": "A", "value": "b"})))
            })
        }),
        ("extraVolumes", json!([{"name": "a", "emptyDir": {}}]), |all| {
            of_everybody(all, |pod| pod["volumes"][0]["name"] == "a")
        }),
        ("extraVolumeMounts", json!([{"name": "a", "mountPath": "/a"}]), |all| {
            of_everybody(all, |pod| pod["containers"][0]["volumeMounts"][0]["mountPath"] == "/a")
        }),
        ("resources", json!({"limits": {"memory": "1Gi"}}), |all| {
            of_everybody(all, |pod| {
                pod["containers"][0]["resources"]["limits"]["memory"] == "1Gi"
            })
        }),
        // With null a default goes: some platforms choose the user themselves.
        ("podSecurityContext", json!({"runAsUser": null, "fsGroup": 1}), |all| {
            of_everybody(all, |pod| {
                let context = &pod["securityContext"];
                context["fsGroup"] == 1 && context.get("runAsUser").is_none() && context["runAsNonRoot"] == true
            })
        }),
        ("containerSecurityContext", json!({"runAsUser": 1}), |all| {
            of_everybody(all, |pod| {
                let context = &pod["containers"][0]["securityContext"];
                context["runAsUser"] == 1 && context["readOnlyRootFilesystem"] == true
            })
        }),
        ("hostUsers", json!(false), |all| {
            of_everybody(all, |pod| pod["hostUsers"] == false)
        }),
        (
            "livenessProbe",
            json!({"periodSeconds": 7, "failureThreshold": 9}),
            |all| {
                let probe = &container(all)["livenessProbe"];
                probe["periodSeconds"] == 7 && probe["failureThreshold"] == 9 && probe["httpGet"]["path"] == "/live"
            },
        ),
        (
            "readinessProbe",
            json!({"periodSeconds": 7, "timeoutSeconds": 9}),
            |all| {
                let probe = &container(all)["readinessProbe"];
                probe["periodSeconds"] == 7 && probe["timeoutSeconds"] == 9 && probe["httpGet"]["path"] == "/ready"
            },
        ),
        ("nodeSelector", json!({"a": "b"}), |all| {
            of_everybody(all, |pod| pod["nodeSelector"]["a"] == "b")
        }),
        ("tolerations", json!([{"key": "a"}]), |all| {
            of_everybody(all, |pod| pod["tolerations"][0]["key"] == "a")
        }),
        ("affinity", json!({"podAntiAffinity": {}}), |all| {
            of_everybody(all, |pod| pod["affinity"].get("podAntiAffinity").is_some())
        }),
        ("topologySpreadConstraints", json!([{"maxSkew": 1}]), |all| {
            pod(all)["topologySpreadConstraints"][0]["maxSkew"] == 1
        }),
        ("priorityClassName", json!("high"), |all| {
            of_everybody(all, |pod| pod["priorityClassName"] == "high")
        }),
        ("dnsPolicy", json!("Default"), |all| {
            of_everybody(all, |pod| pod["dnsPolicy"] == "Default")
        }),
        ("dnsConfig", json!({"nameservers": ["192.0.2.1"]}), |all| {
            of_everybody(all, |pod| pod["dnsConfig"]["nameservers"][0] == "192.0.2.1")
        }),
        ("deploymentAnnotations", json!({"a": "b"}), |all| {
            deployment(all)["metadata"]["annotations"]["a"] == "b"
        }),
        ("podAnnotations", json!({"a": "b"}), |all| {
            deployment(all)["spec"]["template"]["metadata"]["annotations"]["a"] == "b"
        }),
        ("podLabels", json!({"a": "b"}), |all| {
            deployment(all)["spec"]["template"]["metadata"]["labels"]["a"] == "b"
        }),
        ("podDisruptionBudget.enabled", json!(false), |all| {
            of_kind(all, "PodDisruptionBudget").is_empty()
        }),
        ("podDisruptionBudget.maxUnavailable", json!("50%"), |all| {
            of_kind(all, "PodDisruptionBudget")
                .iter()
                .any(|it| it["spec"]["maxUnavailable"] == "50%")
        }),
        // One that keeps the only replica would keep its node for ever.
        ("replicas", json!(1), |all| {
            of_kind(all, "PodDisruptionBudget").is_empty()
        }),
        ("metrics.service", json!(false), |all| {
            of_kind(all, "Service").is_empty()
        }),
        ("metrics.serviceAnnotations", json!({"a": "b"}), |all| {
            of_kind(all, "Service")[0]["metadata"]["annotations"]["a"] == "b"
        }),
        (
            "metrics.serviceMonitor",
            json!({"renderMode": "always", "labels": {"a": "b"}, "interval": "7s", "scrapeTimeout": "5s",
                "relabelings": [{"action": "labelmap"}], "metricRelabelings": [{"action": "drop"}]}),
            |all| is_monitor(all, "ServiceMonitor", "endpoints"),
        ),
        (
            "metrics.podMonitor",
            json!({"renderMode": "always", "labels": {"a": "b"}, "interval": "7s", "scrapeTimeout": "5s",
                "relabelings": [{"action": "labelmap"}], "metricRelabelings": [{"action": "drop"}]}),
            |all| is_monitor(all, "PodMonitor", "podMetricsEndpoints"),
        ),
        (
            "metrics.prometheusRule",
            json!({"renderMode": "always", "labels": {"a": "b"}, "runbooks": "https://docs.example/runbooks/"}),
            |all| {
                find(all, "PrometheusRule", "wayleave").is_some_and(|it| {
                    let rules = it["spec"]["groups"].as_array().into_iter().flatten();
                    let rules: Vec<&Value> = rules.flat_map(|it| it["rules"].as_array()).flatten().collect();
                    let leads = |rule: &&Value| {
                        let page = format!(
                            "https://docs.example/runbooks/{}.md",
                            rule["alert"].as_str().unwrap_or("?")
                        );
                        rule["annotations"]["runbook_url"] == page
                    };
                    it["metadata"]["labels"]["a"] == "b" && rules.len() > 10 && rules.iter().all(leads)
                })
            },
        ),
        (
            "metrics.dashboard",
            json!({"enabled": true, "labels": {"a": "b"}, "annotations": {"grafana_folder": "Security"}}),
            |all| {
                find(all, "ConfigMap", "wayleave-dashboard").is_some_and(|it| {
                    let shown = it["data"]["wayleave.json"].as_str().unwrap_or_default();
                    let wanted = std::fs::read_to_string(chart(CHART).join("files/dashboard.json")).unwrap_or_default();
                    let labels = &it["metadata"]["labels"];
                    (&labels["a"], &labels["grafana_dashboard"]) == (&json!("b"), &json!("1"))
                        && it["metadata"]["annotations"] == json!({"grafana_folder": "Security"})
                        && !shown.is_empty()
                        && shown.trim() == wanted.trim()
                })
            },
        ),
        ("networkPolicy.enabled", json!(true), |all| {
            let policies = of_kind(all, "NetworkPolicy");
            policies.len() == 1
                && policies[0]["spec"]["policyTypes"] == json!(["Ingress", "Egress"])
                && policies[0]["spec"]["ingress"] == json!([{"ports": [{"port": 8080}]}])
                && policies[0]["spec"]["egress"] == json!([{"ports": [{"port": 443}, {"port": 6443}]}])
        }),
        (
            "networkPolicy",
            json!({"enabled": true, "scrapers": [{"podSelector": {}}], "apiServers": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
                "apiServerPorts": [16443], "extraEgress": [{"ports": [{"port": 53}]}]}),
            |all| {
                let rules = |it: &Value| {
                    it["spec"]["ingress"][0]["from"] == json!([{"podSelector": {}}])
                        && it["spec"]["egress"]
                            == json!([
                                {"ports": [{"port": 16443}], "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
                                {"ports": [{"port": 53}]}
                            ])
                };
                of_kind(all, "NetworkPolicy").into_iter().any(rules)
            },
        ),
        ("flowControl.enabled", json!(false), |all| {
            of_kind(all, "FlowSchema").is_empty() && of_kind(all, "PriorityLevelConfiguration").is_empty()
        }),
        ("flowControl.nominalConcurrencyShares", json!(77), |all| {
            of_kind(all, "PriorityLevelConfiguration")[0]["spec"]["limited"]["nominalConcurrencyShares"] == 77
        }),
        ("flowControl.queueLengthLimit", json!(77), |all| {
            let level = &of_kind(all, "PriorityLevelConfiguration")[0]["spec"]["limited"];
            level["limitResponse"]["queuing"]["queueLengthLimit"] == 77
        }),
        ("flowControl.matchingPrecedence", json!(77), |all| {
            of_kind(all, "FlowSchema")
                .iter()
                .all(|it| it["spec"]["matchingPrecedence"] == 77)
        }),
        ("uninstall.hook", json!(false), |all| of_kind(all, "Job").is_empty()),
        ("uninstall.timeoutSeconds", json!(99), |all| {
            let job = &of_kind(all, "Job")[0]["spec"];
            let arguments = &job["template"]["spec"]["containers"][0]["args"];
            job["activeDeadlineSeconds"] == 129 && arguments[1] == "--timeout=99"
        }),
        ("namespaces", json!(["payments", "ledger"]), |all| {
            let enrols = |it: &&Value| it["roleRef"]["name"] == "wayleave-enrolment";
            let mut where_: Vec<_> = of_kind(all, "RoleBinding")
                .into_iter()
                .filter(enrols)
                .map(|it| &it["metadata"]["namespace"])
                .collect();
            where_.sort_by_key(|it| it.to_string());
            where_ == ["ledger", "payments"]
        }),
        ("enrolment.name", json!("enrol"), |all| {
            find(all, "ClusterRole", "enrol").is_some()
                && find(all, "ClusterRole", "wayleave-enroller").is_some_and(|it| it.to_string().contains("\"enrol\""))
                && ["enrolment-stays", "operator-bindings", "operator-limits"]
                    .iter()
                    .all(|name| policy_says(all, name, "[\\\"enrol\\\"]"))
        }),
        ("enrolment.otherClusterRoles", json!(["wide"]), |all| {
            find(all, "ClusterRole", "wayleave-enroller").is_some_and(|it| it.to_string().contains("\"wide\""))
                && ["enrolment-stays", "operator-bindings", "operator-limits"]
                    .iter()
                    .all(|name| policy_says(all, name, "\\\"wide\\\""))
        }),
        (
            "ceiling.rules",
            json!([{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]}]),
            |all| {
                let rules = enrolment_rules(all);
                rules.contains("jobs") && !rules.contains("deployments")
            },
        ),
        ("ceiling.clusterRoles", json!(["partners"]), |all| {
            let rules = enrolment_rules(all);
            rules.contains("partners") && !rules.contains("wayleave-read")
        }),
        ("ceiling.staticCredentials", json!(true), |all| {
            policy_says(all, "operator-limits", "s.namespace == request.namespace")
        }),
        ("admission.enabled", json!(false), |all| {
            !json!(all).to_string().contains("AdmissionPolicy\"")
        }),
        ("admission.mutating", json!(false), |all| {
            of_kind(all, "MutatingAdmissionPolicy").is_empty() && !of_kind(all, "ValidatingAdmissionPolicy").is_empty()
        }),
        (
            "admission.delegates.requests",
            json!(["system:serviceaccount:gitops:bot-a"]),
            |all| {
                policy_says(all, "requests", "bot-a")
                    && policy_says(all, "stamp-requests", "bot-a")
                    && !policy_says(all, "decisions", "bot-a")
            },
        ),
        ("admission.delegates.decisions", json!(["bot-b"]), |all| {
            policy_says(all, "decisions", "bot-b")
                && policy_says(all, "stamp-decisions", "bot-b")
                && !policy_says(all, "requests", "bot-b")
        }),
        ("admission.requirePodOperator", json!(true), |all| {
            find(all, "ValidatingAdmissionPolicy", "wayleave-operator-pod").is_some()
        }),
        ("admission.protectedNamespaces", json!(["vault"]), |all| {
            policy_says(all, "operator-bindings", "\\\"vault\\\"")
        }),
    ]
}

fn policy(objects: &[Value]) -> &Value {
    &of_kind(objects, "AccessPolicy")[0]["spec"]
}

fn rows_of_policies() -> Vec<Row> {
    vec![
        ("namespaceSelector.matchLabels", json!({"a": "b"}), |all| {
            policy(all)["namespaceSelector"]["matchLabels"]["a"] == "b"
        }),
        ("clusterRole.create", json!(false), |all| {
            of_kind(all, "ClusterRole").is_empty()
        }),
        ("clusterRole.name", json!("partners"), |all| {
            find(all, "ClusterRole", "partners").is_some()
                && policy(all)["access"]["clusterRoles"] == json!(["partners"])
        }),
        (
            "clusterRole.rules",
            json!([{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]}]),
            |all| of_kind(all, "ClusterRole")[0]["rules"][0]["resources"] == json!(["jobs"]),
        ),
        ("policy.create", json!(false), |all| {
            of_kind(all, "AccessPolicy").is_empty()
        }),
        ("policy.name", json!("first"), |all| {
            find(all, "AccessPolicy", "first").is_some()
        }),
        ("policy.dataClassifications", json!(["Public"]), |all| {
            policy(all)["dataClassifications"] == json!(["Public"])
        }),
        ("policy.environments", json!(["Production"]), |all| {
            policy(all)["environments"] == json!(["Production"])
        }),
        ("policy.limits", json!({"duration": "7d"}), |all| {
            policy(all)["limits"]["duration"] == "7d"
        }),
        ("policy.rules", json!([]), |all| {
            policy(all)["access"].get("rules").is_none()
        }),
        ("policy.requires", json!({"ticket": false}), |all| {
            policy(all)["requires"]["ticket"] == false
        }),
        ("policy.idle", json!({"revokeAfter": "5d"}), |all| {
            policy(all)["idle"]["revokeAfter"] == "5d"
        }),
    ]
}

/// `{"a": {"b": value}}` of `a.b`.
fn at(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |inner, key| json!({ key: inner }))
}

#[tokio::test]
async fn every_value_does_what_it_says() -> Result<()> {
    for (chart, rows) in [(CHART, rows()), (POLICIES, rows_of_policies())] {
        let defaults = objects(chart, &json!({})).await?;
        for (path, value, holds) in rows {
            let what = format!("{chart}: {path}: {value}");
            let changed = objects(chart, &at(path, value)).await.with_context(|| what.clone())?;
            ensure!(holds(&changed), "{what} does not do what it says");
            ensure!(!holds(&defaults), "{what} is what the defaults do");
        }
    }
    Ok(())
}

pub fn leaves(prefix: &str, value: &Value, into: &mut Vec<String>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let path = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                leaves(&path, value, into);
            }
        }
        _ => into.push(prefix.to_owned()),
    }
}

#[tokio::test]
async fn no_value_is_without_a_test() -> Result<()> {
    for (name, rows) in [(CHART, rows()), (POLICIES, rows_of_policies())] {
        let text = std::fs::read_to_string(chart(name).join("values.yaml"))?;
        let mut all = Vec::new();
        leaves("", &serde_saphyr::from_str(&text)?, &mut all);
        ensure!(all.len() > 10, "{all:?}");
        all.retain(|leaf| {
            !rows
                .iter()
                .any(|(path, ..)| leaf == path || leaf.starts_with(&format!("{path}.")))
        });
        ensure!(all.is_empty(), "no test of {all:?} of {name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_value_is_refused_by_name() -> Result<()> {
    let rule = |group: &str, resource: &str, verb: &str| json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]);
    for (chart, path, value, named) in [
        (CHART, "logLevel", json!("loud"), "/logLevel"),
        (CHART, "replica", json!(1), "'replica'"),
        (CHART, "replicas", json!("two"), "/replicas"),
        (CHART, "replicas", json!(-1), "/replicas"),
        (CHART, "fullnameOverride", json!("Upper"), "/fullnameOverride"),
        (CHART, "nameOverride", json!("Upper"), "/nameOverride"),
        (CHART, "namespaceOverride", json!("kube-system"), "/namespaceOverride"),
        (
            CHART,
            "commonLabels",
            json!({"app.kubernetes.io/name": "a"}),
            "commonLabels: the label app.kubernetes.io/name is set by the chart",
        ),
        (
            CHART,
            "podLabels",
            json!({"app.kubernetes.io/instance": "a"}),
            "podLabels: the label app.kubernetes.io/instance is set by the chart",
        ),
        (
            CHART,
            "identityNamespace.labels",
            json!({"wayleave.dev/managed": "true"}),
            "identityNamespace.labels: the label wayleave.dev/managed is set by the chart",
        ),
        (CHART, "crds.keep", json!("yes"), "/crds/keep"),
        (CHART, "crds.kept", json!(true), "'kept'"),
        (CHART, "rbac.create", json!("no"), "/rbac/create"),
        (CHART, "revisionHistoryLimit", json!(-1), "/revisionHistoryLimit"),
        (CHART, "strategy.type", json!("Slow"), "/strategy/type"),
        (
            CHART,
            "terminationGracePeriodSeconds",
            json!(5),
            "/terminationGracePeriodSeconds",
        ),
        (CHART, "logFormat", json!("xml"), "/logFormat"),
        (
            CHART,
            "leaderElection.leaseDurationSeconds",
            json!(1),
            "/leaderElection/leaseDurationSeconds",
        ),
        (CHART, "concurrency", json!(0), "/concurrency"),
        (CHART, "listenAddress", json!("127.0.0.1"), "/listenAddress"),
        (CHART, "extraArgs", json!(["log"]), "/extraArgs/0"),
        (CHART, "extraEnv", json!([{"value": "b"}]), "/extraEnv/0"),
        // Two replicas of one name would both hold the lease.
        (
            CHART,
            "extraEnv",
            json!([{"name": "POD_NAME", "value": "one"}]),
            "extraEnv: POD_NAME is set by the chart",
        ),
        (CHART, "extraVolumes", json!([{"emptyDir": {}}]), "/extraVolumes/0"),
        (
            CHART,
            "extraVolumeMounts",
            json!([{"name": "a"}]),
            "/extraVolumeMounts/0",
        ),
        (CHART, "resources.memory", json!("1Gi"), "'memory'"),
        (CHART, "podSecurityContext", json!("none"), "/podSecurityContext"),
        (
            CHART,
            "containerSecurityContext",
            json!("none"),
            "/containerSecurityContext",
        ),
        (CHART, "hostUsers", json!("maybe"), "/hostUsers"),
        (CHART, "livenessProbe.httpGet", json!({}), "'httpGet'"),
        (
            CHART,
            "readinessProbe.periodSeconds",
            json!(0),
            "/readinessProbe/periodSeconds",
        ),
        (CHART, "affinity.pods", json!({}), "'pods'"),
        (CHART, "dnsPolicy", json!("Some"), "/dnsPolicy"),
        (CHART, "dnsConfig.servers", json!([]), "'servers'"),
        (CHART, "deploymentAnnotations.a", json!(1), "/deploymentAnnotations/a"),
        (CHART, "serviceAccount.name", json!("it's"), "/serviceAccount/name"),
        (
            CHART,
            "identityNamespace.name",
            json!("kube-partners"),
            "/identityNamespace/name",
        ),
        (
            CHART,
            "identityNamespace.name",
            json!("default"),
            "/identityNamespace/name",
        ),
        (
            CHART,
            "identityNamespace.name",
            json!("wayleave-system"),
            "identityNamespace.name must differ",
        ),
        (CHART, "image.digest", json!("latest"), "/image/digest"),
        (CHART, "image.tag", json!("a b"), "/image/tag"),
        (CHART, "image.pullPolicy", json!("Sometimes"), "/image/pullPolicy"),
        (CHART, "partnerServer", json!("http://plain"), "/partnerServer"),
        (
            CHART,
            "podDisruptionBudget.maxUnavailable",
            json!("half"),
            "/podDisruptionBudget/maxUnavailable",
        ),
        (
            CHART,
            "metrics.serviceMonitor.renderMode",
            json!("maybe"),
            "/metrics/serviceMonitor/renderMode",
        ),
        (
            CHART,
            "metrics.podMonitor.interval",
            json!("often"),
            "/metrics/podMonitor/interval",
        ),
        (
            CHART,
            "metrics",
            json!({"service": false, "serviceMonitor": {"renderMode": "always"}}),
            "metrics.serviceMonitor.renderMode: there is no Service",
        ),
        (
            CHART,
            "metrics",
            json!({"podMonitor": {"renderMode": "always"}, "serviceMonitor": {"renderMode": "always"}}),
            "metrics.podMonitor.renderMode: every replica would be scraped twice",
        ),
        (
            CHART,
            "metrics.prometheusRule.renderMode",
            json!("maybe"),
            "/metrics/prometheusRule/renderMode",
        ),
        (
            CHART,
            "metrics.prometheusRule.runbooks",
            json!("docs/runbooks"),
            "/metrics/prometheusRule/runbooks",
        ),
        (
            CHART,
            "metrics.dashboard.labels",
            json!({"grafana_dashboard": 1}),
            "/metrics/dashboard/labels/grafana_dashboard",
        ),
        (CHART, "networkPolicy.enabled", json!("no"), "/networkPolicy/enabled"),
        (
            CHART,
            "networkPolicy.scrapers",
            json!(["all"]),
            "/networkPolicy/scrapers/0",
        ),
        (
            CHART,
            "networkPolicy.apiServerPorts",
            json!([0]),
            "/networkPolicy/apiServerPorts/0",
        ),
        (
            CHART,
            "flowControl.nominalConcurrencyShares",
            json!(0),
            "/flowControl/nominalConcurrencyShares",
        ),
        // Kubernetes' own for ServiceAccounts would be asked first.
        (
            CHART,
            "flowControl.matchingPrecedence",
            json!(9000),
            "/flowControl/matchingPrecedence",
        ),
        (CHART, "namespaces", json!(["kube-system"]), "/namespaces/0"),
        (CHART, "namespaces", json!(["payments", "payments"]), "/namespaces"),
        (
            CHART,
            "namespaces",
            json!(["argocd"]),
            "namespaces: argocd is protected",
        ),
        (
            CHART,
            "namespaces",
            json!(["wayleave-identities"]),
            "namespaces: wayleave-identities is protected",
        ),
        (CHART, "uninstall.hook", json!("no"), "/uninstall/hook"),
        (CHART, "uninstall.timeoutSeconds", json!(0), "/uninstall/timeoutSeconds"),
        (CHART, "enrolment.name", json!("a'b"), "/enrolment/name"),
        (
            CHART,
            "ceiling.rules",
            rule("*", "pods", "get"),
            "/ceiling/rules/0/apiGroups/0",
        ),
        (
            CHART,
            "ceiling.rules",
            rule("", "*", "get"),
            "/ceiling/rules/0/resources/0",
        ),
        (
            CHART,
            "ceiling.rules",
            rule("", "serviceaccounts/token", "create"),
            "/ceiling/rules/0/resources/0",
        ),
        (
            CHART,
            "ceiling.rules",
            rule("", "pods", "*"),
            "/ceiling/rules/0/verbs/0",
        ),
        (
            CHART,
            "ceiling.rules",
            rule("", "pods", "escalate"),
            "/ceiling/rules/0/verbs/0",
        ),
        (
            CHART,
            "ceiling.rules",
            rule("", "pods", "impersonate"),
            "/ceiling/rules/0/verbs/0",
        ),
        (
            CHART,
            "ceiling.clusterRoles",
            json!(["cluster-admin"]),
            "/ceiling/clusterRoles/0",
        ),
        (CHART, "admission.mutating", json!("maybe"), "/admission/mutating"),
        (
            CHART,
            "admission.delegates.requests",
            json!(["system:serviceaccount:gitops:a'b"]),
            "/admission/delegates/requests/0",
        ),
        // A policy would take it for a person.
        (
            CHART,
            "admission.delegates.requests",
            json!(["gitops@corp.example"]),
            "/admission/delegates/requests/0",
        ),
        (
            CHART,
            "admission.delegates.decisions",
            json!(["a'b"]),
            "/admission/delegates/decisions/0",
        ),
        (
            CHART,
            "admission.protectedNamespaces",
            json!(["a'b"]),
            "/admission/protectedNamespaces/0",
        ),
        (
            POLICIES,
            "policy.environments",
            json!(["Test"]),
            "/policy/environments/0",
        ),
        (
            POLICIES,
            "policy.dataClassifications",
            json!([]),
            "/policy/dataClassifications",
        ),
        (
            POLICIES,
            "policy.rules",
            rule("", "pods", "*"),
            "/policy/rules/0/verbs/0",
        ),
        (
            POLICIES,
            "clusterRole.rules",
            rule("", "*", "get"),
            "/clusterRole/rules/0/resources/0",
        ),
        (POLICIES, "colour", json!("red"), "'colour'"),
    ] {
        let output = template(chart, &at(path, value.clone())).await?;
        ensure!(!output.status.success(), "{path}: {value} was accepted");
        ensure!(
            output.stderr.contains(named),
            "{path}: {value} was refused without {named}: {}",
            output.stderr
        );
    }
    Ok(())
}

#[tokio::test]
async fn no_argument_of_the_chart_can_be_given_twice() -> Result<()> {
    let all = objects(CHART, &json!({"partnerServer": "https://api.example"})).await?;
    let arguments = container(&all)["args"].as_array().into_iter().flatten();
    // The pod's name: by it one replica is told from the other.
    let arguments = arguments.filter_map(Value::as_str).chain(["--identity=one"]);
    for argument in arguments {
        let output = template(CHART, &json!({"extraArgs": [argument]})).await?;
        let named = format!("extraArgs: {argument} is set by the chart");
        ensure!(
            !output.status.success() && output.stderr.contains(&named),
            "{argument}: {}",
            output.stderr
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_chart_of_charts_may_hold_it() -> Result<()> {
    let values = json!({"global": {"anything": "at all"}, "enabled": true});
    for chart in [CHART, POLICIES] {
        ensure!(
            objects(chart, &values).await? == objects(chart, &json!({})).await?,
            "{chart}: what helm or another chart reads changes nothing"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_monitor_is_made_where_its_kind_is_served() -> Result<()> {
    for (key, kind) in [
        ("serviceMonitor", "ServiceMonitor"),
        ("podMonitor", "PodMonitor"),
        ("prometheusRule", "PrometheusRule"),
    ] {
        let values = json!({"metrics": {key: {"renderMode": "auto"}}}).to_string();
        for served in [false, true] {
            let mut helm = for_cluster(CHART, true).await?.stdin(&values);
            if served {
                helm = helm.arg(format!("--api-versions=monitoring.coreos.com/v1/{kind}"));
            }
            let text = helm.run().await?.ok()?;
            let made = text.contains(&format!("\nkind: {kind}\n"));
            ensure!(made == served, "{kind}: served {served}, made {made}");
        }
    }
    Ok(())
}

/// A selector that no longer fits would open what it was to close.
#[tokio::test]
async fn the_network_policy_and_the_services_mean_the_pods_that_there_are() -> Result<()> {
    let all = objects(CHART, &json!({"networkPolicy": {"enabled": true}})).await?;
    let labels = |kind: &str| of_kind(&all, kind)[0]["spec"]["template"]["metadata"]["labels"].clone();
    let selected = |selector: &Value, labels: &Value| {
        let pairs = selector.as_object().into_iter().flatten();
        pairs.into_iter().all(|(key, value)| labels[key] == *value)
    };
    let policy = &of_kind(&all, "NetworkPolicy")[0]["spec"]["podSelector"];
    let expression = &policy["matchExpressions"][0];
    for kind in ["Deployment", "Job"] {
        let labels = labels(kind);
        ensure!(selected(&policy["matchLabels"], &labels), "{kind}: {labels}");
        let key = expression["key"].as_str().unwrap_or_default();
        let values = expression["values"].as_array().cloned().unwrap_or_default();
        ensure!(values.contains(&labels[key]), "{kind}: {labels}");
    }
    let service = &of_kind(&all, "Service")[0]["spec"]["selector"];
    ensure!(selected(service, &labels("Deployment")) && !selected(service, &labels("Job")));
    let port = &container(&all)["ports"][0]["containerPort"];
    ensure!(of_kind(&all, "NetworkPolicy")[0]["spec"]["ingress"][0]["ports"][0]["port"] == *port);
    Ok(())
}
