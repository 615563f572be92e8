//! Objects from files: YAML of any number of documents, with what is wrong in them. Pure.

mod schema;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::v1alpha1::{AccessGrant, AccessOwner, AccessPolicy, PartnerIntegration};
use crate::domain::text::{bounded, escape};

/// The largest file that is read.
pub const MOST_BYTES: usize = 16 << 20;
/// After so many faults the rest is not read.
const MOST_FAULTS: usize = 64;
/// The longest a parser's words are shown.
const MOST_WORDS: usize = 512;

/// Namespace and name of an object.
pub type Key = (String, String);

/// The objects of some files. Where two have one name, the later one counts.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Integrations.
    pub integrations: BTreeMap<Key, PartnerIntegration>,
    /// Grants.
    pub grants: BTreeMap<Key, AccessGrant>,
    /// Owners.
    pub owners: BTreeMap<String, AccessOwner>,
    /// Policies.
    pub policies: BTreeMap<String, AccessPolicy>,
    /// Namespaces.
    pub namespaces: BTreeMap<String, Namespace>,
    /// ClusterRoles.
    pub cluster_roles: BTreeMap<String, ClusterRole>,
    /// What is of no use here, in words.
    pub ignored: Vec<String>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Something wrong in a file. Its words hold nothing that could take over a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub source: String,
    /// Which document of it, from 1.
    pub document: usize,
    /// Which line, from 1; the document's first where it isn't known better.
    pub line: u64,
    /// Kind and name of the object, where they can be read.
    pub object: Option<String>,
    /// The field where that is known, what is given, what is allowed.
    pub words: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: document {}, line {}: ", self.source, self.document, self.line)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.words)
    }
}

/// Where a document stands.
struct Place<'a> {
    source: &'a str,
    document: usize,
    line: u64,
}

impl Documents {
    /// Reads a file's text; objects without a namespace get `namespace`.
    pub fn read(&mut self, source: &str, text: &str, namespace: &str) {
        let source = escape(source);
        for (index, (line, part)) in split(text).into_iter().enumerate() {
            let place = Place {
                source: &source,
                document: index + 1,
                line,
            };
            if self.faults.len() >= MOST_FAULTS {
                return self.fault(&place, None, None, "not read, after so many faults".to_owned());
            }
            match parse::<Option<Value>>(&place, &part) {
                Ok(None) => {}
                Ok(Some(value)) => self.take(&place, value, Some(&part), namespace),
                Err((line, words)) => self.fault(&place, line, None, words),
            }
        }
    }

    fn fault(&mut self, place: &Place<'_>, line: Option<u64>, object: Option<&str>, words: String) {
        self.faults.push(Fault {
            source: place.source.to_owned(),
            document: place.document,
            line: line.unwrap_or(place.line),
            object: object.map(str::to_owned),
            words,
        });
    }

    fn take(&mut self, place: &Place<'_>, mut value: Value, text: Option<&str>, namespace: &str) {
        let word = |field: &Value| field.as_str().map(str::to_owned);
        let Some((version, kind)) = word(&value["apiVersion"]).zip(word(&value["kind"])) else {
            let words = "apiVersion and kind are needed, such as wayleave.dev/v1alpha1 and AccessGrant".to_owned();
            return self.fault(place, None, None, words);
        };
        if kind == "List" || (kind.ends_with("List") && value["items"].is_array()) {
            if let Some(items) = value["items"].as_array_mut() {
                for item in std::mem::take(items) {
                    self.take(place, item, None, namespace);
                }
            }
            return;
        }
        let name = word(&value["metadata"]["name"]).unwrap_or_default();
        let object = bounded(format!("{} {}", escape(&kind), escape(&name)), MOST_WORDS);
        let known = matches!(
            (version.as_str(), kind.as_str()),
            (
                "wayleave.dev/v1alpha1",
                "PartnerIntegration" | "AccessGrant" | "AccessOwner" | "AccessPolicy"
            ) | ("v1", "Namespace")
                | ("rbac.authorization.k8s.io/v1", "ClusterRole")
        );
        if !known {
            let version = bounded(escape(&version), MOST_WORDS);
            self.ignored.push(format!(
                "{}: document {}: {object} of {version} is not judged",
                place.source, place.document
            ));
            return;
        }
        if name.is_empty() {
            return self.fault(
                place,
                None,
                Some(&object),
                "metadata.name: missing, a name is needed".to_owned(),
            );
        }
        // What the API server would see to, and what would be one fault again by the type.
        let faults = schema::faults(&kind, &value);
        if !faults.is_empty() {
            for words in faults {
                self.fault(place, None, Some(&object), words);
            }
            return;
        }
        let key = (
            word(&value["metadata"]["namespace"]).unwrap_or_else(|| namespace.to_owned()),
            name.clone(),
        );
        let result = match kind.as_str() {
            "PartnerIntegration" => typed(place, value, text).map(|mut it: PartnerIntegration| {
                it.metadata.namespace = Some(key.0.clone());
                self.integrations.insert(key, it);
            }),
            "AccessGrant" => typed(place, value, text).map(|mut it: AccessGrant| {
                it.metadata.namespace = Some(key.0.clone());
                it.status = None;
                self.grants.insert(key, it);
            }),
            "AccessOwner" => typed(place, value, text).map(|it| drop(self.owners.insert(name, it))),
            "AccessPolicy" => typed(place, value, text).map(|it| drop(self.policies.insert(name, it))),
            "Namespace" => typed(place, value, text).map(|it| drop(self.namespaces.insert(name, it))),
            _ => typed(place, value, text).map(|it| drop(self.cluster_roles.insert(name, it))),
        };
        if let Err((line, words)) = result {
            self.fault(place, line, Some(&object), words);
        }
    }
}

type Wrong = (Option<u64>, String);

/// Reads an object; from its text where there is one, since then the line is known.
fn typed<T: DeserializeOwned>(place: &Place<'_>, value: Value, text: Option<&str>) -> Result<T, Wrong> {
    match text {
        Some(text) => parse(place, text),
        None => serde_json::from_value(value).map_err(|error| (None, words(&error.to_string()))),
    }
}

fn parse<T: DeserializeOwned>(place: &Place<'_>, text: &str) -> Result<T, Wrong> {
    let wrong = match serde_saphyr::from_str(text) {
        Ok(found) => return Ok(found),
        Err(wrong) => wrong,
    };
    // Once more with blank lines before it, so that all line numbers in its words are those of the file.
    let blanks = usize::try_from(place.line - 1).unwrap_or_default();
    let padded = format!("{}{text}", "\n".repeat(blanks));
    let wrong = serde_saphyr::from_str::<T>(&padded).err().unwrap_or(wrong);
    let line = wrong.location().map(|location| location.line());
    Err((
        line.filter(|line| *line > 0),
        words(&wrong.without_snippet().to_string()),
    ))
}

fn words(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    bounded(escape(first), MOST_WORDS)
}

/// The documents of a stream that aren't empty, with the line where each begins. In YAML a line that begins with `---` or
/// `...` is always a mark between documents, in block scalars too.
fn split(text: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let (mut line, mut begun, mut part) = (0, 1, String::new());
    let is_mark = |text: &str| {
        ["---", "..."].iter().any(|mark| {
            text.strip_prefix(mark)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']))
        })
    };
    for text in text.split('\n') {
        line += 1;
        if is_mark(text) {
            parts.push((begun, std::mem::take(&mut part)));
            // What follows the mark on its line belongs to the document.
            begun = line;
            let rest = text[3..].trim();
            if !rest.is_empty() {
                part.push_str("   ");
                part.push_str(&text[3..]);
            }
        } else {
            part.push_str(text);
        }
        part.push('\n');
    }
    parts.push((begun, part));
    let is_content = |text: &str| {
        text.lines()
            .any(|line| !line.trim().is_empty() && !line.trim().starts_with('#'))
    };
    parts.retain(|(_, part)| is_content(part));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: &str = "apiVersion: wayleave.dev/v1alpha1
kind: AccessGrant
metadata: {name: reader}
spec:
  integrationRef: {name: acme}
  access: [{rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]}]
  credential: {type: Token, token: {lifetime: 1h}}
  expiresAt: 2027-03-01T00:00:00Z
";

    fn read(text: &str) -> Documents {
        let mut documents = Documents::default();
        documents.read("grants.yaml", text, "payments");
        documents
    }

    fn faults(text: &str) -> Vec<String> {
        read(text).faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_stream_of_documents_and_lists_is_read() {
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
        let listed =
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: payments}}\n";
        let found = read(&format!(
            "# a comment\n---\n{GRANT}---\n{service}--- # two\n{listed}---\n"
        ));
        assert_eq!(found.faults, []);
        assert_eq!(
            found.ignored,
            ["grants.yaml: document 2: Service web of v1 is not judged"]
        );
        let key = ("payments".to_owned(), "reader".to_owned());
        assert_eq!(found.grants[&key].metadata.namespace.as_deref(), Some("payments"));
        assert!(found.namespaces.contains_key("payments"));
    }

    #[test]
    fn what_does_not_parse_is_told_with_document_line_and_field() {
        let broken = format!("{GRANT}---\n{}", GRANT.replace("2027-03-01T00:00:00Z", "tomorrow"));
        let told = faults(&broken);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("grants.yaml: document 2, line 17: AccessGrant reader: "),
            "{told:?}"
        );
        let told = faults("a: [\n---\nkind: AccessGrant\n");
        assert!(told[0].starts_with("grants.yaml: document 1, line "), "{told:?}");
        assert_eq!(
            told[1],
            "grants.yaml: document 2, line 2: apiVersion and kind are needed, such as wayleave.dev/v1alpha1 and AccessGrant"
        );
    }

    #[test]
    fn faults_of_the_schema_name_field_given_and_allowed() {
        let typo = GRANT
            .replace("expiresAt", "expires")
            .replace("type: Token", "type: Tokn");
        let told = faults(&typo);
        for words in [
            "spec.expiresAt: missing",
            "spec.expires: unknown field",
            "spec.credential.type: \"Tokn\", allowed are \"Token\"",
        ] {
            assert!(told.iter().any(|fault| fault.contains(words)), "{words} in {told:#?}");
        }
    }

    #[test]
    fn after_many_faults_the_rest_is_not_read() {
        let told = faults(&"kind: Nothing\n---\n".repeat(MOST_FAULTS * 2));
        assert_eq!(told.len(), MOST_FAULTS + 1);
        assert!(told[MOST_FAULTS].contains("not read, after so many faults"), "{told:?}");
    }

    #[test]
    fn nothing_in_the_words_takes_over_a_terminal() {
        let hostile = GRANT
            .replace("name: reader", "name: \"r\\e[2J\"")
            .replace("get]", "\"\\e[31m\", 5]");
        let found = read(&format!(
            "{hostile}---\napiVersion: \"\\e[2J\"\nkind: \"\\e[2J\"\n---\n\u{1b}: ]\n"
        ));
        let words = found.faults.iter().map(ToString::to_string).chain(found.ignored);
        for words in words {
            assert!(!words.contains(crate::domain::text::is_hostile), "{words:?}");
        }
    }
}
