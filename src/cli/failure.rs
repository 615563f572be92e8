//! Words for a failure: what was tried, what the API server says about it, once, and what to do. Pure.

use std::error::Error as StdError;

use kube::core::Status;

/// What is told of a failed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<&'static str>,
}

/// Something was done, and something is left to do: an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Incomplete(pub String);

/// The failure in words.
///
/// A client's error shows the whole answer in the form of a debugger, and then again as its own cause: here stands the API
/// server's message alone.
#[must_use]
pub fn explain(error: &anyhow::Error) -> Failure {
    let mut parts: Vec<String> = Vec::new();
    let mut hint = None;
    for cause in error.chain() {
        if let Some(client) = cause.downcast_ref::<kube::Error>() {
            let told = of_client(client);
            parts.push(told.message);
            hint = told.hint;
            break;
        }
        push(&mut parts, cause.to_string());
    }
    Failure {
        message: parts.join(": "),
        hint,
    }
}

/// A client's error in words.
#[must_use]
pub fn of_client(error: &kube::Error) -> Failure {
    if let kube::Error::Api(status) = error {
        return Failure {
            message: said(status),
            hint: hint(status),
        };
    }
    let mut parts: Vec<String> = Vec::new();
    let mut cause: Option<&dyn StdError> = Some(error);
    while let Some(current) = cause {
        push(&mut parts, current.to_string());
        cause = current.source();
    }
    let hint = matches!(error, kube::Error::HyperError(_) | kube::Error::Service(_))
        .then_some("see whether the cluster answers: kubectl cluster-info");
    Failure {
        message: parts.join(": "),
        hint,
    }
}

/// Adds what a cause says, unless it was said already.
fn push(parts: &mut Vec<String>, words: String) {
    if parts.iter().any(|part| part.contains(&words)) {
        return;
    }
    // A cause that repeats those above it and adds to them stands for them.
    if parts.last().is_some_and(|last| words.contains(last.as_str())) {
        parts.pop();
    }
    parts.push(words);
}

fn said(status: &Status) -> String {
    if !status.message.is_empty() {
        return status.message.clone();
    }
    if status.reason.is_empty() {
        format!("the API server answered {}", status.code)
    } else {
        format!("the API server answered {} {}", status.code, status.reason)
    }
}

fn hint(status: &Status) -> Option<&'static str> {
    let by_policy = status.message.contains("ValidatingAdmissionPolicy");
    match status.code {
        401 => Some("the credential of this kubeconfig is unknown, expired or revoked: sign in again"),
        // Its message says what to do.
        403 | 422 if by_policy => None,
        403 => {
            Some("see who you are with kubectl auth whoami, and ask the namespace's admins for a role that allows it")
        }
        404 if status.message.contains("could not find the requested resource") => {
            Some("Wayleave's kinds are not in this cluster: install the chart, or choose another with --context")
        }
        409 => Some("somebody else wrote at the same time: try again"),
        429 | 500..=599 => Some("the API server could not do it now: try again"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn refused(code: u16, message: &str) -> anyhow::Error {
        let status = Status {
            code,
            message: message.to_owned(),
            reason: "Reason".to_owned(),
            ..Status::default()
        };
        let refused: Result<(), kube::Error> = Err(kube::Error::Api(Box::new(status)));
        refused.context("reading grant payments/reader").unwrap_err()
    }

    #[test]
    fn the_api_servers_message_stands_there_once_and_not_as_code() {
        let said = r#"accessgrants.wayleave.dev "reader" is forbidden: User "eve" cannot get resource"#;
        let told = explain(&refused(403, said));
        assert_eq!(told.message, format!("reading grant payments/reader: {said}"));
        assert!(told.hint.unwrap().contains("whoami"));
    }

    #[test]
    fn an_admission_policy_says_itself_what_to_do() {
        let told = explain(&refused(
            403,
            "ValidatingAdmissionPolicy 'x' denied request: spec.digest is missing",
        ));
        assert_eq!(told.hint, None);
    }

    #[test]
    fn an_answer_without_a_message_is_told_by_its_code() {
        let told = explain(&refused(503, ""));
        assert_eq!(
            told.message,
            "reading grant payments/reader: the API server answered 503 Reason"
        );
        assert!(told.hint.is_some());
    }

    #[test]
    fn causes_are_told_in_order_and_none_twice() {
        let error = anyhow::anyhow!("no such file")
            .context("opening a: no such file")
            .context("saving");
        assert_eq!(explain(&error).message, "saving: opening a: no such file");
        let error = anyhow::anyhow!("no route: host down").context("no route");
        assert_eq!(explain(&error).message, "no route: host down");
    }
}
