//! The chapters of the demo. Each says what was done, what was expected and what was seen; one that misses is told, and the
//! story goes on, so that all misses are seen.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;

use super::cast::{Cast, Done, Person};
use super::manifests;
use super::partner::{Answer, Reader};
use super::stage::{Stage, seconds};
use crate::control_plane::ControlPlane;
use crate::eventually::eventually;
use crate::install::wait_installed;
use crate::operator::{IDENTITY_NAMESPACE, NAMESPACE, Operator};

/// How long the first grant lives, from its request on.
const LIFE_SECONDS: i64 = 75;
/// How long the second grant would live.
const SECOND_LIFE_SECONDS: i64 = 30 * 24 * 60 * 60;
/// From an end to the first refusal.
const DENIED: Duration = Duration::from_secs(1);
/// From an end to the death of the token itself: the API server remembers a good token for ten seconds.
const DEAD: Duration = Duration::from_secs(12);
/// How long before an end the partner was certainly served.
const SERVED: Duration = Duration::from_secs(1);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at the partner's answers.
const LOOK: Duration = Duration::from_millis(100);

const GRANT: &str = "acme-billing-reader";
const SECRET: &str = "acme-billing-credential";
const SECOND: &str = "acme-billing-second";
const SECOND_SECRET: &str = "acme-billing-second-credential";
const OBJECT: &str = "invoice-feed";
const NS: &str = "payments";
const MANAGED: &str = "wayleave.dev/managed=true";

/// A cluster in which the story was played.
pub struct Played<'a> {
    /// Who played.
    pub cast: Cast<'a>,
    /// The operator, still running.
    pub operator: Operator,
}

/// Plays the whole story. An error means that it could not begin; what was not as expected is told by the stage.
pub async fn play<'a>(cp: &'a ControlPlane, stage: &mut Stage) -> Result<Played<'a>> {
    let cast = Cast::gather(cp).await?;
    let operator = install(&cast, stage).await?;
    open_namespace(&cast, stage).await?;
    let mut story = Story {
        cast: &cast,
        stage,
        ends: Timestamp::UNIX_EPOCH,
    };
    let outcome = story.request().await;
    story.told(outcome)?;
    let outcome = story.own_approval().await;
    story.told(outcome)?;
    let outcome = story.no_right().await;
    story.told(outcome)?;
    let outcome = story.nothing_yet().await;
    story.told(outcome)?;
    let outcome = story.approval().await;
    story.told(outcome)?;
    let outcome = story.use_of_it().await;
    let partner = story.told(outcome)?;
    let outcome = story.list().await;
    story.told(outcome)?;
    let outcome = story.end(partner).await;
    story.told(outcome)?;
    let outcome = story.owner_removed().await;
    story.told(outcome)?;
    let outcome = story.handover().await;
    story.told(outcome)?;
    let outcome = story.applied_again().await;
    story.told(outcome)?;
    Ok(Played { cast, operator })
}

/// Installs both charts and starts the operator.
async fn install(cast: &Cast<'_>, stage: &mut Stage) -> Result<Operator> {
    stage.chapter("The platform team installs Wayleave")?;
    stage.note(&format!(
        "kube-apiserver {} at {}",
        version(cast).await?,
        cast.cp.server_url()
    ))?;
    for chart in ["wayleave", "wayleave-policies"] {
        let path = format!("charts/{chart}");
        let mut words = vec!["helm", "install", chart, path.as_str(), "-n", NAMESPACE];
        if chart == "wayleave" {
            // There is no node that could run a pod.
            words.extend(["--create-namespace", "--set", "replicas=0"]);
        }
        let done = cast.types_here(stage, &cast.platform, &words).await?;
        stage.check("installed", &done.exit(), done.succeeded(), Some(done.took))?;
        if !done.succeeded() {
            bail!("helm did not install the chart {chart}");
        }
        if chart == "wayleave" {
            let started = Instant::now();
            wait_installed(cast.cp).await?;
            stage.note(&format!(
                "the kinds are served and the admission policies hold after {}",
                seconds(started.elapsed())
            ))?;
        }
    }
    let started = Instant::now();
    let operator = Operator::ready(cast.cp).await?;
    stage.note(&format!(
        "the operator runs beside the cluster as ServiceAccount {NAMESPACE}/wayleave, with the chart's rights and no others;"
    ))?;
    stage.note(&format!("it was ready after {}", seconds(started.elapsed())))?;
    Ok(operator)
}

async fn version(cast: &Cast<'_>) -> Result<String> {
    let server = cast.cp.admin().await?.apiserver_version().await?;
    Ok(server.git_version)
}

/// The namespace, its people, its enrolment, owners, a policy, and what there is to read.
async fn open_namespace(cast: &Cast<'_>, stage: &mut Stage) -> Result<()> {
    stage.chapter("It opens the namespace payments to partners")?;
    let files = [
        "00-namespace.yaml",
        "01-people.yaml",
        "02-enrolment.yaml",
        "03-owners.yaml",
        "04-policy.yaml",
        "07-invoice-feed.yaml",
        "09-receiver.yaml",
    ];
    stage.note("the manifests are those of deploy/samples, with other dates and names where the story needs them")?;
    let mut words = vec!["kubectl", "apply"];
    for file in files {
        manifests::as_it_is(file, &cast.dir)?;
        words.extend(["-f", file]);
    }
    let done = cast.types(stage, &cast.platform, &words).await?;
    stage.check("all are taken", &done.exit(), done.succeeded(), Some(done.took))?;
    if !done.succeeded() {
        bail!("the namespace could not be opened");
    }
    Ok(())
}

struct Story<'s, 'a> {
    cast: &'s Cast<'a>,
    stage: &'s mut Stage,
    /// When the first grant ends.
    ends: Timestamp,
}

impl Story<'_, '_> {
    /// A chapter that could not be played to its end is a miss.
    fn told<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.stage.failure(&error)?;
                Ok(None)
            }
        }
    }

    async fn types(&mut self, who: &Person, words: &[&str]) -> Result<Done> {
        self.cast.types(self.stage, who, words).await
    }

    /// Somebody types a command that is expected to succeed, and to say all of these.
    async fn works(&mut self, who: &Person, words: &[&str], expected: &str, says: &[&str]) -> Result<Done> {
        let done = self.types(who, words).await?;
        let text = done.text();
        let missing: Vec<&str> = says.iter().filter(|words| !text.contains(**words)).copied().collect();
        let seen = match (done.succeeded(), missing.as_slice()) {
            (true, []) => format!("{}, with {}", done.exit(), says.join("; ")),
            (_, missing) => format!("{}, without {}", done.exit(), missing.join("; ")),
        };
        self.stage
            .check(expected, &seen, done.succeeded() && missing.is_empty(), Some(done.took))?;
        Ok(done)
    }

    /// Somebody types a command that is expected to be refused, with these words.
    async fn refused(&mut self, who: &Person, words: &[&str], expected: &str, says: &str) -> Result<()> {
        let done = self.types(who, words).await?;
        let refused = !done.succeeded() && done.text().contains(says);
        let seen = match (done.succeeded(), refused) {
            (true, _) => format!("{}: it was not refused", done.exit()),
            (false, true) => format!("{}, with {says}", done.exit()),
            (false, false) => format!("{}, without {says}", done.exit()),
        };
        self.stage.check(expected, &seen, refused, Some(done.took))
    }

    /// Waits for the reason of a grant's state, and checks it.
    async fn reaches(&mut self, grant: &str, reason: &str) -> Result<()> {
        let started = Instant::now();
        let reached = eventually(&format!("{grant} to be {reason}"), LIMIT, || async {
            let now = self.state(grant).await?;
            if now == reason {
                return Ok(Some(()));
            }
            bail!("its state is {now}")
        })
        .await;
        let seen = match &reached {
            Ok(()) => format!("{grant} is {reason}"),
            Err(error) => format!("{error:#}"),
        };
        self.stage.check(
            &format!("{grant} becomes {reason}"),
            &seen,
            reached.is_ok(),
            Some(started.elapsed()),
        )
    }

    /// The reason of a grant's state, where it is of what stands there now.
    async fn state(&self, grant: &str) -> Result<String> {
        let path = "jsonpath={.metadata.generation} {range .status.conditions[?(@.type==\"Active\")]}\
                    {.observedGeneration} {.reason}{end}";
        let text = self.field(grant, path).await?;
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            [generation, observed, reason] if generation == observed => Ok((*reason).to_owned()),
            _ => bail!("the operator has not looked at it yet"),
        }
    }

    async fn field(&self, grant: &str, path: &str) -> Result<String> {
        self.cast
            .looks(&["kubectl", "get", "accessgrant", grant, "-n", NS, "-o", path])
            .await
    }

    /// UID and digest of a grant.
    async fn pinned(&self, grant: &str) -> Result<(String, String)> {
        let text = self.field(grant, "jsonpath={.metadata.uid} {.status.digest}").await?;
        let (uid, digest) = text.split_once(' ').context("the grant has no digest")?;
        Ok((uid.to_owned(), digest.to_owned()))
    }

    async fn request(&mut self) -> Result<()> {
        let carol = &self.cast.carol;
        self.stage
            .chapter("carol asks for access, for Acme, to one ConfigMap")?;
        self.ends = manifests::in_seconds(LIFE_SECONDS)?;
        manifests::integration("05-integration.yaml", "bob", &self.cast.dir)?;
        manifests::grant("06-grant.yaml", None, self.ends, &self.cast.dir)?;
        self.stage
            .note(&format!("the grant ends {LIFE_SECONDS} s from now, at {}", self.ends))?;
        self.stage
            .note("no token can be that short (Kubernetes makes none under 10 minutes), so the policy says hardExpiry: Preferred:")?;
        self.stage.note(
            "access is cut off on time by its binding, and the token is killed by its anchor before it expires",
        )?;
        let files = ["kubectl", "apply", "-f", "05-integration.yaml", "-f", "06-grant.yaml"];
        self.works(carol, &files, "both are taken", &["created"]).await?;
        self.reaches(GRANT, "AwaitingApproval").await
    }

    async fn own_approval(&mut self) -> Result<()> {
        let carol = &self.cast.carol;
        self.stage
            .chapter("carol approves her own request, for she is in the group that may approve")?;
        let approve = [
            "kubectl",
            "wayleave",
            "approve",
            GRANT,
            "-n",
            NS,
            "--reason",
            "looks fine to me",
            "--yes",
        ];
        self.refused(
            carol,
            &approve,
            "refused: nobody approves their own request",
            "nobody approves their own request",
        )
        .await?;
        let (uid, digest) = self.pinned(GRANT).await?;
        let file = "08-decision-of-carol.yaml";
        manifests::decision(
            file,
            "acme-billing-reader-carol",
            (&uid, &digest),
            "carol@corp.example",
            &self.cast.dir,
        )?;
        let past = ["kubectl", "create", "-f", file];
        self.works(
            carol,
            &past,
            "past the plugin: on record, as what she did",
            &["created"],
        )
        .await?;
        let counted = eventually("her decision to be judged", LIMIT, || async {
            let path =
                "jsonpath={range .status.conditions[?(@.type==\"Counted\")]}{.status} {.reason}: {.message}{end}";
            let words = [
                "kubectl",
                "get",
                "accessdecision",
                "acme-billing-reader-carol",
                "-n",
                NS,
                "-o",
                path,
            ];
            let text = self.cast.looks(&words).await?;
            Ok((!text.is_empty()).then_some(text))
        });
        let started = Instant::now();
        let counted = counted.await?;
        let refused = counted.starts_with("False ");
        self.stage.check(
            "it doesn't count",
            &format!("Counted={counted}"),
            refused,
            Some(started.elapsed()),
        )?;
        self.reaches(GRANT, "AwaitingApproval").await
    }

    async fn no_right(&mut self) -> Result<()> {
        let eve = &self.cast.eve;
        self.stage.chapter("eve, who has no right, approves")?;
        let approve = [
            "kubectl", "wayleave", "approve", GRANT, "-n", NS, "--reason", "why not", "--yes",
        ];
        self.refused(eve, &approve, "refused by the API server", "is forbidden")
            .await?;
        let (uid, digest) = self.pinned(GRANT).await?;
        let file = "08-decision-of-eve.yaml";
        manifests::decision(
            file,
            "acme-billing-reader-eve",
            (&uid, &digest),
            "eve@corp.example",
            &self.cast.dir,
        )?;
        let past = ["kubectl", "create", "-f", file];
        self.refused(eve, &past, "past the plugin: refused by the API server", "(Forbidden)")
            .await
    }

    async fn nothing_yet(&mut self) -> Result<()> {
        let platform = &self.cast.platform;
        self.stage.chapter("Before approval there is no credential")?;
        let secret = ["kubectl", "get", "secret", SECRET, "-n", NS];
        self.refused(platform, &secret, "no Secret for the partner", "not found")
            .await?;
        self.none_left("no identity, no token, no binding, anywhere").await
    }

    /// Checks that nothing of any grant exists.
    async fn none_left(&mut self, expected: &str) -> Result<()> {
        let platform = &self.cast.platform;
        let kinds = "serviceaccounts,secrets,roles,rolebindings";
        let made = ["kubectl", "get", kinds, "-A", "-l", MANAGED, "-o", "name"];
        let done = self.types(platform, &made).await?;
        let found = done.output.stdout.lines().count();
        let seen = if found == 0 {
            "nothing".to_owned()
        } else {
            format!("{found} objects")
        };
        self.stage
            .check(expected, &seen, done.succeeded() && found == 0, Some(done.took))
    }

    async fn approval(&mut self) -> Result<()> {
        let dave = &self.cast.dave;
        self.stage.chapter("dave approves what he is shown, and nothing else")?;
        let reason = "read-only, one object, ends by itself";
        let approve = [
            "kubectl", "wayleave", "approve", GRANT, "-n", NS, "--reason", reason, "--yes",
        ];
        self.works(
            dave,
            &approve,
            "taken; the approval is pinned to the digest",
            &["sha256:", "created"],
        )
        .await?;
        self.reaches(GRANT, "Issued").await
    }

    /// Fetches the partner's kubeconfig and uses it.
    async fn use_of_it(&mut self) -> Result<Reader> {
        self.stage
            .chapter("The partner reads the one ConfigMap, and nothing else")?;
        let partner = self.fetch(GRANT, "acme.kubeconfig").await?;
        let get = ["kubectl", "get", "configmap", OBJECT];
        self.works(&partner, &get, "200", &[OBJECT]).await?;
        for words in [
            vec!["kubectl", "get", "configmap", "kube-root-ca.crt"],
            vec!["kubectl", "get", "configmaps"],
            vec!["kubectl", "get", "secret", SECRET],
            vec!["kubectl", "get", "configmap", "kube-root-ca.crt", "-n", "kube-system"],
            vec!["kubectl", "delete", "configmap", OBJECT],
        ] {
            self.refused(&partner, &words, "403", "(Forbidden)").await?;
        }
        let identity = format!("system:serviceaccount:{IDENTITY_NAMESPACE}:wlg-");
        let whoami = ["kubectl", "auth", "whoami"];
        self.works(
            &partner,
            &whoami,
            "the identity that was made for this grant",
            &[&identity],
        )
        .await?;
        Reader::start(&partner.kubeconfig, OBJECT).await
    }

    /// carol fetches a kubeconfig for the partner: a file that she alone can read.
    async fn fetch(&mut self, grant: &str, file: &str) -> Result<Person> {
        let carol = &self.cast.carol;
        let fetch = ["kubectl", "wayleave", "kubeconfig", grant, "-n", NS, "-f", file];
        self.works(carol, &fetch, "saved, and not printed", &["saved"]).await?;
        let kubeconfig: PathBuf = self.cast.dir.join(file);
        if !kubeconfig.exists() {
            bail!("there is no kubeconfig for the partner");
        }
        Ok(Person {
            name: "partner",
            kubeconfig,
        })
    }

    async fn list(&mut self) -> Result<()> {
        let dave = &self.cast.dave;
        self.stage.chapter("Who has access, why, on whose word, until when?")?;
        let list = ["kubectl", "wayleave", "list", "-n", NS];
        let end = self.ends.to_string();
        let says = [
            "acme",
            "alice, bob",
            "Reconcile invoices nightly",
            "dave@corp.example",
            "Issued",
            end.as_str(),
        ];
        self.works(dave, &list, "partner, owners, purpose, approver, state and end", &says)
            .await?;
        let hard = [
            "kubectl",
            "get",
            "accessgrant",
            GRANT,
            "-n",
            NS,
            "-o",
            "jsonpath=hardExpiry: {.status.credential.hardExpiry}",
        ];
        self.works(
            dave,
            &hard,
            "the status says that the token alone would outlive the grant",
            &["hardExpiry: false"],
        )
        .await
        .map(drop)
    }

    async fn end(&mut self, partner: Option<Reader>) -> Result<()> {
        self.stage.chapter(&format!("The end comes, at {}", self.ends))?;
        let partner = partner.context("there is no partner to watch")?;
        self.stage
            .note("the partner reads on by the same kubeconfig, about a hundred times a second")?;
        self.watch(&partner, self.ends).await?;
        self.ended_on_time(&partner, self.ends, "expiresAt")?;
        self.reaches(GRANT, "Expired").await?;
        self.none_left("nothing that was made for it is left; the grant itself stays, with its reason")
            .await
    }

    /// Shows what the partner is answered until its token is dead, or time is up.
    async fn watch(&mut self, partner: &Reader, end: Timestamp) -> Result<()> {
        const LINE: Duration = Duration::from_secs(15);
        let mut last_line: Option<Instant> = None;
        let mut last_code = 0;
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            let answers = partner.answers();
            if let Some(failure) = answers.failure() {
                bail!("the partner could not read: {failure}");
            }
            let code = answers.latest().map_or(0, |answer| answer.code);
            let left = end.as_millisecond() - Timestamp::now().as_millisecond();
            let is_due = last_line.is_none_or(|at| at.elapsed() >= LINE);
            if self.stage.is_live() || is_due || code != last_code {
                let when = if left > 0 {
                    format!("{:>4} s to go", left / 1000 + 1)
                } else {
                    format!("{:>4} s after", -left / 1000)
                };
                self.stage
                    .progress(&format!("{when}   {code}   {} answers", answers.count()))?;
                last_line = Some(Instant::now());
                last_code = code;
            }
            if answers.first(401).is_some() || left < -i64::try_from(DEAD.as_millis())? - 1000 {
                return Ok(());
            }
        }
    }

    fn ended_on_time(&mut self, partner: &Reader, end: Timestamp, called: &str) -> Result<()> {
        let answers = partner.answers();
        let within = |answer: Option<Answer>, limit: Duration| {
            answer.is_some_and(|answer| {
                let after = after(answer, end);
                after >= 0 && u128::try_from(after).is_ok_and(|after| after <= limit.as_millis())
            })
        };
        let said = |answer: Option<Answer>| answer.map_or("never".to_owned(), |answer| relative(answer, end, called));
        let served = answers.last(200);
        let until_the_end = served.is_some_and(|answer| -after(answer, end) <= SERVED.as_millis() as i64);
        self.stage.check(
            "200 until the end",
            &format!("the last 200 {}, of {} answers", said(served), answers.count()),
            until_the_end,
            None,
        )?;
        let denied = answers.first(403);
        self.stage.check(
            "403 within a second of it",
            &format!("the first 403 {}", said(denied)),
            within(denied, DENIED),
            None,
        )?;
        let dead = answers.first(401);
        self.stage.check(
            "401 within twelve seconds",
            &format!("the first 401 {}", said(dead)),
            within(dead, DEAD),
            None,
        )
    }

    async fn owner_removed(&mut self) -> Result<()> {
        self.stage
            .chapter("A second grant, and one of its owners leaves the company")?;
        let (carol, dave) = (&self.cast.carol, &self.cast.dave);
        let platform = &self.cast.platform;
        let end = manifests::in_seconds(SECOND_LIFE_SECONDS)?;
        manifests::grant("06-second.yaml", Some((SECOND, SECOND_SECRET)), end, &self.cast.dir)?;
        manifests::receiver("09-second.yaml", SECOND_SECRET, &self.cast.dir)?;
        let apply = ["kubectl", "apply", "-f", "06-second.yaml"];
        self.works(carol, &apply, "taken", &["created"]).await?;
        let receive = ["kubectl", "apply", "-f", "09-second.yaml"];
        self.works(platform, &receive, "carol may fetch its credential", &["created"])
            .await?;
        self.reaches(SECOND, "AwaitingApproval").await?;
        let approve = [
            "kubectl",
            "wayleave",
            "approve",
            SECOND,
            "-n",
            NS,
            "--reason",
            "as before",
            "--yes",
        ];
        self.works(dave, &approve, "taken", &["created"]).await?;
        self.reaches(SECOND, "Issued").await?;
        let partner = self.fetch(SECOND, "acme-second.kubeconfig").await?;
        let reader = Reader::start(&partner.kubeconfig, OBJECT).await?;
        eventually("the partner to be answered", LIMIT, || async {
            Ok(reader.answers().latest())
        })
        .await?;
        let latest = reader.answers().latest();
        let code = latest.map_or(0, |answer| answer.code);
        self.stage
            .check("the partner is served", &code.to_string(), code == 200, None)?;
        let remove = ["kubectl", "delete", "accessowner", "bob"];
        let before = Timestamp::now();
        self.works(platform, &remove, "bob is gone", &["deleted"]).await?;
        let gone = Timestamp::now();
        self.watch(&reader, gone).await?;
        self.lost(&reader, before, gone)?;
        self.reaches(SECOND, "OwnerRemoved").await?;
        self.none_left("nothing of it is left").await
    }

    /// The end that a command brought: it may be there before the command has come back.
    fn lost(&mut self, reader: &Reader, before: Timestamp, gone: Timestamp) -> Result<()> {
        let answers = reader.answers();
        for (code, limit, expected) in [
            (403, DENIED, "403 within a second of kubectl's return"),
            (401, DEAD, "401 within twelve seconds"),
        ] {
            let first = answers.first(code);
            let is_in_time = first.is_some_and(|answer| {
                answer.at >= before && after(answer, gone) <= i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
            });
            let seen = first.map_or("never".to_owned(), |answer| relative(answer, gone, "kubectl's return"));
            self.stage
                .check(expected, &format!("the first {code} {seen}"), is_in_time, None)?;
        }
        Ok(())
    }

    async fn handover(&mut self) -> Result<()> {
        let carol = &self.cast.carol;
        self.stage
            .chapter("frank takes over from bob: that alone brings nothing back")?;
        manifests::integration("05-handover.yaml", "frank", &self.cast.dir)?;
        let apply = ["kubectl", "apply", "-f", "05-handover.yaml"];
        self.works(carol, &apply, "taken", &["configured"]).await?;
        self.reaches(SECOND, "AwaitingApproval").await?;
        self.none_left("no access without a new approval").await
    }

    async fn applied_again(&mut self) -> Result<()> {
        let carol = &self.cast.carol;
        self.stage.chapter("The expired manifest is applied again")?;
        let apply = ["kubectl", "apply", "-f", "06-grant.yaml"];
        self.works(
            carol,
            &apply,
            "nothing to do: the end is a date, not a duration",
            &["unchanged"],
        )
        .await?;
        self.reaches(GRANT, "Expired").await?;
        let delete = ["kubectl", "delete", "-f", "06-grant.yaml"];
        self.works(carol, &delete, "deleted", &["deleted"]).await?;
        self.works(carol, &apply, "a new object with the old end", &["created"])
            .await?;
        self.reaches(GRANT, "Expired").await?;
        self.none_left("it gives nothing").await?;
        let list = ["kubectl", "wayleave", "list", "-n", NS];
        let dave = &self.cast.dave;
        self.works(
            dave,
            &list,
            "both are there, and say why they give nothing",
            &["Expired", "AwaitingApproval"],
        )
        .await
        .map(drop)
    }
}

/// Milliseconds from an instant to an answer; negative where it came before.
fn after(answer: Answer, instant: Timestamp) -> i64 {
    answer.at.as_millisecond() - instant.as_millisecond()
}

fn relative(answer: Answer, instant: Timestamp, called: &str) -> String {
    let after = after(answer, instant);
    let by = seconds(Duration::from_millis(after.unsigned_abs()));
    let side = if after < 0 { "before" } else { "after" };
    format!("{by} {side} {called}")
}
