//! The partner as a program: reads the one thing it may read, over and over, by its kubeconfig, and notes how it is answered.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::task::JoinHandle;

/// Between two reads.
const PAUSE: Duration = Duration::from_millis(10);

/// One answer of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code.
    pub code: u16,
    /// When it had come.
    pub at: Timestamp,
}

/// What was answered so far: the first and the last answer of each run of the same code.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    runs: Vec<(Answer, Answer)>,
    count: usize,
    failure: Option<String>,
}

impl Answers {
    /// The first answer with this code.
    pub fn first(&self, code: u16) -> Option<Answer> {
        self.runs
            .iter()
            .find(|(first, _)| first.code == code)
            .map(|(first, _)| *first)
    }

    /// The last answer with this code.
    pub fn last(&self, code: u16) -> Option<Answer> {
        let run = self.runs.iter().rev().find(|(_, last)| last.code == code);
        run.map(|(_, last)| *last)
    }

    /// The latest answer.
    pub fn latest(&self) -> Option<Answer> {
        self.runs.last().map(|(_, last)| *last)
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The codes in the order in which they came, each run once.
    pub fn codes(&self) -> Vec<u16> {
        self.runs.iter().map(|(first, _)| first.code).collect()
    }

    /// What ended the reading, if something did.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn add(&mut self, answer: Answer) {
        self.count += 1;
        match self.runs.last_mut() {
            Some((_, last)) if last.code == answer.code => *last = answer,
            _ => self.runs.push((answer, answer)),
        }
    }
}

/// A partner that reads until it is dropped.
#[derive(Debug)]
pub struct Reader {
    answers: Arc<Mutex<Answers>>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Starts to read an object by a kubeconfig file.
    pub async fn start(kubeconfig: &Path, config_map: &str) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("cannot read the partner's kubeconfig")?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // Every answer counts, refusals too.
        config.default_retry = false;
        let client = Client::try_from(config)?;
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let (answers, name) = (Arc::new(Mutex::new(Answers::default())), config_map.to_owned());
        let noted = Arc::clone(&answers);
        let task = tokio::spawn(async move {
            loop {
                let code = match api.get(&name).await {
                    Ok(_) => 200,
                    Err(kube::Error::Api(status)) => status.code,
                    Err(error) => {
                        lock(&noted).failure = Some(format!("{:#}", anyhow::Error::from(error)));
                        return;
                    }
                };
                let at = Timestamp::now();
                lock(&noted).add(Answer { code, at });
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Self { answers, task })
    }

    /// What was answered so far.
    pub fn answers(&self) -> Answers {
        lock(&self.answers).clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(answers: &Mutex<Answers>) -> std::sync::MutexGuard<'_, Answers> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_keep_their_first_and_last_answer() {
        let mut answers = Answers::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        for (code, second) in [(200, 1), (200, 2), (403, 3), (403, 4), (401, 5)] {
            answers.add(Answer { code, at: at(second) });
        }
        assert_eq!(answers.codes(), [200, 403, 401]);
        assert_eq!(answers.last(200).unwrap().at, at(2));
        assert_eq!(answers.first(403).unwrap().at, at(3));
        assert_eq!((answers.latest().unwrap().code, answers.count()), (401, 5));
    }
}
