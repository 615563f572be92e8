//! Sound objects that between them hold every field, and cases by hand for what the rules mean.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::wrong::Case;

const UID: &str = "1f0c4e1a-6f5b-4f5e-9a3c-2b7d8e9f0a1b";
const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// The sound objects. Everything wrong is made from them, so a field that none of them has is a field without a test.
pub fn sound() -> Result<Vec<Value>> {
    let read = |text: &&str| -> Result<Value> {
        let text = text.replace("UID", UID).replace("DIGEST", DIGEST);
        serde_saphyr::from_str(&text).with_context(|| text.clone())
    };
    SOUND.iter().map(read).collect()
}

const SOUND: [&str; 10] = [
    r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessOwner
metadata: {name: payments-business}
spec:
  displayName: Ärzte & Söhne, payments (東京)
  email: payments@corp.example
  usernames: ["anna@corp.example"]
  active: true
  until: "2035-12-31T00:00:00Z"
"#,
    r#"
apiVersion: wayleave.dev/v1alpha1
kind: PartnerIntegration
metadata: {name: ledgerly}
spec:
  partner: {id: ledgerly, name: Ledgerly Ltd, contact: security@ledgerly.example}
  purpose: Reads the invoice feed for reconciliation
  owners:
    businessRef: {name: payments-business}
    technicalRef: {name: payments-technical}
  agreement: {reference: MSA-2025-014, url: "https://contracts.corp.example/MSA-2025-014?lang=en#p2", endsAt: "2035-12-31T23:59:59+01:00"}
  dataClassification: Confidential
  environment: Production
  allowedSources: ["203.0.113.0/24", "2001:db8::/32"]
  review: {interval: 90d, grace: 1d12h}
  requestedBy: carol@corp.example
  contributors: ["system:serviceaccount:argocd:argocd-application-controller"]
  suspend: false
"#,
    r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessGrant
metadata: {name: rules}
spec:
  integrationRef: {name: ledgerly}
  ticket: CHG-1234
  requestedBy: carol@corp.example
  contributors: ["erin@corp.example"]
  access:
  - rules:
    - {apiGroups: [apps, ""], resources: [deployments/scale, pods/log], verbs: [get, list], resourceNames: ["invoice-feed", "system:x"]}
    namespaces: [payments, billing]
  credential:
    type: Token
    token: {lifetime: 1h30m, audiences: ["https://kubernetes.default.svc"], secretName: ledgerly.credential, delivery: Namespace}
  startsAt: "2030-01-01T00:00:00Z"
  expiresAt: "2030-03-01T00:00:00.5Z"
  suspend: false
"#,
    r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessGrant
metadata: {name: role}
spec:
  integrationRef: {name: ledgerly}
  access: [{clusterRoleRef: {name: "wayleave:read_all.V2"}}]
  credential: {type: Token, token: {}}
  expiresAt: "2030-03-01T00:00:00Z"
"#,
    r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessGrant
metadata: {name: static}
spec:
  integrationRef: {name: ledgerly}
  access: [{clusterRoleRef: {name: "wayleave:read_all.V2"}}]
  credential:
    type: Static
    static: {serviceAccountName: ledgerly.middleware, secretName: ledgerly-token, reason: It reads one token at its start, replacement: AccessGrant rules}
  expiresAt: "2030-03-01T00:00:00Z"
"#,
    r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessPolicy
metadata: {name: baseline}
spec:
  namespaceSelector: {matchLabels: {team: payments}}
  dataClassifications: [Internal, Confidential]
  environments: [Production, NonProduction]
  limits: {duration: 90d, credentialLifetime: 24h, reviewInterval: 180d, activeGrantsPerIntegration: 5, hardExpiry: Preferred}
  access:
    clusterRoles: ["wayleave-read"]
    rules:
    - {apiGroups: [apps, ""], resources: [deployments], verbs: [get], resourceNames: [one]}
    targetNamespaces: {matchLabels: {tier: shared}}
    longRunning: false
    onRoleGrowth: Report
    onOtherRights: Refuse
  credentials: [Token, Static]
  staticCredentials: {duration: 60d, reviewInterval: 30d, allowedSources: true, replacement: true}
  requires:
    approvals: [{count: 2, groups: [security]}]
    delegatedRequests: Allow
    ticket: true
    agreement: true
    allowedSources: true
  idle: {revokeAfter: 30d}
  selfService: false
"#,
    r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessDecision
metadata: {name: approve}
spec:
  subject: {kind: AccessGrant, name: rules, uid: UID}
  decision: Approve
  digest: "DIGEST"
  targetNamespaces: [billing]
  decidedBy: dave@corp.example
  decidedByGroups: [security]
  submittedBy: dave@corp.example
  decidedAt: "2029-12-01T10:00:00Z"
  validUntil: "2030-03-01T00:00:00Z"
  reason: Read only, agreed with the payments team
"#,
    r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessDecision
metadata: {name: review}
spec:
  subject: {kind: PartnerIntegration, name: ledgerly}
  decision: Review
  grants: [{name: rules, uid: UID, digest: "DIGEST"}]
  reason: Still needed
"#,
    r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessDecision
metadata: {name: deny}
spec:
  subject: {kind: AccessGrant, name: rules}
  decision: Deny
  reason: Too wide
"#,
    r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessRecord
metadata: {name: UID}
spec:
  grant: {namespace: payments, name: rules, uid: UID}
  partner: ledgerly
  entries: [{at: "2030-01-01T00:00:00Z", event: issued, summary: The first credential was issued, hash: "DIGEST"}]
"#,
];

const MUST_BE_PERIOD: &str = "must be a length of time in days, hours and minutes, such as 90d, 36h, 15m or 1d12h";
const LIFETIME: &str = "must be a length of time in hours and minutes from 15m to 24h";
const NO_WILDCARDS: &str = "wildcards are not allowed";
const ONE_OF: &str = "exactly one of rules and clusterRoleRef must be set";
const CEILING: &str = "access: at least one of rules and clusterRoles must be set";
const LABEL_NAME: &str = "metadata.name must be a DNS label of at most 63 characters";

/// A value of a sound object, what is written instead (null takes the field away), the field and the words of the refusal.
type Refusal = (&'static str, &'static str, Value, &'static str, &'static str);

/// What the rules mean, one case each at least.
fn refusals() -> Vec<Refusal> {
    let mut all = vec![
        // Names.
        (
            "AccessOwner/payments-business",
            "/metadata/name",
            json!("a.b"),
            "<nil>",
            LABEL_NAME,
        ),
        (
            "AccessPolicy/baseline",
            "/metadata/name",
            json!("a.b"),
            "<nil>",
            LABEL_NAME,
        ),
        (
            "AccessDecision/approve",
            "/metadata/name",
            json!("a".repeat(64)),
            "<nil>",
            LABEL_NAME,
        ),
        (
            "PartnerIntegration/ledgerly",
            "/metadata/name",
            json!("a".repeat(64)),
            "<nil>",
            LABEL_NAME,
        ),
        (
            "AccessGrant/rules",
            "/metadata/name",
            json!("wlg-x"),
            "<nil>",
            "the reserved prefix 'wlg-'",
        ),
        ("AccessGrant/rules", "/metadata/name", json!("a.b"), "<nil>", LABEL_NAME),
        (
            "AccessRecord/1f0c4e1a-6f5b-4f5e-9a3c-2b7d8e9f0a1b",
            "/metadata/name",
            json!("another"),
            "<nil>",
            "metadata.name must be the grant's UID",
        ),
        // Owners.
        (
            "PartnerIntegration/ledgerly",
            "/spec/owners/technicalRef/name",
            json!("payments-business"),
            "spec.owners",
            "businessRef and technicalRef must name two different AccessOwners",
        ),
        (
            "PartnerIntegration/ledgerly",
            "/spec/owners/technicalRef/name",
            json!("Payments"),
            "spec.owners.technicalRef.name",
            "must be a DNS label",
        ),
        // Term.
        (
            "AccessGrant/rules",
            "/spec/expiresAt",
            json!("2029-12-31T23:59:59Z"),
            "spec",
            "expiresAt must be after startsAt",
        ),
        (
            "AccessGrant/rules",
            "/spec/expiresAt",
            json!("2030-01-01T00:00:00Z"),
            "spec",
            "expiresAt must be after startsAt",
        ),
        (
            "AccessGrant/rules",
            "/spec/expiresAt",
            json!("2030-01-01T00:30:00+01:00"),
            "spec",
            "expiresAt must be after startsAt",
        ),
        // What may be granted.
        (
            "AccessGrant/rules",
            "/spec/access/0/clusterRoleRef",
            json!({"name": "view"}),
            "spec.access[0]",
            ONE_OF,
        ),
        (
            "AccessGrant/role",
            "/spec/access/0/clusterRoleRef",
            Value::Null,
            "spec.access[0]",
            ONE_OF,
        ),
        (
            "AccessGrant/rules",
            "/spec/access/0/namespaces",
            json!(["a", "b", "a"]),
            "spec.access[0].namespaces",
            "namespaces must be distinct",
        ),
        (
            "AccessGrant/rules",
            "/spec/access/0/namespaces/0",
            json!("*"),
            "spec.access[0].namespaces[0]",
            "must be a DNS label",
        ),
        (
            "AccessGrant/role",
            "/spec/access/0/clusterRoleRef/name",
            json!("a/b"),
            "spec.access[0].clusterRoleRef.name",
            "must be the name of a ClusterRole",
        ),
        (
            "AccessPolicy/baseline",
            "/spec/access",
            json!({}),
            "spec.access",
            CEILING,
        ),
        (
            "AccessPolicy/baseline",
            "/spec/access",
            json!({"rules": [], "clusterRoles": []}),
            "spec.access",
            CEILING,
        ),
        (
            "AccessPolicy/baseline",
            "/spec/namespaceSelector/matchLabels",
            json!({"": "x"}),
            "spec.namespaceSelector.matchLabels",
            "must be labels by name, such as team or corp.example/team",
        ),
        (
            "AccessPolicy/baseline",
            "/spec/access/targetNamespaces/matchLabels",
            json!({"a".repeat(318): "x"}),
            "spec.access.targetNamespaces.matchLabels",
            "must be labels by name, such as team or corp.example/team",
        ),
        // Credential.
        (
            "AccessGrant/rules",
            "/spec/credential/token",
            Value::Null,
            "spec.credential",
            "token must be set where type is Token",
        ),
        (
            "AccessGrant/rules",
            "/spec/credential/token/secretName",
            json!("wlg-x"),
            "spec.credential.token.secretName",
            "secretName must not begin with the reserved prefix 'wlg-'",
        ),
        // Decisions.
        (
            "AccessDecision/approve",
            "/spec/subject/kind",
            json!("PartnerIntegration"),
            "spec",
            "decision: Approve is of an AccessGrant",
        ),
        (
            "AccessDecision/review",
            "/spec/subject/kind",
            json!("AccessGrant"),
            "spec",
            "decision: Review is of a PartnerIntegration",
        ),
        (
            "AccessDecision/approve",
            "/spec/digest",
            Value::Null,
            "spec",
            "digest must be set to Approve",
        ),
        (
            "AccessDecision/approve",
            "/spec/subject/uid",
            Value::Null,
            "spec",
            "subject.uid must be set to Approve",
        ),
        (
            "AccessDecision/review",
            "/spec/decision",
            json!("Revoke"),
            "spec",
            "grants is for a Review only",
        ),
        (
            "AccessDecision/review",
            "/spec/grants",
            Value::Null,
            "spec",
            "grants must be set to Review",
        ),
    ];
    for (field, pointer, object) in [
        (
            "spec.review.interval",
            "/spec/review/interval",
            "PartnerIntegration/ledgerly",
        ),
        ("spec.review.grace", "/spec/review/grace", "PartnerIntegration/ledgerly"),
        ("spec.limits.duration", "/spec/limits/duration", "AccessPolicy/baseline"),
        (
            "spec.limits.credentialLifetime",
            "/spec/limits/credentialLifetime",
            "AccessPolicy/baseline",
        ),
        (
            "spec.limits.reviewInterval",
            "/spec/limits/reviewInterval",
            "AccessPolicy/baseline",
        ),
        (
            "spec.idle.revokeAfter",
            "/spec/idle/revokeAfter",
            "AccessPolicy/baseline",
        ),
    ] {
        for wrong in ["90", "90s", "1.5h", "-1h", "0d", "1h1d", "P90D", "1w", "90 d", "1H"] {
            all.push((object, pointer, json!(wrong), field, MUST_BE_PERIOD));
        }
    }
    for wrong in ["14m", "25h", "24h1m", "1d", "900s", "1.5h", "0h", "-1h", "1441m"] {
        let pointer = "/spec/credential/token/lifetime";
        all.push((
            "AccessGrant/rules",
            pointer,
            json!(wrong),
            "spec.credential.token.lifetime",
            LIFETIME,
        ));
    }
    for wrong in ["a_b", "-a", "a-", "A", "a..b", "a/b"] {
        let pointer = "/spec/credential/token/secretName";
        all.push((
            "AccessGrant/rules",
            pointer,
            json!(wrong),
            "spec.credential.token.secretName",
            "must be a DNS subdomain",
        ));
    }
    for (pointer, field, wrong) in [
        ("apiGroups", "apiGroups[0]", "*"),
        ("apiGroups", "apiGroups[0]", "*.example.com"),
        ("resources", "resources[0]", "*"),
        ("resources", "resources[0]", "pods/*"),
        ("resources", "resources[0]", "*/scale"),
        ("resources", "resources[0]", "a/b/c"),
        ("verbs", "verbs[0]", "*"),
        ("verbs", "verbs[0]", "Get"),
        ("resourceNames", "resourceNames[0]", "*"),
        ("resourceNames", "resourceNames[0]", "a/b"),
        ("resourceNames", "resourceNames[0]", "a b"),
    ] {
        for (object, rules) in [
            ("AccessGrant/rules", "access/0/rules/0"),
            ("AccessPolicy/baseline", "access/rules/0"),
        ] {
            // The cases live as long as the test.
            let pointer: &'static str = format!("/spec/{rules}/{pointer}/0").leak();
            let field: &'static str = format!("spec.{}.{field}", rules.replace("/0", "[0]").replace('/', ".")).leak();
            all.push((object, pointer, json!(wrong), field, NO_WILDCARDS));
        }
    }
    for wrong in [
        "http://a.example/x",
        "https://",
        "https:a.example",
        "/only/a/path",
        "https:///no/host",
        "ftp://a.example",
    ] {
        let pointer = "/spec/agreement/url";
        all.push((
            "PartnerIntegration/ledgerly",
            pointer,
            json!(wrong),
            "spec.agreement.url",
            "must be an absolute https URL",
        ));
    }
    for wrong in [
        "203.0.113.0",
        "203.0.113.0/33",
        "everywhere",
        "2001:db8::/129",
        "203.0.113/24",
    ] {
        let pointer = "/spec/allowedSources/0";
        all.push((
            "PartnerIntegration/ledgerly",
            pointer,
            json!(wrong),
            "spec.allowedSources[0]",
            "must be an address block in CIDR notation",
        ));
    }
    for wrong in [
        "nobody",
        "a@b@c.example",
        "<a@b.example>",
        "a b@c.example",
        "@b.example",
        "abc@",
    ] {
        let pointer = "/spec/partner/contact";
        all.push((
            "PartnerIntegration/ledgerly",
            pointer,
            json!(wrong),
            "spec.partner.contact",
            "must be an e-mail address",
        ));
    }
    for wrong in [" carol", "carol ", "\u{a0}carol", "\u{feff}carol"] {
        let pointer = "/spec/requestedBy";
        all.push((
            "AccessGrant/rules",
            pointer,
            json!(wrong),
            "spec.requestedBy",
            "without control characters or surrounding blanks",
        ));
    }
    for wrong in [
        "*",
        "a b",
        "Corp.example/team",
        "a/b/c",
        "/a",
        "a/",
        "-a",
        "te\u{202e}am",
        "team\n",
    ] {
        let pointer = "/spec/namespaceSelector/matchLabels";
        let field = "spec.namespaceSelector.matchLabels";
        all.push((
            "AccessPolicy/baseline",
            pointer,
            json!({wrong: "x"}),
            field,
            "must be labels by name",
        ));
    }
    for wrong in ["*", "a b", "a/b", "-a", "a-"] {
        let pointer = "/spec/namespaceSelector/matchLabels/team";
        let field = "spec.namespaceSelector.matchLabels[team]";
        all.push((
            "AccessPolicy/baseline",
            pointer,
            json!(wrong),
            field,
            "must be the value of a label",
        ));
    }
    for wrong in [
        DIGEST.to_uppercase().replace("SHA256", "sha256"),
        DIGEST.replace("sha256", "sha512"),
        DIGEST.replace('f', "g"),
    ] {
        all.push((
            "AccessDecision/approve",
            "/spec/digest",
            json!(wrong),
            "spec.digest",
            "must be 'sha256:' followed by 64 lower-case hexadecimal digits",
        ));
    }
    for wrong in [
        "2030-02-30T00:00:00Z",
        "2030-02-29T00:00:00Z",
        "2030-03-01",
        "2030-03-01T00:00:00",
        "2030-03-01 00:00:00Z",
        "2030-03-01t00:00:00z",
        "2030-03-01T00:00:00+99:99",
        "2030-03-01T00:00:00+24:00",
        "2030-03-01T24:00:00Z",
        "2030-03-01T23:59:60Z",
        "2030-13-01T00:00:00Z",
        "8999-12-31T23:59:59-00:01",
        "9000-01-01T00:00:00Z",
        "9999-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "0001-01-01T00:00:00Z",
        "1893456000",
        "tomorrow",
        "",
    ] {
        for (object, field) in [
            ("AccessGrant/rules", "startsAt"),
            ("AccessGrant/rules", "expiresAt"),
            ("AccessDecision/approve", "decidedAt"),
            ("AccessDecision/approve", "validUntil"),
            ("PartnerIntegration/ledgerly", "agreement.endsAt"),
        ] {
            // The cases live as long as the test.
            let pointer: &'static str = format!("/spec/{}", field.replace('.', "/")).leak();
            let field: &'static str = format!("spec.{field}").leak();
            all.push((object, pointer, json!(wrong), field, "must be an instant in RFC 3339"));
        }
    }
    all.extend(of_meaning());
    all
}

/// What each field allows, but not in that company.
fn of_meaning() -> Vec<Refusal> {
    let mut all = vec![
        (
            "AccessPolicy/baseline",
            "/spec/requires/approvals",
            json!([{"count": 8, "groups": ["security"]}, {"count": 8, "groups": ["leads"]}, {"count": 1}]),
            "spec.requires.approvals",
            "must ask for at most 16 people in all",
        ),
        (
            "AccessDecision/deny",
            "/spec/validUntil",
            json!("2030-01-01T00:00:00Z"),
            "spec",
            "validUntil is for an Approve or a Review",
        ),
        (
            "AccessDecision/approve",
            "/spec/validUntil",
            json!("2029-12-01T10:00:00Z"),
            "spec",
            "validUntil must be after decidedAt",
        ),
        (
            "AccessDecision/review",
            "/spec/grants",
            json!([
                {"name": "rules", "uid": UID, "digest": DIGEST},
                {"name": "rules", "uid": UID.replace('1', "2"), "digest": DIGEST},
            ]),
            "spec.grants",
            "grants must name each AccessGrant once",
        ),
        (
            "AccessPolicy/baseline",
            "/spec/limits/credentialLifetime",
            json!("14m"),
            "spec.limits.credentialLifetime",
            "credentialLifetime must be at least 15m",
        ),
        (
            "AccessGrant/static",
            "/spec/credential/static",
            Value::Null,
            "spec.credential",
            "static must be set where type is Static, and nowhere else",
        ),
        (
            "AccessGrant/static",
            "/spec/credential/type",
            json!("Token"),
            "spec.credential",
            "static must be set where type is Static, and nowhere else",
        ),
        (
            "AccessGrant/rules",
            "/spec/credential/type",
            json!("Static"),
            "spec.credential",
            "token must be set where type is Token, and nowhere else",
        ),
        (
            "AccessGrant/static",
            "/spec/credential/static/serviceAccountName",
            json!("default"),
            "spec.credential.static.serviceAccountName",
            "serviceAccountName must be a ServiceAccount of the partner alone",
        ),
        (
            "AccessGrant/static",
            "/spec/credential/static/serviceAccountName",
            json!("wlg-one"),
            "spec.credential.static.serviceAccountName",
            "serviceAccountName must be a ServiceAccount of the partner alone",
        ),
        (
            "AccessGrant/static",
            "/spec/credential/static/secretName",
            json!("wlg-one"),
            "spec.credential.static.secretName",
            "secretName must not begin with the reserved prefix",
        ),
        (
            "AccessPolicy/baseline",
            "/spec/staticCredentials",
            Value::Null,
            "spec",
            "staticCredentials, the compensating controls, must be set where credentials has Static",
        ),
        (
            "AccessPolicy/baseline",
            "/spec/credentials",
            json!(["Token"]),
            "spec",
            "staticCredentials, the compensating controls, must be set where credentials has Static, and nowhere else",
        ),
        (
            "AccessPolicy/baseline",
            "/spec/namespaceSelector",
            json!({"matchlabels": {"team": "payments"}}),
            "spec.namespaceSelector.matchLabels",
            "Required",
        ),
    ];
    for (object, rules) in [
        ("AccessGrant/rules", "access/0/rules/0"),
        ("AccessPolicy/baseline", "access/rules/0"),
    ] {
        let pointer: &'static str = format!("/spec/{rules}").leak();
        let field: &'static str = format!("spec.{}", rules.replace("/0", "[0]").replace('/', ".")).leak();
        for (resources, verbs) in [
            (json!(["pods"]), json!(["deletecollection"])),
            (json!(["pods/exec"]), json!(["patch", "deletecollection"])),
            (json!(["configmaps"]), json!(["get", "create"])),
            (json!(["pods/exec", "pods"]), json!(["create"])),
        ] {
            let rule = json!({"apiGroups": [""], "resources": resources, "verbs": verbs, "resourceNames": ["one"]});
            all.push((
                object,
                pointer,
                rule,
                field,
                "resourceNames can't be combined with deletecollection, nor with create unless patch or update",
            ));
        }
        for wrong in [".", ".."] {
            let pointer: &'static str = format!("{pointer}/resourceNames/0").leak();
            let field: &'static str = format!("{field}.resourceNames[0]").leak();
            all.push((object, pointer, json!(wrong), field, "must be the name of an object"));
        }
        for wrong in ["a..b", ".a", "a.", "-a"] {
            let pointer: &'static str = format!("{pointer}/apiGroups/0").leak();
            let field: &'static str = format!("{field}.apiGroups[0]").leak();
            all.push((object, pointer, json!(wrong), field, "must be an API group by name"));
        }
    }
    for wrong in [" a", "a ", "   ", "\u{a0}a", "a\u{2003}", "a\u{200b}b", "a\tb"] {
        for (object, pointer, field) in [
            ("PartnerIntegration/ledgerly", "/spec/purpose", "spec.purpose"),
            ("PartnerIntegration/ledgerly", "/spec/partner/name", "spec.partner.name"),
            ("AccessDecision/approve", "/spec/reason", "spec.reason"),
            ("AccessGrant/rules", "/spec/ticket", "spec.ticket"),
        ] {
            all.push((object, pointer, json!(wrong), field, "must be one line of text"));
        }
    }
    for wrong in [
        "https://user:secret@a.example/x",
        "https://user@a.example",
        "https://a.example@b.example/",
        "https://ä.example/",
        "HTTPS://a.example/",
    ] {
        let pointer = "/spec/agreement/url";
        all.push((
            "PartnerIntegration/ledgerly",
            pointer,
            json!(wrong),
            "spec.agreement.url",
            "user or password",
        ));
    }
    for wrong in ["203.0.113.7/24", "0.0.0.1/0", "2001:db8::1/32", "::ffff:192.0.2.0/120"] {
        all.push((
            "PartnerIntegration/ledgerly",
            "/spec/allowedSources/0",
            json!(wrong),
            "spec.allowedSources[0]",
            "that begins at its first address",
        ));
    }
    all
}

/// The refused cases, made from the sound objects.
pub fn refused(sound: &[Value]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, pointer, value, field, words) in refusals() {
        cases.push(Case {
            title: format!("{name} {pointer} = {value}"),
            object: with(sound, name, pointer, &value)?,
            fields: vec![field.to_owned()],
            words: vec![words.to_owned()],
        });
    }
    Ok(cases)
}

/// What lies just within the rules, made from the sound objects.
pub fn accepted(sound: &[Value]) -> Result<Vec<(String, Value)>> {
    let mut all: Vec<(&str, &str, Value)> = vec![
        ("AccessGrant/rules", "/metadata/name", json!("a".repeat(63))),
        ("AccessGrant/rules", "/spec/expiresAt", json!("2030-01-01T00:00:01Z")),
        (
            "AccessGrant/rules",
            "/spec/expiresAt",
            json!("2029-12-31T23:30:00-01:00"),
        ),
        ("AccessGrant/rules", "/spec/startsAt", Value::Null),
        ("AccessGrant/rules", "/spec/access/0/rules/0/apiGroups", json!([""])),
        ("AccessGrant/rules", "/spec/access/0/rules/0/resourceNames", json!([])),
        ("AccessGrant/rules", "/spec/access/0/namespaces", json!([])),
        ("AccessGrant/rules", "/spec/access/0/clusterRoleRef", Value::Null),
        ("AccessGrant/rules", "/spec/credential/token/secretName", Value::Null),
        ("AccessGrant/rules", "/spec/requestedBy", json!("oidc:Carol Née, Ltd")),
        (
            "AccessPolicy/baseline",
            "/spec/access",
            json!({"clusterRoles": ["view"]}),
        ),
        ("AccessPolicy/baseline", "/spec/access/clusterRoles", json!([])),
        (
            "AccessPolicy/baseline",
            "/spec/namespaceSelector",
            json!({"matchLabels": {}}),
        ),
        (
            "AccessPolicy/baseline",
            "/spec/namespaceSelector/matchLabels",
            json!({"kubernetes.io/metadata.name": "payments", "empty": ""}),
        ),
        ("AccessDecision/deny", "/spec/decision", json!("Revoke")),
        ("AccessDecision/deny", "/spec/subject/kind", json!("PartnerIntegration")),
        (
            "PartnerIntegration/ledgerly",
            "/spec/agreement/url",
            json!("https://a.example:8443"),
        ),
        (
            "PartnerIntegration/ledgerly",
            "/spec/agreement/url",
            json!("https://[2001:db8::1]/@team?to=a@b.example"),
        ),
        (
            "PartnerIntegration/ledgerly",
            "/spec/allowedSources/0",
            json!("0.0.0.0/0"),
        ),
        (
            "PartnerIntegration/ledgerly",
            "/spec/allowedSources/0",
            json!("203.0.113.7/32"),
        ),
        (
            "AccessGrant/rules",
            "/spec/access/0/rules/0",
            json!({"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"], "resourceNames": ["one"]}),
        ),
        (
            "AccessGrant/rules",
            "/spec/access/0/rules/0",
            json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "patch"], "resourceNames": ["one"]}),
        ),
        (
            "AccessPolicy/baseline",
            "/spec/access/rules/0",
            json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["update", "create"], "resourceNames": ["one"]}),
        ),
        (
            "AccessGrant/rules",
            "/spec/access/0/rules/0",
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "deletecollection"]}),
        ),
        ("AccessGrant/rules", "/spec/expiresAt", json!("2032-02-29T00:00:00Z")),
        ("AccessGrant/rules", "/spec/expiresAt", json!("8999-12-31T23:59:59Z")),
        (
            "AccessGrant/rules",
            "/spec/expiresAt",
            json!("8999-12-31T23:59:59+23:59"),
        ),
        (
            "AccessGrant/rules",
            "/spec/startsAt",
            json!("1970-01-01T00:00:00-23:59"),
        ),
        ("AccessDecision/approve", "/spec/decidedAt", Value::Null),
        (
            "AccessDecision/review",
            "/spec/validUntil",
            json!("2030-01-01T00:00:00Z"),
        ),
        ("AccessPolicy/baseline", "/spec/limits/credentialLifetime", json!("15m")),
        ("AccessDecision/approve", "/spec/reason", json!("a")),
    ];
    for lifetime in ["15m", "24h", "1h30m", "1440m"] {
        all.push(("AccessGrant/rules", "/spec/credential/token/lifetime", json!(lifetime)));
    }
    for period in ["90d", "36h", "15m", "1d12h", "1d2h3m"] {
        all.push(("PartnerIntegration/ledgerly", "/spec/review/interval", json!(period)));
    }
    let mut objects = Vec::new();
    for (name, pointer, value) in all {
        objects.push((
            format!("{name} {pointer} = {value}"),
            with(sound, name, pointer, &value)?,
        ));
    }
    Ok(objects)
}

/// A sound object, `kind/name`, with one value changed or set.
fn with(sound: &[Value], name: &str, pointer: &str, value: &Value) -> Result<Value> {
    let named = |object: &&Value| {
        let (kind, own) = (object["kind"].as_str(), object["metadata"]["name"].as_str());
        name.split_once('/') == kind.zip(own)
    };
    let mut object = sound
        .iter()
        .find(named)
        .with_context(|| format!("no sound {name}"))?
        .clone();
    let (parent, key) = pointer.rsplit_once('/').context("a pointer has a slash")?;
    let place = object
        .pointer_mut(parent)
        .with_context(|| format!("{name} has no {parent}"))?;
    match key.parse::<usize>() {
        Ok(index) => place[index] = value.clone(),
        Err(_) => place[key] = value.clone(),
    }
    Ok(object)
}

/// Changes of objects that exist, in this order: kind, name, merge patch, and the words of the refusal.
pub fn changes() -> Vec<(&'static str, &'static str, Value, Option<&'static str>)> {
    let entry = json!({"at": "2030-01-02T00:00:00Z", "event": "rotated", "summary": "Another", "hash": DIGEST});
    let first = json!({"at": "2030-01-01T00:00:00Z", "event": "issued", "summary": "The first credential was issued", "hash": DIGEST});
    vec![
        (
            "AccessOwner",
            "payments-business",
            json!({"spec": {"displayName": "Renamed"}}),
            None,
        ),
        (
            "AccessOwner",
            "payments-business",
            json!({"spec": {"until": "2034-12-31T00:00:00Z"}}),
            None,
        ),
        (
            "AccessOwner",
            "payments-business",
            json!({"spec": {"until": "2035-12-31"}}),
            Some("must be an instant in RFC 3339"),
        ),
        (
            "AccessOwner",
            "payments-business",
            json!({"spec": {"until": null}}),
            None,
        ),
        (
            "AccessOwner",
            "payments-business",
            json!({"spec": {"active": false}}),
            None,
        ),
        (
            "AccessOwner",
            "payments-business",
            json!({"spec": {"active": true}}),
            Some("active can't go from false back to true"),
        ),
        (
            "AccessOwner",
            "payments-business",
            json!({"spec": {"active": null}}),
            Some("Required"),
        ),
        ("AccessGrant", "rules", json!({"spec": {"ticket": "CHG-2"}}), None),
        (
            "AccessGrant",
            "rules",
            json!({"spec": {"integrationRef": {"name": "other"}}}),
            Some("integrationRef can't be changed"),
        ),
        (
            "AccessDecision",
            "approve",
            json!({"metadata": {"labels": {"seen": "yes"}}}),
            None,
        ),
        (
            "AccessDecision",
            "approve",
            json!({"spec": {"reason": "Other words"}}),
            Some("a decision can't be changed"),
        ),
        (
            "AccessDecision",
            "approve",
            json!({"spec": {"validUntil": null}}),
            Some("a decision can't be changed"),
        ),
        (
            "AccessDecision",
            "deny",
            json!({"spec": {"decision": "Revoke"}}),
            Some("a decision can't be changed"),
        ),
        (
            "AccessDecision",
            "deny",
            json!({"spec": {"decidedBy": "eve@corp.example"}}),
            Some("a decision can't be changed"),
        ),
        ("AccessRecord", UID, json!({"spec": {"entries": [first, entry]}}), None),
        (
            "AccessRecord",
            UID,
            json!({"spec": {"entries": [entry, first]}}),
            Some("entries can only be added"),
        ),
        (
            "AccessRecord",
            UID,
            json!({"spec": {"entries": [entry]}}),
            Some("entries can only be added"),
        ),
        (
            "AccessRecord",
            UID,
            json!({"spec": {"partner": "other"}}),
            Some("grant and partner of a record can't be changed"),
        ),
        (
            "AccessRecord",
            UID,
            json!({"spec": {"grant": {"name": "other"}}}),
            Some("grant and partner of a record can't be changed"),
        ),
    ]
}
