//! Makes hostile input of bytes: sound texts and objects, edited. Bytes that a coverage-guided engine picks, and bytes that are
//! drawn by chance, both get past the first check that way.
//!
//! The targets are tests: `cargo test` gives each some thousand inputs by chance, and those that are kept beside them in
//! `tests/__fuzz__`. With a nightly toolchain and `cargo install cargo-bolero` a coverage-guided engine looks for more:
//! `cargo +nightly bolero test -p wayleave-fuzz objects_from_files --engine libfuzzer -T 10m`.

use serde_json::{Value, json};

/// The most edits that one input makes.
const MOST_EDITS: usize = 48;
/// What is put into texts.
const TOKENS: [&str; 28] = [
    "",
    "\0",
    "\u{1b}[31m",
    "\u{202e}",
    "\u{feff}",
    "\r\n",
    "\n---\n",
    "\t",
    "\"",
    "'",
    ",",
    ";",
    ":",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a ",
    "!!binary ",
    "null",
    "-9223372036854775809",
    "9999-12-31T23:59:60Z",
    "99999999999999999999d",
    "NaN",
    "\u{1f468}\u{200d}\u{1f469}",
    "%s",
];

/// Bytes that are read one after another; after the last there are zeroes.
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// From the first.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next one.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A number below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = usize::from(self.byte()) << 8 | usize::from(self.byte());
        wide.checked_rem(bound).unwrap_or(0)
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Yes now and then, and never once no bytes are left.
    pub fn rarely(&mut self) -> bool {
        self.byte() % 16 == 1
    }

    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One of these texts, edited; or the bytes as they are.
#[must_use]
pub fn text(input: &[u8], seeds: &[&str]) -> String {
    let mut bytes = Bytes::new(input);
    let Some(seed) = seeds.get(usize::from(bytes.byte()) % (seeds.len() + 1)) else {
        return String::from_utf8_lossy(bytes.0).into_owned();
    };
    let mut text: Vec<char> = seed.chars().collect();
    for _ in 0..MOST_EDITS {
        if bytes.is_empty() {
            break;
        }
        let at = bytes.below(text.len() + 1);
        let end = (at + usize::from(bytes.byte() % 32)).min(text.len());
        match bytes.byte() % 4 {
            0 => drop(text.drain(at..end)),
            1 => {
                let token = TOKENS[bytes.below(TOKENS.len())];
                text.splice(at..at, token.chars());
            }
            2 => {
                let again: Vec<char> = text[at..end].to_vec();
                text.splice(at..at, again);
            }
            _ => {
                let character = char::from(bytes.byte());
                text.splice(at..end, [character]);
            }
        }
    }
    text.into_iter().collect()
}

/// Edits a value at places that the bytes choose, now and then: where everything is hostile, the first check refuses it.
pub fn edit(bytes: &mut Bytes<'_>, object: &mut Value) {
    let edits = bytes.byte().checked_sub(208).map_or(0, |more| 1 + more / 16);
    for _ in 0..edits {
        let (place, hostile) = (place(bytes, object), hostile(bytes));
        *place = hostile;
    }
}

fn place<'a>(bytes: &mut Bytes<'_>, mut at: &'a mut Value) -> &'a mut Value {
    loop {
        let children = match &*at {
            Value::Object(fields) => fields.len(),
            Value::Array(items) => items.len(),
            _ => 0,
        };
        if children == 0 {
            return at;
        }
        let chosen = bytes.below(children);
        at = match at {
            Value::Object(fields) => match fields.iter_mut().nth(chosen) {
                Some((_, child)) => child,
                None => unreachable!("it was chosen of those that are there"),
            },
            Value::Array(items) => &mut items[chosen],
            _ => unreachable!("it has children"),
        };
    }
}

/// What somebody could put into a field.
fn hostile(bytes: &mut Bytes<'_>) -> Value {
    let many = usize::from(bytes.byte());
    let values = [
        Value::Null,
        json!(""),
        json!("a".repeat(many)),
        json!("\u{65e5}".repeat(many)),
        json!("x".repeat(many * 64)),
        json!("\u{1b}]0;owned\u{7}"),
        json!("\u{202e}dcba\r\n"),
        json!("*"),
        json!("-"),
        json!("payments"),
        json!("wayleave-system"),
        json!("kube-system"),
        json!("system:serviceaccount:payments:default"),
        json!("system:masters"),
        json!("carol@corp.example"),
        json!("dave@corp.example"),
        json!("get"),
        json!("secrets"),
        json!("serviceaccounts/token"),
        json!("0001-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:59Z"),
        json!("2026-12-01T00:00:00Z"),
        json!("1s"),
        json!("3650d"),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!([]),
        json!({}),
        Value::Array(vec![json!("get"); many]),
        Value::Array((0..many).map(|it| json!(format!("name-{it}"))).collect()),
    ];
    let chosen = bytes.below(values.len());
    values[chosen].clone()
}
