//! `certify`: shows what an integration's grants are, and renews or revokes each.

use anyhow::{Context as _, anyhow, bail, ensure};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::namespaces::Namespaces;
use super::{Caller, create, created, roles, text_of, who_am_i};
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, Decision, Instant, PartnerIntegration, ReviewedGrant, SubjectKind,
};
use crate::cli::access::Roles;
use crate::cli::args::{Certify, OutputFormat};
use crate::cli::certify::{Wish, campaign, describe_grant, describe_integration, renewal};
use crate::cli::decision::{Draft, build};
use crate::cli::{Io, Session, failure, output};

/// Most grants of one review.
const MOST_GRANTS: usize = 64;
/// Most namespaces that a decision names.
const MOST_TARGETS: usize = 8;

/// Recertifies an integration, or all that a file lists.
///
/// # Errors
///
/// When something can't be read, can't be renewed, changed since it was shown, or the API server refuses;
/// [`failure::Incomplete`] where some decisions were written and some not.
pub async fn run(args: &Certify, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    if let Some(until) = args.valid_until {
        ensure!(until.timestamp() > io.now, "--valid-until {until} has passed");
    }
    let wishes = wishes(args)?;
    let user = who_am_i(&session.client).await?;
    let groups = user.groups_chosen(&args.groups)?;
    let (mut namespaces, mut known) = (Namespaces::default(), Roles::new());
    let mut chosen = Vec::new();
    let mut faults = Vec::new();
    for wish in wishes {
        let namespace = wish.namespace.clone().unwrap_or_else(|| session.namespace.clone());
        let seen = look(session, &namespace, &wish.integration, &user, &mut namespaces, io).await?;
        roles::read(&mut known, seen.grants.iter().map(|(grant, _)| grant), session).await?;
        show(&seen, &known, &user, io)?;
        let choice = match args.from_file {
            Some(_) => wish,
            None => choose(args, wish, &seen, io)?,
        };
        match seen.pick(&choice) {
            Ok(picked) => chosen.push((choice, seen, picked)),
            Err(found) => faults.extend(found),
        }
    }
    ensure!(faults.is_empty(), "nothing was written: {}", faults.join("; "));
    let mut decisions = Vec::new();
    for (wish, seen, picked) in &chosen {
        decisions.push(drafted(args, wish, seen, picked, &user, &groups, io));
    }
    if args.dry_run {
        return write_all(io, session.output, &decisions.concat(), true);
    }
    confirm(args, &decisions.concat(), &user, io)?;
    let (mut made, mut failures) = (Vec::new(), Vec::new());
    for ((_, seen, picked), decisions) in chosen.iter().zip(&decisions) {
        let outcome = write_one(session, seen, picked, decisions, &user, &mut namespaces, &mut made, io).await;
        // The others of a campaign don't wait for one that fails.
        failures.extend(outcome.err());
    }
    if !made.is_empty() {
        write_all(io, session.output, &made, false)?;
    }
    conclude(failures, !made.is_empty())
}

/// How it ends: done, refused with nothing written, or done in part, which is told apart by its exit code.
fn conclude(mut failures: Vec<anyhow::Error>, is_begun: bool) -> anyhow::Result<()> {
    match (failures.len(), is_begun) {
        (0, _) => return Ok(()),
        // With its hint.
        (1, false) => return Err(failures.remove(0).context("not certified")),
        _ => {}
    }
    let all: Vec<String> = failures.iter().map(|it| failure::explain(it).message).collect();
    let all = all.join("; ");
    ensure!(is_begun, "not certified: {all}");
    Err(failure::Incomplete(format!("not all was certified: {all}")).into())
}

/// Asks whether to write. Where nobody can be asked, what only takes access away is written; to renew takes `--yes`.
fn confirm(args: &Certify, decisions: &[AccessDecision], user: &Caller, io: &mut Io<'_>) -> anyhow::Result<()> {
    if args.yes {
        return Ok(());
    }
    let renews = decisions.iter().any(|it| it.spec.decision == Decision::Review);
    match io.confirm(&format!("write {} decisions as {}?", decisions.len(), user.name))? {
        Some(true) => Ok(()),
        Some(false) => bail!("not certified"),
        None if renews => bail!("not certified: there is no terminal to ask on; give --yes"),
        None => Ok(()),
    }
}

fn wishes(args: &Certify) -> anyhow::Result<Vec<Wish>> {
    if let Some(path) = &args.from_file {
        let (place, text) = text_of(path)?;
        return campaign(&text).map_err(|fault| anyhow!("{place}: {fault}"));
    }
    let wish = Wish {
        namespace: None,
        integration: args.integration.clone().unwrap_or_default(),
        keep: args.keep.clone(),
        revoke: args.revoke.clone(),
        reason: args.reason.clone().unwrap_or_default(),
    };
    wish.check().map_err(|fault| anyhow!(fault))?;
    Ok(vec![wish])
}

/// An integration with its grants, each as it would be renewed or with the reason why it can't be.
struct Seen {
    namespace: String,
    integration: PartnerIntegration,
    grants: Vec<(AccessGrant, Result<ReviewedGrant, String>)>,
    decisions: Vec<AccessDecision>,
}

/// What was chosen, and was found possible.
struct Picked {
    keep: Vec<ReviewedGrant>,
    revoke: Vec<String>,
}

impl Seen {
    fn find(&self, name: &str) -> Option<&(AccessGrant, Result<ReviewedGrant, String>)> {
        self.grants.iter().find(|(grant, _)| grant.name_any() == name)
    }

    fn pick(&self, wish: &Wish) -> Result<Picked, Vec<String>> {
        let place = format!("{}/{}", self.namespace, wish.integration);
        let mut faults = Vec::new();
        let mut keep = Vec::new();
        for name in &wish.keep {
            match self.find(name).map(|(_, renewal)| renewal) {
                Some(Ok(entry)) => keep.push(entry.clone()),
                Some(Err(why)) => faults.push(format!("{name} can't be renewed: {why}")),
                None => faults.push(format!("{place} has no grant {name}")),
            }
        }
        let unknown = wish.revoke.iter().filter(|name| self.find(name).is_none());
        faults.extend(unknown.map(|name| format!("{place} has no grant {name}")));
        if keep.is_empty() && wish.revoke.is_empty() && faults.is_empty() {
            faults.push(format!("{place}: no grant was chosen"));
        }
        let revoke = wish.revoke.clone();
        if faults.is_empty() {
            Ok(Picked { keep, revoke })
        } else {
            Err(faults)
        }
    }
}

async fn look(
    session: &Session,
    namespace: &str,
    name: &str,
    user: &Caller,
    namespaces: &mut Namespaces,
    io: &mut Io<'_>,
) -> anyhow::Result<Seen> {
    let client = || session.client.clone();
    let integration = Api::<PartnerIntegration>::namespaced(client(), namespace)
        .get_opt(name)
        .await
        .with_context(|| format!("reading integration {namespace}/{name}"))?
        .with_context(|| format!("no integration {name} in namespace {namespace}: see kubectl get wlp -A"))?;
    let all = Api::<AccessGrant>::namespaced(client(), namespace)
        .list(&ListParams::default())
        .await
        .with_context(|| format!("listing grants of namespace {namespace}"))?;
    let decisions = Api::<AccessDecision>::namespaced(client(), namespace)
        .list(&ListParams::default())
        .await
        .with_context(|| format!("listing decisions of namespace {namespace}"))?;
    let now = Instant::new(io.now);
    let mut grants = Vec::new();
    for grant in all.items {
        if grant.spec.integration_ref.name.0 == name {
            let targets = namespaces.of(session, &grant, io).await?;
            let renewal = renewal(&integration, &grant, targets.as_ref(), &user.name, now);
            grants.push((grant, renewal));
        }
    }
    grants.sort_by_key(|(grant, _)| grant.name_any());
    ensure!(
        !grants.is_empty(),
        "{namespace}/{name} has no grants: there is nothing to review"
    );
    Ok(Seen {
        namespace: namespace.to_owned(),
        integration,
        grants,
        decisions: decisions.items,
    })
}

fn show(seen: &Seen, roles: &Roles, user: &Caller, io: &mut Io<'_>) -> anyhow::Result<()> {
    writeln!(
        io.err,
        "certifying {}/{} as {}:",
        output::escape(&seen.namespace),
        output::escape(&seen.integration.name_any()),
        output::escape(&user.name)
    )?;
    write!(io.err, "{}", describe_integration(&seen.integration))?;
    for (grant, renewal) in &seen.grants {
        let cannot = renewal.as_ref().err().map(String::as_str);
        write!(io.err, "\n{}", describe_grant(grant, &seen.decisions, roles, cannot))?;
    }
    Ok(())
}

/// Keep or revoke: as the flags say, and for every other grant as a terminal answers.
fn choose(args: &Certify, mut wish: Wish, seen: &Seen, io: &mut Io<'_>) -> anyhow::Result<Wish> {
    let is_told = args.keep_all || !args.keep.is_empty() || !args.revoke.is_empty();
    ensure!(
        is_told || io.answers.is_some(),
        "not certified: there is no terminal to ask on; give --keep GRANT, --revoke GRANT or --keep-all"
    );
    for (grant, renewal) in &seen.grants {
        let name = grant.name_any();
        if wish.keep.contains(&name) || wish.revoke.contains(&name) {
            continue;
        }
        if args.keep_all {
            match renewal {
                Ok(_) => wish.keep.push(name),
                Err(why) => writeln!(io.err, "note: {name} is left as it is: {}", output::escape(why))?,
            }
            continue;
        }
        let question = match renewal {
            Ok(_) => format!("{name}: keep, revoke, or leave as it is? [k/r/L]"),
            Err(_) => format!("{name}: revoke, or leave as it is? [r/L]"),
        };
        match io.ask(&question)?.as_deref() {
            Some("k" | "keep") if renewal.is_ok() => wish.keep.push(name),
            Some("r" | "revoke") => wish.revoke.push(name),
            _ => writeln!(io.err, "note: {name} is left as it is: neither renewed nor revoked")?,
        }
    }
    Ok(wish)
}

/// The decisions to be written: what is taken away first.
fn drafted(
    args: &Certify,
    wish: &Wish,
    seen: &Seen,
    picked: &Picked,
    user: &Caller,
    groups: &[String],
    io: &Io<'_>,
) -> Vec<AccessDecision> {
    let draft = Draft {
        namespace: &seen.namespace,
        kind: SubjectKind::AccessGrant,
        name: "",
        uid: None,
        decision: Decision::Revoke,
        digest: None,
        grants: &[],
        targets: &[],
        user: &user.name,
        groups,
        valid_until: None,
        reason: &wish.reason,
    };
    let revoked = picked.revoke.iter().map(|name| {
        let uid = seen.find(name).and_then(|(grant, _)| grant.metadata.uid.as_deref());
        build(
            &Draft {
                name,
                uid,
                ..draft.clone()
            },
            io.now,
        )
    });
    let mut decisions: Vec<AccessDecision> = revoked.collect();
    let integration = seen.integration.name_any();
    for grants in picked.keep.chunks(MOST_GRANTS) {
        let reached = grants.iter().filter_map(|entry| seen.find(&entry.name.0));
        let mut targets: Vec<String> = reached.flat_map(|(grant, _)| grant.target_namespaces()).collect();
        targets.retain(|target| *target != seen.namespace);
        targets.sort();
        targets.dedup();
        // The operator asks about the rest.
        targets.truncate(MOST_TARGETS);
        let review = Draft {
            kind: SubjectKind::PartnerIntegration,
            name: &integration,
            uid: seen.integration.metadata.uid.as_deref(),
            decision: Decision::Review,
            grants,
            targets: &targets,
            valid_until: args.valid_until,
            ..draft.clone()
        };
        decisions.push(build(&review, io.now));
    }
    decisions
}

/// Writes the decisions on one integration, once what is to be renewed was found to be what was shown.
#[expect(clippy::too_many_arguments, reason = "what was chosen, by whom, and where it goes")]
async fn write_one(
    session: &Session,
    seen: &Seen,
    picked: &Picked,
    decisions: &[AccessDecision],
    user: &Caller,
    namespaces: &mut Namespaces,
    made: &mut Vec<AccessDecision>,
    io: &mut Io<'_>,
) -> anyhow::Result<()> {
    if !picked.keep.is_empty() {
        let name = seen.integration.name_any();
        let again = look(session, &seen.namespace, &name, user, namespaces, io).await?;
        for entry in &picked.keep {
            match again.find(&entry.name.0).map(|(_, renewal)| renewal) {
                Some(Ok(found)) if found == entry => {}
                Some(Err(why)) => bail!("{}/{}: {why}", seen.namespace, entry.name),
                _ => bail!(
                    "{}/{} is not what was shown any more: look again",
                    seen.namespace,
                    entry.name
                ),
            }
        }
    }
    for decision in decisions {
        made.push(create(decision, session).await?);
    }
    Ok(())
}

/// Writes decisions that were made, or would be.
fn write_all(io: &mut Io<'_>, format: OutputFormat, decisions: &[AccessDecision], dry: bool) -> anyhow::Result<()> {
    if !dry || format == OutputFormat::Json {
        let text: Vec<String> = decisions.iter().map(created).collect();
        let value = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": decisions});
        return output::write(io.out, format, &value, &text.join("\n"));
    }
    for decision in decisions {
        write!(io.out, "---\n{}", output::yaml(decision)?).context("writing the result")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Args, Command};
    use crate::domain::fixtures::{grant, integration};

    fn args(words: &[&str]) -> Certify {
        let start = ["kubectl-wayleave", "certify", "acme-billing", "--reason", "Q4"];
        match Args::try_parse_from([&start[..], words].concat()).unwrap().command {
            Command::Certify(args) => args,
            other => panic!("{other:?}"),
        }
    }

    /// Two grants that can be renewed, and one that can't.
    fn seen() -> Seen {
        let named = |name: &str, can: bool| {
            let mut grant = grant();
            grant.metadata.name = Some(name.to_owned());
            let entry = ReviewedGrant {
                name: name.into(),
                uid: "uid".into(),
                digest: "digest".into(),
            };
            (grant, if can { Ok(entry) } else { Err("it lapsed".to_owned()) })
        };
        Seen {
            namespace: "payments".to_owned(),
            integration: integration(),
            grants: vec![named("a", true), named("b", true), named("c", false)],
            decisions: Vec::new(),
        }
    }

    /// What is chosen, and what is said.
    fn chosen(words: &[&str], answers: Option<&str>) -> (anyhow::Result<Wish>, String) {
        let args = args(words);
        let wish = wishes(&args).unwrap().pop().unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut answers = answers.map(str::as_bytes);
        let mut io = Io {
            out: &mut out,
            err: &mut err,
            answers: answers.as_mut().map(|answers| answers as &mut dyn std::io::BufRead),
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let chosen = choose(&args, wish, &seen(), &mut io);
        (chosen, String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_terminal_is_asked_about_each_grant_and_an_empty_answer_leaves_it() {
        let (wish, said) = chosen(&[], Some("K\nrevoke\n\n"));
        let wish = wish.unwrap();
        assert_eq!((wish.keep, wish.revoke), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert!(said.contains("a: keep, revoke, or leave as it is? [k/r/L]"), "{said}");
        assert!(said.contains("c: revoke, or leave as it is? [r/L]"), "{said}");
        assert!(said.contains("c is left as it is"), "{said}");
        let (wish, _) = chosen(&[], Some("\n\nk\n"));
        assert_eq!(wish.unwrap().keep, [""; 0], "what can't be renewed is not kept");
        let (wish, said) = chosen(&["--keep", "b"], Some("r\n"));
        let wish = wish.unwrap();
        assert_eq!((wish.keep, wish.revoke), (vec!["b".to_owned()], vec!["a".to_owned()]));
        assert!(!said.contains("b: "), "it was said already: {said}");
    }

    #[test]
    fn without_a_terminal_only_flags_choose() {
        let (wish, _) = chosen(&[], None);
        assert!(
            wish.unwrap_err()
                .to_string()
                .contains("give --keep GRANT, --revoke GRANT or --keep-all")
        );
        let (wish, said) = chosen(&["--keep-all", "--revoke", "a"], None);
        let wish = wish.unwrap();
        assert_eq!((wish.keep, wish.revoke), (vec!["b".to_owned()], vec!["a".to_owned()]));
        assert!(said.contains("note: c is left as it is: it lapsed"), "{said}");
    }

    #[test]
    fn nothing_is_renewed_unasked_and_to_revoke_needs_no_answer() {
        let confirmed = |words: &[&str], answers: Option<&str>| {
            let args = args(words);
            let (wish, _) = chosen(words, None);
            let (wish, seen) = (wish.unwrap(), seen());
            let picked = seen.pick(&wish).unwrap_or_else(|faults| panic!("{faults:?}"));
            let user = Caller {
                name: "dave".to_owned(),
                groups: Vec::new(),
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut answers = answers.map(str::as_bytes);
            let mut io = Io {
                out: &mut out,
                err: &mut err,
                answers: answers.as_mut().map(|answers| answers as &mut dyn std::io::BufRead),
                now: jiff::Timestamp::UNIX_EPOCH,
            };
            let decisions = drafted(&args, &wish, &seen, &picked, &user, &[], &io);
            let confirmed = confirm(&args, &decisions, &user, &mut io);
            confirmed.map_err(|error| error.to_string())
        };
        let refusal = Err("not certified: there is no terminal to ask on; give --yes".to_owned());
        assert_eq!(confirmed(&["--keep-all"], None), refusal);
        assert_eq!(confirmed(&["--keep", "a", "--revoke", "b"], None), refusal);
        assert_eq!(confirmed(&["--keep-all", "--yes"], None), Ok(()));
        assert_eq!(confirmed(&["--revoke", "b"], None), Ok(()));
        assert_eq!(confirmed(&["--keep-all"], Some("y\n")), Ok(()));
        assert_eq!(
            confirmed(&["--revoke", "b", "--keep", "a"], Some("\n")),
            Err("not certified".to_owned())
        );
    }

    #[test]
    fn what_was_done_in_part_is_told_apart_from_what_failed() {
        let failed = |count: usize, is_begun: bool| {
            let failures = (1..=count).map(|number| anyhow!("fault {number}")).collect();
            conclude(failures, is_begun).unwrap_err()
        };
        assert!(conclude(Vec::new(), true).is_ok() && conclude(Vec::new(), false).is_ok());
        for (count, is_begun, words) in [
            (1, false, "not certified: fault 1"),
            (2, false, "not certified: fault 1; fault 2"),
            (1, true, "not all was certified: fault 1"),
            (2, true, "not all was certified: fault 1; fault 2"),
        ] {
            let error = failed(count, is_begun);
            assert_eq!(failure::explain(&error).message, words);
            assert_eq!(error.is::<failure::Incomplete>(), is_begun, "{words}");
        }
    }

    #[test]
    fn a_campaign_is_read_no_further_than_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.yaml");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let mut args = args(&[]);
        args.from_file = Some(path);
        let fault = wishes(&args).unwrap_err().to_string();
        assert!(fault.contains("larger than 16777216 bytes"), "{fault}");
    }

    #[test]
    fn what_is_not_there_or_can_not_be_renewed_is_a_fault() {
        let faults = |words: &[&str]| {
            let (wish, _) = chosen(words, None);
            seen().pick(&wish.unwrap()).err().unwrap_or_default().join("; ")
        };
        assert_eq!(faults(&["--keep", "a", "--revoke", "c"]), "");
        assert!(faults(&["--keep", "c"]).contains("c can't be renewed: it lapsed"));
        assert!(faults(&["--keep", "d"]).contains("payments/acme-billing has no grant d"));
        assert!(faults(&["--revoke", "d"]).contains("has no grant d"));
    }
}
