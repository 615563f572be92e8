//! A directory's export as CSV, with a header.

use super::{Draft, Person, Problem, as_bool, as_instant, check_all};

const NAME: &str = "name";
const DISPLAY_NAME: &str = "displayName";
const EMAIL: &str = "email";
const USERNAMES: &str = "usernames";
const ACTIVE: &str = "active";
const UNTIL: &str = "until";
const COLUMNS: [&str; 6] = [NAME, DISPLAY_NAME, EMAIL, USERNAMES, ACTIVE, UNTIL];
const NEEDED: [&str; 2] = [DISPLAY_NAME, EMAIL];
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads an export.
///
/// # Errors
///
/// All that is wrong with it.
pub fn read(text: &str) -> Result<Vec<Person>, Vec<Problem>> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(vec![Problem::new("line 1", "header", error.to_string(), "CSV")]),
    };
    let mut problems = check_header(&header);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut people = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) => people.extend(read_row(&header, &record, &mut problems)),
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                problems.push(Problem::new(
                    &format!("line {line}"),
                    "row",
                    error.to_string(),
                    "CSV in UTF-8",
                ));
            }
        }
    }
    check_all(&people, &mut problems);
    if people.is_empty() && problems.is_empty() {
        problems.push(Problem::new(
            "line 2",
            "row",
            "",
            "at least one person: an empty export is a mistake",
        ));
    }
    if problems.is_empty() { Ok(people) } else { Err(problems) }
}

fn check_header(header: &csv::StringRecord) -> Vec<Problem> {
    let wrong = |given: &str, allowed: String| Problem::new("line 1", "header", given, allowed);
    let unknown = header.iter().filter(|it| !COLUMNS.contains(it));
    let mut problems: Vec<Problem> = unknown.map(|it| wrong(it, COLUMNS.join(", "))).collect();
    for column in COLUMNS {
        if header.iter().filter(|it| *it == column).count() > 1 {
            problems.push(wrong(column, "each column once".to_owned()));
        }
    }
    let given: Vec<&str> = header.iter().collect();
    for column in NEEDED {
        if !given.contains(&column) {
            problems.push(wrong(&given.join(","), format!("a header with {column}")));
        }
    }
    if !given.contains(&NAME) && !given.contains(&USERNAMES) {
        problems.push(wrong(&given.join(","), format!("a header with {NAME} or {USERNAMES}")));
    }
    problems
}

fn read_row(header: &csv::StringRecord, record: &csv::StringRecord, problems: &mut Vec<Problem>) -> Option<Person> {
    let place = format!("line {}", record.position().map_or(0, csv::Position::line));
    if record.len() != header.len() {
        let allowed = format!("{} fields, as the header has; quote what holds a comma", header.len());
        problems.push(Problem::new(&place, "row", format!("{} fields", record.len()), allowed));
        return None;
    }
    let field = |column: &str| {
        let at = header.iter().position(|it| it == column)?;
        record.get(at)
    };
    let before = problems.len();
    let active = match field(ACTIVE) {
        None => true,
        Some(text) => as_bool(text).unwrap_or_else(|| {
            problems.push(Problem::new(&place, ACTIVE, text, "true or false"));
            false
        }),
    };
    let until = field(UNTIL).map(|text| {
        if text.is_empty() {
            return None;
        }
        let at = as_instant(text);
        if at.is_none() {
            problems.push(Problem::new(
                &place,
                UNTIL,
                text,
                "a day such as 2027-01-31, or an instant such as 2027-01-31T00:00:00Z",
            ));
        }
        at
    });
    let usernames = field(USERNAMES).unwrap_or_default().split(';').map(str::trim);
    let draft = Draft {
        columns: [NAME, DISPLAY_NAME, EMAIL, USERNAMES],
        name: field(NAME).filter(|name| !name.is_empty()).map(str::to_owned),
        display_name: field(DISPLAY_NAME).unwrap_or_default().to_owned(),
        email: field(EMAIL).unwrap_or_default().to_owned(),
        usernames: usernames.filter(|it| !it.is_empty()).map(str::to_owned).collect(),
        usernames_complete: field(USERNAMES).is_some(),
        active,
        until,
        place,
    };
    let person = draft.check(problems);
    person.filter(|_| problems.len() == before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        read(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn people_are_read_with_and_without_names_of_their_own() {
        let text = "\u{feff}name,displayName,email,usernames,active,until\n\
            ,Alice Doe,alice@corp.example,alice@corp.example; adm-alice,TRUE,\n\
            payments-team,\"Payments, the team\",pay@corp.example,,true,2027-01-31\n";
        let people = read(text).unwrap();
        assert_eq!(people[0].name, "alice");
        assert_eq!(people[0].usernames, ["alice@corp.example", "adm-alice"]);
        assert_eq!((people[0].place.as_str(), people[0].until), ("line 2", Some(None)));
        assert_eq!(
            (people[1].name.as_str(), people[1].display_name.as_str()),
            ("payments-team", "Payments, the team")
        );
        assert_eq!(people[1].until, Some("2027-01-31T00:00:00Z".parse().ok()));
        let few = read("displayName,email,usernames\nBob,bob@corp.example,bob\n").unwrap();
        assert!(few[0].active && few[0].until.is_none());
    }

    #[test]
    fn each_bad_row_is_told_by_line_column_and_what_is_allowed() {
        let text = "name,displayName,email,usernames,active,until\n\
            Alice,Alice,alice,alice,yes,tomorrow\n\
            bob,\u{1b}[2J,bob@corp.example,bob,true\n\
            carol,,carol@corp.example,\u{202e},true,\n";
        let said = wrong(text);
        for part in [
            "line 2, active: given 'yes', allowed is true or false",
            "line 2, until: given 'tomorrow', allowed is a day such as",
            "line 2, email: given 'alice', allowed is an e-mail address",
            "line 2, name: given 'Alice', allowed is a DNS label",
            "line 3, row: given '5 fields', allowed is 6 fields",
            "line 4, displayName: given ''",
            "line 4, usernames: given '\u{202e}'",
        ] {
            assert!(said.iter().any(|it| it.starts_with(part)), "{part} in {said:#?}");
        }
        assert_eq!(said.len(), 7, "{said:#?}");
    }

    #[test]
    fn collisions_name_both_rows() {
        let text = "displayName,email,usernames\n\
            Alice,a@one.example,alice@one.example\n\
            Alice,a@two.example,alice@two.example\n\
            Adm,adm@one.example,adm;ALICE@one.example\n";
        assert_eq!(
            wrong(text),
            [
                "line 3, name: given 'alice', allowed is a name that line 2 doesn't have too: give them names of their own",
                "line 4, usernames: given 'ALICE@one.example', allowed is a user name that line 2 doesn't have too: one user is one person",
            ]
        );
    }

    #[test]
    fn a_header_that_is_not_known_is_refused() {
        assert!(
            wrong("displayName,mail,usernames\nA,a@b,a\n")[0]
                .starts_with("line 1, header: given 'mail', allowed is name, ")
        );
        assert!(wrong("displayName,email\nA,a@b\n")[0].contains("a header with name or usernames"));
        assert!(wrong("displayName,email,name,name\nA,a@b,a,a\n")[0].contains("each column once"));
        assert!(wrong("displayName,email,usernames\n")[0].contains("an empty export is a mistake"));
        assert!(!wrong("").is_empty());
    }
}
