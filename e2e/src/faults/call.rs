//! A call of the operator, as faults are chosen by and positions are told by.

use std::fmt;

use axum::http::Method;
use serde_json::Value;

use crate::operator::IDENTITY_NAMESPACE;

/// What a write is of no interest to: the lease, events, and questions about rights.
const BESIDE: [&str; 4] = ["leases", "events", "subjectaccessreviews", "selfsubjectaccessreviews"];
const ANNOTATION_GRANT: &str = "wayleave.dev/grant";
const RESERVED_PREFIX: &str = "wlg-";

/// A call on its way to the API server.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The object's name: of the path, or of the body where it is made; empty for what has none.
    pub name: String,
    /// The namespace of the grant that it is about, as far as the proxy knows; else that of the path.
    pub tenant: String,
    /// The grant that the body's object says it is made for, as `namespace/name`.
    pub(crate) made_for: Option<String>,
}

/// The parts of a path of the resource API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The namespace; empty for what has none.
    pub namespace: &'a str,
    /// The resource, plural.
    pub resource: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// The subresource.
    pub subresource: &'a str,
}

impl Call {
    pub(crate) fn new(method: Method, path: String, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let metadata = &body["metadata"];
        let made_for = text(&metadata["annotations"][ANNOTATION_GRANT]);
        let mut call = Self {
            method,
            path,
            name: String::new(),
            tenant: String::new(),
            made_for,
        };
        let parts = call.parts();
        let (name, mut namespace) = (parts.name.to_owned(), parts.namespace.to_owned());
        if namespace.is_empty() {
            // A question about rights is about somewhere.
            namespace = text(&body["spec"]["resourceAttributes"]["namespace"]).unwrap_or_default();
        }
        call.name = if name.is_empty() {
            text(&metadata["name"]).unwrap_or_default()
        } else {
            name
        };
        call.tenant = namespace;
        call
    }

    /// A write of objects of this resource, by its plural name, whole or as a subresource.
    pub fn writes(&self, method: &Method, resource: &str) -> bool {
        let parts = self.parts();
        self.method == method && (parts.resource == resource || parts.subresource == resource)
    }

    /// Whether it changes something that lasts: leases, events, questions about rights and dry runs apart.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET && !BESIDE.contains(&self.parts().resource) && !self.query().contains("dryRun=")
    }

    /// Whether it watches.
    pub fn is_watch(&self) -> bool {
        self.query()
            .split('&')
            .any(|part| part == "watch=true" || part == "watch=1")
    }

    /// The parts of its path.
    pub fn parts(&self) -> Parts<'_> {
        let path = self.path.split('?').next().unwrap_or_default();
        let mut segments = path.split('/').skip(1);
        let skipped = match segments.next() {
            Some("api") => 1,
            Some("apis") => 2,
            _ => return Parts::default(),
        };
        let rest: Vec<&str> = segments.skip(skipped).collect();
        let at = |index: usize| rest.get(index).copied().unwrap_or_default();
        // `namespaces/x` is a namespace itself, `namespaces/x/y` something in it.
        let (namespace, from) = if at(0) == "namespaces" && rest.len() > 2 {
            (at(1), 2)
        } else {
            ("", 0)
        };
        Parts {
            namespace,
            resource: at(from),
            name: at(from + 1),
            subresource: at(from + 2),
        }
    }

    fn query(&self) -> &str {
        self.path.split_once('?').map_or("", |(_, query)| query)
    }

    /// The grant's part of a reserved name.
    pub(crate) fn grant_key(&self) -> Option<&str> {
        self.name.strip_prefix(RESERVED_PREFIX)?.split('-').next()
    }

    /// What it is, whatever the names and namespaces of the run: two calls of two runs that do the same are told the same.
    pub fn label(&self) -> String {
        let parts = self.parts();
        let method = if self.is_watch() {
            "WATCH"
        } else if self.method == Method::GET && self.name.is_empty() {
            "LIST"
        } else {
            self.method.as_str()
        };
        let resource = parts.resource;
        let slash = if parts.subresource.is_empty() { "" } else { "/" };
        let subresource = parts.subresource;
        let place = match parts.namespace {
            "" => "",
            IDENTITY_NAMESPACE => " of identities",
            namespace if namespace == self.tenant => "",
            _ => " elsewhere",
        };
        let dry = if self.query().contains("dryRun=") {
            " (dry run)"
        } else {
            ""
        };
        let named = match self.grant_key() {
            Some(_) if self.name.rsplit('-').next().is_some_and(|last| last.starts_with('g')) => " anchor".to_owned(),
            Some(_) if resource == "rolebindings" || resource == "roles" => {
                format!(" entry {}", self.name.rsplit('-').next().unwrap_or_default())
            }
            Some(_) => String::new(),
            // Names of decisions end in a number.
            // Names of events are made up.
            None if self.name.is_empty() || parts.namespace.is_empty() || resource == "events" => String::new(),
            None => format!(
                " {}",
                self.name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-')
            ),
        };
        format!("{method} {resource}{slash}{subresource}{named}{place}{dry}")
    }
}

/// Method and path.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: Method, path: &str, body: &str) -> Call {
        Call::new(method, path.to_owned(), body.as_bytes())
    }

    #[test]
    fn a_path_tells_its_parts() {
        let status = call(
            Method::PATCH,
            "/apis/wayleave.dev/v1alpha1/namespaces/a/accessgrants/b/status?x=y",
            "",
        );
        let parts = Parts {
            namespace: "a",
            resource: "accessgrants",
            name: "b",
            subresource: "status",
        };
        assert_eq!(status.parts(), parts);
        assert_eq!(
            call(Method::GET, "/api/v1/namespaces/a", "").parts().resource,
            "namespaces"
        );
        assert_eq!(call(Method::GET, "/api/v1/namespaces/a", "").parts().name, "a");
        assert_eq!(call(Method::GET, "/readyz", "").parts(), Parts::default());
    }

    #[test]
    fn labels_hold_nothing_of_one_run() {
        let path = "/api/v1/namespaces/wayleave-identities/serviceaccounts/wlg-0123456789abcdef-7/token";
        assert_eq!(
            call(Method::POST, path, "{}").label(),
            "POST serviceaccounts/token of identities"
        );
        let body = r#"{"metadata": {"name": "wlg-0123456789abcdef-7-g2"}}"#;
        let anchor = call(Method::POST, "/api/v1/namespaces/wayleave-identities/secrets?f=g", body);
        assert_eq!(anchor.label(), "POST secrets anchor of identities");
        let binding = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings/wlg-0123456789abcdef-7-0";
        assert_eq!(call(Method::DELETE, binding, "").label(), "DELETE rolebindings entry 0");
        let told = "/apis/wayleave.dev/v1alpha1/namespaces/a/accessdecisions/reader-approve-12/status";
        assert_eq!(
            call(Method::PATCH, told, "").label(),
            "PATCH accessdecisions/status reader-approve"
        );
        assert!(!call(Method::POST, "/api/v1/namespaces/a/secrets?dryRun=All", "").is_write());
        assert!(!call(Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", "").is_write());
        let watch = call(Method::GET, "/api/v1/namespaces?watch=true&x=y", "");
        assert!(watch.is_watch() && watch.label() == "WATCH namespaces");
    }
}
