//! A directory's export as a SCIM 2.0 ListResponse (RFC 7644) of Users (RFC 7643).
//!
//! A day of leaving is not among them: neither the User (section 4.1) nor its enterprise extension (4.3) has one, and each
//! directory that has one calls it otherwise. Until the day, an object's own is left alone; on it, `active` says so.

use serde_json::{Map, Value};

use super::{Draft, Person, Problem, as_bool, check_all};

const USER_NAME: &str = "userName";
const DISPLAY_NAME: &str = "displayName";
const EMAILS: &str = "emails";
const ACTIVE: &str = "active";
const WHOLE: &str = "file";

/// Reads an export.
///
/// # Errors
///
/// All that is wrong with it.
pub fn read(text: &str) -> Result<Vec<Person>, Vec<Problem>> {
    let one = |column: &str, given: &str, allowed: &str| vec![Problem::new(WHOLE, column, given, allowed)];
    let value: Value = serde_json::from_str(text).map_err(|error| one("JSON", &error.to_string(), "JSON"))?;
    let Some(resources) = value
        .as_object()
        .and_then(|it| get(it, "Resources"))
        .and_then(Value::as_array)
    else {
        return Err(one("Resources", "none", "a SCIM ListResponse with Resources"));
    };
    let total = value
        .as_object()
        .and_then(|it| get(it, "totalResults"))
        .and_then(Value::as_u64);
    if total.is_some_and(|total| u64::try_from(resources.len()).unwrap_or(u64::MAX) < total) {
        let given = format!("{} of {}", resources.len(), total.unwrap_or_default());
        return Err(one(
            "Resources",
            &given,
            "all of them: who is on another page would count as missing",
        ));
    }
    if resources.is_empty() {
        return Err(one(
            "Resources",
            "",
            "at least one person: an empty export is a mistake",
        ));
    }
    let mut problems = Vec::new();
    let mut people = Vec::new();
    for (at, user) in resources.iter().enumerate() {
        let place = format!("Resources[{at}]");
        match user.as_object() {
            Some(user) => people.extend(read_user(place, user, &mut problems)),
            None => problems.push(Problem::new(&place, "user", user.to_string(), "an object")),
        }
    }
    check_all(&people, &mut problems);
    if problems.is_empty() { Ok(people) } else { Err(problems) }
}

fn read_user(place: String, user: &Map<String, Value>, problems: &mut Vec<Problem>) -> Option<Person> {
    let before = problems.len();
    let active = match get(user, ACTIVE) {
        None | Some(Value::Null) => true,
        Some(Value::Bool(active)) => *active,
        // Some directories write it as text.
        Some(other) => other.as_str().and_then(as_bool).unwrap_or_else(|| {
            problems.push(Problem::new(&place, ACTIVE, other.to_string(), "true or false"));
            false
        }),
    };
    let user_name = text(get(user, USER_NAME));
    if user_name.is_empty() {
        problems.push(Problem::new(&place, USER_NAME, "", "a user name"));
        return None;
    }
    let draft = Draft {
        columns: [USER_NAME, DISPLAY_NAME, EMAILS, USER_NAME],
        name: None,
        display_name: display_name(user).unwrap_or_else(|| user_name.clone()),
        email: email(user),
        usernames: vec![user_name],
        usernames_complete: false,
        active,
        until: None,
        place,
    };
    let person = draft.check(problems);
    person.filter(|_| problems.len() == before)
}

fn display_name(user: &Map<String, Value>) -> Option<String> {
    let name = get(user, "name").and_then(Value::as_object);
    let part = |part: &str| name.and_then(|name| get(name, part));
    let parts = format!("{} {}", text(part("givenName")), text(part("familyName")));
    let all = [
        text(get(user, DISPLAY_NAME)),
        text(part("formatted")),
        parts.trim().to_owned(),
    ];
    all.into_iter().find(|it| !it.is_empty())
}

/// The primary address, else the first.
fn email(user: &Map<String, Value>) -> String {
    let all = get(user, EMAILS).and_then(Value::as_array);
    let mut all = all.into_iter().flatten().filter_map(Value::as_object).peekable();
    let first = all.peek().map(|it| text(get(it, "value"))).unwrap_or_default();
    let primary = all.find(|it| get(it, "primary") == Some(&Value::Bool(true)));
    primary.map_or(first, |it| text(get(it, "value")))
}

/// An attribute: their names are the same in whatever letters.
fn get<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let exact = object.get(name);
    exact.or_else(|| {
        object
            .iter()
            .find(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, it)| it)
    })
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(resources: Value) -> String {
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"], "Resources": resources}).to_string()
    }

    fn wrong(text: &str) -> Vec<String> {
        read(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn users_are_read_by_their_primary_address() {
        let users = json!([
            {"userName": "alice@corp.example", "displayName": "Alice Doe", "active": true,
             "emails": [{"value": "old@corp.example"}, {"value": "alice@corp.example", "primary": true}]},
            {"username": "bob", "name": {"givenName": "Bob", "familyName": "Roe"}, "active": "False", "Emails": [{"value": "bob@corp.example"}]},
            {"userName": "carol", "name": {"formatted": "Carol Poe"}, "emails": [{"value": "carol@corp.example"}]},
        ]);
        let people = read(&list(users)).unwrap();
        let told: Vec<(&str, &str, &str, bool)> = people
            .iter()
            .map(|it| (it.name.as_str(), it.display_name.as_str(), it.email.as_str(), it.active))
            .collect();
        assert_eq!(
            told,
            [
                ("alice", "Alice Doe", "alice@corp.example", true),
                ("bob", "Bob Roe", "bob@corp.example", false),
                ("carol", "Carol Poe", "carol@corp.example", true),
            ]
        );
        assert!(people.iter().all(|it| it.until.is_none() && !it.usernames_complete));
    }

    #[test]
    fn a_day_of_leaving_is_taken_from_no_extension() {
        let enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
        let users = json!([{
            "userName": "alice", "emails": [{"value": "alice@corp.example"}],
            enterprise: {"employeeNumber": "701984", "terminationDate": "2027-01-31"}, "endDate": "2027-01-31",
        }]);
        assert_eq!(read(&list(users)).unwrap()[0].until, None);
    }

    #[test]
    fn what_is_wrong_is_told_by_entry_and_attribute() {
        let users = json!([{"userName": "alice", "active": 1}, {"displayName": "X"}, "bob"]);
        let said = wrong(&list(users));
        assert_eq!(
            said,
            [
                "Resources[0], active: given '1', allowed is true or false",
                "Resources[0], emails: given '', allowed is an e-mail address, at most 254 characters",
                "Resources[1], userName: given '', allowed is a user name",
                "Resources[2], user: given '\"bob\"', allowed is an object",
            ]
        );
    }

    #[test]
    fn a_part_of_the_list_or_none_is_refused() {
        let page = json!({"totalResults": 2, "Resources": [{"userName": "a", "emails": [{"value": "a@b"}]}]});
        assert!(wrong(&page.to_string())[0].contains("given '1 of 2', allowed is all of them"));
        assert!(wrong(&list(json!([])))[0].contains("an empty export is a mistake"));
        assert!(wrong("{}")[0].contains("a SCIM ListResponse"));
        assert!(wrong("{")[0].starts_with("file, JSON: given 'EOF"));
    }
}
