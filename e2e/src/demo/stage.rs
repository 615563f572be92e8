//! What the demo shows: what was done, what was expected, what was seen, and how long it took. Knows nothing of clusters.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Lines of one command's output that are shown; more are counted.
const MOST_LINES: usize = 24;
const LABEL: usize = 10;

/// Where the story is shown.
pub struct Stage {
    out: Box<dyn Write + Send>,
    /// Colours, and a line that is written over: for terminals.
    live: bool,
    began: Instant,
    chapter: String,
    chapters: usize,
    checks: usize,
    misses: Vec<String>,
    running: bool,
}

/// How a line is shown on a terminal.
#[derive(Debug, Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Good,
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "1;32",
            Self::Bad => "1;31",
        }
    }
}

impl Stage {
    /// Shows the story there; `live` where it is a terminal.
    pub fn new(out: Box<dyn Write + Send>, live: bool) -> Self {
        Self {
            out,
            live,
            began: Instant::now(),
            chapter: String::new(),
            chapters: 0,
            checks: 0,
            misses: Vec::new(),
            running: false,
        }
    }

    /// What was not as expected.
    pub fn misses(&self) -> &[String] {
        &self.misses
    }

    /// Begins a chapter, and says how far into the story it is.
    pub fn chapter(&mut self, title: &str) -> Result<()> {
        self.chapters += 1;
        title.clone_into(&mut self.chapter);
        let heading = format!("{:>2}  {title}", self.chapters);
        let at = format!("at {}", seconds(self.began.elapsed()));
        let gap = " ".repeat(100_usize.saturating_sub(heading.chars().count() + at.len()).max(2));
        let (heading, at) = (self.styled(Style::Bold, &heading), self.styled(Style::Dim, &at));
        self.line(&format!("\n{heading}{gap}{at}"))
    }

    /// Says something that is neither done nor checked.
    pub fn note(&mut self, text: &str) -> Result<()> {
        let text = self.styled(Style::Dim, text);
        self.line(&format!("    {text}"))
    }

    /// A command as its user types it; shown before it runs.
    pub fn command(&mut self, who: &str, command: &str) -> Result<()> {
        let command = self.styled(Style::Bold, &format!("$ {command}"));
        self.line(&format!("    {who:<LABEL$} {command}"))
    }

    /// What a command wrote.
    pub fn output(&mut self, text: &str) -> Result<()> {
        let lines: Vec<&str> = text.trim_end().lines().collect();
        for line in lines.iter().take(MOST_LINES) {
            let line = self.styled(Style::Dim, &format!("| {line}"));
            self.line(&format!("    {:LABEL$} {line}", ""))?;
        }
        match lines.len().saturating_sub(MOST_LINES) {
            0 => Ok(()),
            more => self.line(&format!("    {:LABEL$} | and {more} more lines", "")),
        }
    }

    /// What was expected, what was seen, and whether that is the same.
    pub fn check(&mut self, expected: &str, seen: &str, as_expected: bool, took: Option<Duration>) -> Result<()> {
        self.checks += 1;
        self.labelled("expected", Style::Dim, expected)?;
        let took = took.map_or_else(String::new, |took| format!(", in {}", seconds(took)));
        let seen_in = format!("{seen}{took}");
        if as_expected {
            self.labelled("ok, seen", Style::Good, &seen_in)
        } else {
            self.misses
                .push(format!("{}: expected {expected}; seen: {seen}", self.chapter));
            self.labelled("MISS, seen", Style::Bad, &seen_in)
        }
    }

    /// What could not even be tried.
    pub fn failure(&mut self, error: &anyhow::Error) -> Result<()> {
        self.checks += 1;
        let seen = format!("{error:#}");
        self.misses.push(format!("{}: {seen}", self.chapter));
        self.labelled("MISS, seen", Style::Bad, &seen)
    }

    /// Something that goes on: on a terminal a line that is written over, else a line of its own.
    pub fn progress(&mut self, text: &str) -> Result<()> {
        if self.live {
            write!(self.out, "\r\x1b[2K    {:LABEL$} {text}", "")?;
            self.running = true;
            self.out.flush()?;
            return Ok(());
        }
        self.line(&format!("    {:LABEL$} {text}", ""))
    }

    /// Whether a progress line can be written over, so that it may be written often.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// A line as it is.
    pub fn line(&mut self, text: &str) -> Result<()> {
        if std::mem::take(&mut self.running) {
            write!(self.out, "\r\x1b[2K")?;
        }
        writeln!(self.out, "{text}")?;
        self.out.flush()?;
        Ok(())
    }

    /// How it ended.
    pub fn end(&mut self) -> Result<()> {
        let took = seconds(self.began.elapsed());
        let (checks, missed) = (self.checks, self.misses.len());
        if missed == 0 {
            let all = self.styled(Style::Good, &format!("all {checks} checks as expected"));
            return self.line(&format!("\n{all}, in {took}"));
        }
        let some = self.styled(Style::Bad, &format!("{missed} of {checks} checks not as expected"));
        self.line(&format!("\n{some}, in {took}:"))?;
        for miss in self.misses.clone() {
            self.line(&format!("  - {miss}"))?;
        }
        Ok(())
    }

    fn labelled(&mut self, label: &str, style: Style, text: &str) -> Result<()> {
        let label = self.styled(style, &format!("{label:<LABEL$}"));
        self.line(&format!("    {label} {text}"))
    }

    fn styled(&self, style: Style, text: &str) -> String {
        if !self.live {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", style.code())
    }
}

/// A duration as people read it.
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{} ms", duration.as_millis());
    }
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(live: bool, play: impl Fn(&mut Stage) -> Result<()>) -> String {
        let page = Page::default();
        let mut stage = Stage::new(Box::new(page.clone()), live);
        play(&mut stage).unwrap();
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_log_holds_no_codes_of_terminals() {
        let play = |stage: &mut Stage| {
            stage.chapter("dave approves")?;
            stage.command("dave", "kubectl wayleave list")?;
            stage.progress("waiting")?;
            stage.check("a list", "a list", true, Some(Duration::from_millis(5)))?;
            stage.end()
        };
        assert!(!shown(false, play).contains('\x1b'));
        assert!(shown(true, play).contains('\x1b'));
        assert!(shown(false, play).contains("all 1 checks as expected"));
    }

    #[test]
    fn every_miss_is_told_at_the_end() {
        let mut stage = Stage::new(Box::new(std::io::sink()), false);
        stage.chapter("the end").unwrap();
        stage.check("403", "200", false, None).unwrap();
        stage.failure(&anyhow::anyhow!("no answer")).unwrap();
        assert_eq!(
            stage.misses(),
            ["the end: expected 403; seen: 200", "the end: no answer"]
        );
    }
}
