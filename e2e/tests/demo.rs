//! The story of `make demo`, as a test: it is played to its end and nothing in it is other than expected.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use wayleave_e2e::ControlPlane;
use wayleave_e2e::demo::{Played, Stage, play};
use wayleave_e2e::install::can_stamp;
use wayleave_e2e::operator::workspace;

/// How every JSON Web Token begins: `{"` in base64.
const TOKEN: &str = "eyJ";

/// The pages that hold manifests, and how many.
const PAGES: [(&str, usize); 6] = [
    ("README.md", 6),
    ("docs/requesters.md", 3),
    ("docs/approvers.md", 2),
    ("docs/policy-authors.md", 2),
    ("docs/owners.md", 1),
    ("docs/auditors.md", 1),
];
/// How a manifest begins in a page.
const MANIFEST: &str = "```yaml\n";

/// Shows the story on standard error, and keeps it.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().write_all(bytes)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_story_of_the_demo_misses_nothing() -> Result<()> {
    let cp = ControlPlane::start().await?;
    let page = Page::default();
    let mut stage = Stage::new(Box::new(page.clone()), false);
    let played = play(&cp, &mut stage).await?;
    stage.end()?;
    ensure!(stage.misses().is_empty(), "{}", stage.misses().join("\n"));

    let shown = page.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let shown = String::from_utf8(shown)?;
    ensure!(shown.contains("checks as expected"), "the story has no end");
    ensure!(!shown.contains(TOKEN), "a token was shown");
    let log = played.operator.logs()?;
    ensure!(!log.contains(TOKEN), "a token was logged");
    for (page, manifests) in PAGES {
        the_page_holds(&cp, &played, page, manifests).await?;
    }
    Ok(())
}

#[test]
fn no_page_holds_a_manifest_that_nobody_tries() -> Result<()> {
    for entry in std::fs::read_dir(workspace().join("docs"))? {
        let path = entry?.path();
        let is_tried = PAGES.iter().any(|(page, _)| path.ends_with(page));
        if path.extension().is_some_and(|it| it == "md") && !is_tried {
            let text = std::fs::read_to_string(&path)?;
            ensure!(!text.contains(MANIFEST), "{} is not among the pages", path.display());
        }
    }
    Ok(())
}

/// Every manifest of a page is taken by the cluster of the story, from who writes such a thing.
async fn the_page_holds(cp: &ControlPlane, played: &Played<'_>, page: &str, manifests: usize) -> Result<()> {
    let text = std::fs::read_to_string(workspace().join(page))?;
    let stamps = can_stamp(&cp.admin().await?).await?;
    let mut tried = 0;
    for block in text.split(MANIFEST).skip(1) {
        let mut manifest = block.split("```").next().unwrap_or_default().to_owned();
        let cast = &played.cast;
        let (writer, names) = match manifest.lines().find_map(|line| line.strip_prefix("kind: ")) {
            Some("PartnerIntegration" | "AccessGrant") => (&cast.carol, "  requestedBy: carol@corp.example\n"),
            Some("AccessDecision") => (
                &cast.dave,
                "  decidedBy: dave@corp.example\n  submittedBy: dave@corp.example\n",
            ),
            _ => (&cast.platform, ""),
        };
        // As the README says of clusters where nothing is stamped.
        if !stamps {
            manifest.push_str(names);
        }
        let kubectl = cp.kubectl(&writer.kubeconfig).await?;
        let apply = kubectl.args(["apply", "-f", "-"]).stdin(manifest.clone());
        apply.run().await?.ok().with_context(|| format!("{page}: {manifest}"))?;
        tried += 1;
    }
    ensure!(tried == manifests, "{tried} manifests in {page}");
    Ok(())
}
