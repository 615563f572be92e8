//! The log: its form, and how much of it, which a signal changes while the operator runs. A shell: does I/O.

use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What is logged while somebody wants to see more.
const MORE: &str = "debug";
const NO_LEVEL: &str = "neither a level (error, warn, info, debug, trace) nor directives such as info,kube=debug";

/// The form of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// An object a line, for machines.
    Json,
    /// Lines for people.
    Text,
}

/// The log of this process.
#[derive(Debug)]
pub struct Log {
    asked: String,
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// Starts the log of this process, on standard error; once.
    #[must_use]
    pub fn start(format: LogFormat, level: &str) -> Self {
        let (filter, handle) = reload::Layer::new(filter(level));
        let log = tracing_subscriber::registry().with(filter);
        match format {
            LogFormat::Json => log.with(fmt::layer().json().with_writer(std::io::stderr)).init(),
            LogFormat::Text => log.with(fmt::layer().with_writer(std::io::stderr)).init(),
        }
        Self {
            asked: level.to_owned(),
            filter: handle,
        }
    }

    /// From now on SIGUSR1 has more logged, and the next one as much as before.
    ///
    /// # Errors
    /// When signals can't be received.
    pub fn follow_signal(self) -> std::io::Result<()> {
        let mut asked = signal(SignalKind::user_defined1())?;
        tokio::spawn(async move {
            let mut more = false;
            while asked.recv().await.is_some() {
                more = !more;
                let level = if more { MORE } else { self.asked.as_str() };
                // Said while more is logged, so that it is read whatever the level before.
                if !more {
                    tracing::info!(log_level = level, "as much is logged as before");
                }
                if let Err(error) = self.filter.reload(filter(level)) {
                    tracing::warn!(%error, "what is logged can't be changed");
                }
                if more {
                    tracing::info!(log_level = level, "more is logged, until the same signal comes again");
                }
            }
        });
        Ok(())
    }
}

/// The filter asked for. The client's own words on replies that it can't read quote them, and a reply can hold a token.
fn filter(level: &str) -> EnvFilter {
    let mute = [
        "kube_client::client=error",
        "kube_client::client::builder=error",
        // Its span says of every reconcile what ours says.
        "kube_runtime::controller=warn",
    ];
    let mute = mute.into_iter().filter_map(|directive| directive.parse().ok());
    mute.fold(EnvFilter::new(level), EnvFilter::add_directive)
}

/// What to log, as a flag has it.
///
/// # Errors
/// When it is neither a level nor directives.
pub fn log_level(text: &str) -> Result<String, String> {
    // A bare word that is no level would be read as the name of a module, and silence all others.
    let is_level = text.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    if !is_level && !text.contains('=') {
        return Err(NO_LEVEL.to_owned());
    }
    let parsed = EnvFilter::try_new(text).map(|_| text.to_owned());
    parsed.map_err(|_| NO_LEVEL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What quotes replies stays mute at every level, the one that a signal sets too.
    #[test]
    fn no_level_lets_replies_be_quoted() {
        for level in ["info", MORE, "trace", "info,kube_client=trace"] {
            let words = filter(level).to_string();
            for mute in ["kube_client::client=error", "kube_client::client::builder=error"] {
                assert!(words.split(',').any(|directive| directive == mute), "{level}: {words}");
            }
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in ["error", "trace", "off", "info,kube=debug"] {
            assert_eq!(log_level(good).as_deref(), Ok(good));
        }
        for bad in ["loud", "loud=and=clear"] {
            assert!(log_level(bad).is_err(), "{bad}");
        }
    }
}
