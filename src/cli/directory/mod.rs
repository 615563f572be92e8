//! People from a directory's export, and what they change about AccessOwners. Pure: files are read and objects written
//! elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::api::v1alpha1::Instant;
use crate::domain::text::is_hostile;

mod diff;
mod rows;
mod scim;

pub use diff::{Change, Diff, compare};
pub use rows::read as read_csv;
pub use scim::read as read_scim;

/// Longest name of an object.
const NAME_LENGTH: usize = 63;
const LINE_LENGTH: usize = 256;
const EMAIL_LENGTH: usize = 254;
const USERNAME_LENGTH: usize = 253;
const MOST_USERNAMES: usize = 16;

/// Somebody in an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Where it stands: `line 3`, or `Resources[2]`.
    pub place: String,
    /// The DNS label that the object is called by.
    pub name: String,
    /// The name as people know it.
    pub display_name: String,
    /// Where to write to.
    pub email: String,
    /// The names by which the API server knows this person.
    pub usernames: Vec<String>,
    /// Whether the usernames are all that there are; others that an object has are kept where they aren't.
    pub usernames_complete: bool,
    /// Still there.
    pub active: bool,
    /// The day of leaving; none where the export has no such column, and then an object's own is left alone.
    pub until: Option<Option<Instant>>,
}

/// Something in an export that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: the line or entry.
    pub place: String,
    /// Which column or attribute.
    pub column: String,
    /// What stands there.
    pub given: String,
    /// What could.
    pub allowed: String,
}

impl Problem {
    fn new(place: &str, column: &str, given: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            place: place.to_owned(),
            column: column.to_owned(),
            given: given.into(),
            allowed: allowed.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, column, given, allowed) = (&self.place, &self.column, &self.given, &self.allowed);
        write!(f, "{place}, {column}: given '{given}', allowed is {allowed}")
    }
}

/// What an entry says, before it is checked.
struct Draft {
    place: String,
    /// Names of the columns in this kind of export: of the object's name, the display name, the e-mail, the usernames.
    columns: [&'static str; 4],
    name: Option<String>,
    display_name: String,
    email: String,
    usernames: Vec<String>,
    usernames_complete: bool,
    active: bool,
    until: Option<Option<Instant>>,
}

impl Draft {
    fn check(self, problems: &mut Vec<Problem>) -> Option<Person> {
        let [of_name, of_display_name, of_email, of_usernames] = self.columns;
        let before = problems.len();
        let mut wrong = |column: &str, given: &str, allowed: &str| {
            problems.push(Problem::new(&self.place, column, given, allowed));
        };
        if !is_line(&self.display_name, LINE_LENGTH) {
            let allowed = "one line without control characters, 1 to 256 characters";
            wrong(of_display_name, &self.display_name, allowed);
        }
        if !is_email(&self.email) {
            wrong(of_email, &self.email, "an e-mail address, at most 254 characters");
        }
        if self.usernames.len() > MOST_USERNAMES {
            wrong(of_usernames, &self.usernames.join(";"), "at most 16 names");
        }
        for username in &self.usernames {
            if !is_line(username, USERNAME_LENGTH) || username.trim() != username {
                let allowed = "a user name without control characters or surrounding blanks, at most 253 characters";
                wrong(of_usernames, username, allowed);
            }
        }
        let name = match &self.name {
            Some(name) if is_label(name) => name.clone(),
            Some(name) => {
                wrong(of_name, name, "a DNS label: a-z, 0-9 and '-', at most 63 characters");
                String::new()
            }
            None => {
                let made = self.usernames.first().map(|it| label_of(it)).unwrap_or_default();
                if made.is_empty() {
                    let given = self.usernames.join(";");
                    wrong(
                        of_usernames,
                        &given,
                        "a name of which a DNS label can be made; or name the object in a column 'name'",
                    );
                }
                made
            }
        };
        (problems.len() == before).then_some(Person {
            place: self.place,
            name,
            display_name: self.display_name,
            email: self.email,
            usernames: self.usernames,
            usernames_complete: self.usernames_complete,
            active: self.active,
            until: self.until,
        })
    }
}

/// Puts what the API server puts before the user names of an identity provider (`oidc:`, say) before those of an export, which
/// knows nothing of it. One that begins so already stays as it is. Objects are named as ever.
///
/// # Errors
///
/// All names that are too long then, or that two people have then.
pub fn with_prefix(mut people: Vec<Person>, prefix: &str) -> Result<Vec<Person>, Vec<Problem>> {
    let mut problems = Vec::new();
    for person in &mut people {
        for username in person.usernames.iter_mut().filter(|it| !it.starts_with(prefix)) {
            username.insert_str(0, prefix);
            if username.chars().count() > USERNAME_LENGTH {
                let allowed = format!("at most 253 characters, {prefix} included");
                problems.push(Problem::new(&person.place, "usernames", username.clone(), allowed));
            }
        }
        let mut seen = BTreeSet::new();
        person.usernames.retain(|it| seen.insert(it.clone()));
    }
    check_all(&people, &mut problems);
    if problems.is_empty() { Ok(people) } else { Err(problems) }
}

/// Refuses two people of one name or with one user name.
fn check_all(people: &[Person], problems: &mut Vec<Problem>) {
    let (mut names, mut users) = (BTreeMap::new(), BTreeMap::new());
    for person in people {
        if let Some(first) = names.insert(person.name.as_str(), person) {
            let allowed = format!(
                "a name that {} doesn't have too: give them names of their own",
                first.place
            );
            problems.push(Problem::new(&person.place, "name", &person.name, allowed));
        }
        for user in &person.usernames {
            if let Some(first) = users.insert(user.to_lowercase(), person)
                && first.place != person.place
            {
                let allowed = format!(
                    "a user name that {} doesn't have too: one user is one person",
                    first.place
                );
                problems.push(Problem::new(&person.place, "usernames", user, allowed));
            }
        }
    }
}

/// The DNS label for a user: what stands before the `@`, in small letters, with `-` for all else.
fn label_of(user: &str) -> String {
    let local = user.split('@').next().unwrap_or_default().to_lowercase();
    let mut label = String::new();
    for character in local.chars() {
        if character.is_ascii_alphanumeric() {
            label.push(character);
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    label.truncate(NAME_LENGTH);
    label.trim_end_matches('-').to_owned()
}

/// Whether a text is a DNS label (RFC 1123).
#[must_use]
pub fn is_label(name: &str) -> bool {
    let allowed = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    (1..=NAME_LENGTH).contains(&name.len())
        && name.chars().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_line(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.chars().count()) && !text.chars().any(is_hostile)
}

fn is_email(text: &str) -> bool {
    let odd = |it: char| it.is_whitespace() || is_hostile(it) || matches!(it, '<' | '>' | '@');
    text.len() <= EMAIL_LENGTH
        && text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !local.contains(odd) && !domain.contains(odd)
        })
}

/// `true` or `false`, in whatever letters.
fn as_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// An instant, or a day, which then begins at midnight UTC.
fn as_instant(text: &str) -> Option<Instant> {
    let is_day = text.len() == "2027-01-31".len();
    if is_day {
        format!("{text}T00:00:00Z").parse().ok()
    } else {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_label() {
        for (user, label) in [
            ("alice@corp.example", "alice"),
            ("Adm.Alice_2", "adm-alice-2"),
            ("--x--@y", "x"),
            ("oidc:dave", "oidc-dave"),
            ("日本@corp.example", ""),
        ] {
            assert_eq!(label_of(user), label);
            assert!(label.is_empty() || is_label(label));
        }
        let long = label_of(&"a-".repeat(60));
        assert!(is_label(&long) && long.len() <= NAME_LENGTH);
    }

    #[test]
    fn an_address_is_one() {
        for good in ["a@b", "zoë@corp.example"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "<a@b>", "a@b\u{202e}"] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn user_names_get_the_prefix_of_the_api_server_once() {
        let of = |usernames: &[&str]| {
            let rows = usernames
                .iter()
                .enumerate()
                .map(|(at, it)| format!("P{at},p{at}@corp.example,{it}\n"));
            read_csv(&format!("displayName,email,usernames\n{}", rows.collect::<String>())).unwrap()
        };
        let prefixed = with_prefix(of(&["alice@corp.example;oidc:alice@corp.example;adm-alice"]), "oidc:").unwrap();
        assert_eq!(prefixed[0].usernames, ["oidc:alice@corp.example", "oidc:adm-alice"]);
        assert_eq!(prefixed[0].name, "alice", "the object is called as without");
        let said = with_prefix(of(&["bob", "oidc:Bob"]), "oidc:").unwrap_err();
        assert!(said[0].to_string().contains("one user is one person"), "{}", said[0]);
        let long = "a".repeat(250);
        let said = with_prefix(of(&[&long]), "oidc:").unwrap_err();
        assert!(
            said[0].to_string().contains("at most 253 characters, oidc: included"),
            "{}",
            said[0]
        );
    }

    #[test]
    fn a_day_begins_at_midnight() {
        assert_eq!(as_instant("2027-01-31"), "2027-01-31T00:00:00Z".parse().ok());
        assert_eq!(
            as_instant("2027-01-31T12:00:00+01:00"),
            "2027-01-31T11:00:00Z".parse().ok()
        );
        assert_eq!(as_instant("31.1.2027"), None);
    }
}
