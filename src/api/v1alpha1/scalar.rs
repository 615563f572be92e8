//! The scalar types of the API: text, names, instants and durations, each with the schema that bounds it.
//!
//! A value that does not parse fails the whole object (the store's guard reports it), so code past this point never
//! sees a half-read one. Patterns are RE2, as the API server reads them.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::{SpanRelativeTo, Timestamp};
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, min $min:literal, max $max:literal, $rule:expr, $message:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string", "minLength": $min, "maxLength": $max,
                    "x-kubernetes-validations": [{"rule": $rule, "message": $message}],
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text!(
    /// One line of text: no control, format (bidirectional overrides among them) or line-breaking characters, since it
    /// ends up in terminals, events and pages; and not blanks alone, which say nothing. 1 to 256 characters.
    Line, min 1, max 256,
    r"self.matches(r'^[^\p{Cc}\p{Cf}\p{Z}]([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*[^\p{Cc}\p{Cf}\p{Z}])?$')",
    "must be one line of text without control characters or surrounding blanks, 1 to 256 characters"
);
text!(
    /// A DNS label (RFC 1123): what names of our kinds and references to them are.
    Name, min 1, max 63,
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    "must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit, at most 63 characters"
);
text!(
    /// The name of an object of Kubernetes' own: a DNS subdomain (RFC 1123).
    ObjectName, min 1, max 253,
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
    "must be a DNS subdomain: labels of lower-case letters, digits and '-', joined by dots, at most 253 characters"
);
text!(
    /// The name of a ClusterRole: RBAC allows what a path segment allows.
    RoleName, min 1, max 253,
    "self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.:]*[A-Za-z0-9])?$')",
    "must be the name of a ClusterRole: letters, digits, '-', '_', '.' and ':', at most 253 characters"
);
text!(
    /// A user or group as the API server knows it.
    Principal, min 1, max 253,
    r"self.matches(r'^[^\p{Cc}\p{Cf}\p{Z}]([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*[^\p{Cc}\p{Cf}\p{Z}])?$')",
    "must be a user or group name without control characters or surrounding blanks, at most 253 characters"
);
text!(
    /// A digest: `sha256:` and 64 hexadecimal digits.
    Digest, min 71, max 71,
    "self.matches('^sha256:[0-9a-f]{64}$')",
    "must be 'sha256:' followed by 64 lower-case hexadecimal digits"
);
text!(
    /// The UID of an object: 36 characters, RFC 4122.
    Uid, min 36, max 36,
    "self.matches('^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$')",
    "must be the UID of an object, as in metadata.uid"
);
text!(
    /// An e-mail address, in outline only.
    Email, min 3, max 254,
    r"self.matches(r'^[^\p{C}\p{Z}@<>]+@[^\p{C}\p{Z}@<>]+$')",
    "must be an e-mail address, at most 254 characters"
);
text!(
    /// An absolute `https` URL, of visible ASCII characters only: it is shown to people who then open it. No user or
    /// password in it, since everybody who sees the object would have them.
    HttpsUrl, min 9, max 1024,
    r"self.matches(r'^https://[^/?#@]+([/?#]|$)') && self.matches('^[!-~]+$') && isURL(self) && url(self).getHost() != ''",
    "must be an absolute https URL without blanks, characters beyond ASCII, user or password, at most 1024 characters"
);
text!(
    /// An address block in CIDR notation. One address is a block of /32 or /128: an address with a shorter prefix is one
    /// that the writer meant otherwise.
    Cidr, min 4, max 43,
    "isCIDR(self) && cidr(self) == cidr(self).masked()",
    "must be an address block in CIDR notation that begins at its first address, such as 203.0.113.0/24 (one address: 203.0.113.7/32)"
);
text!(
    /// An API group in a rule: empty for the core group.
    ApiGroup, min 0, max 253,
    "self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$')",
    "must be an API group by name ('' is the core group); wildcards are not allowed"
);
text!(
    /// A resource or `resource/subresource` in a rule.
    RuleResource, min 1, max 128,
    "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$')",
    "must be a resource by its plural name, such as configmaps or pods/log; wildcards are not allowed"
);
text!(
    /// A verb in a rule.
    Verb, min 1, max 63,
    "self.matches('^[a-z]([-a-z:]*[a-z])?$')",
    "must be a verb by name, such as get or list; wildcards are not allowed"
);
text!(
    /// The name of an object in a rule.
    RuleName, min 1, max 253,
    r"self.matches(r'^[^/%\\\p{C}\p{Z}*]+$') && self != '.' && self != '..'",
    "must be the name of an object: no blanks, '/', '%' or '*'; wildcards are not allowed"
);

/// An instant with a resolution of whole seconds (RFC 3339), years 1970 to 8999 of UTC: a status holds it without its
/// offset, and must be able to.
///
/// Not `format: date-time` in the schema: that accepts offsets such as `+99:99`, which we can't read, and a pattern beside
/// it is refused with the pattern as the message. The rule says what is allowed in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Timestamp);

impl Instant {
    /// Drops the fraction of a second: Kubernetes stores whole seconds, and a value must equal itself once read back.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self(Timestamp::from_second(at.as_second()).unwrap_or(at))
    }

    /// The instant itself.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        self.0
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn as_second(self) -> i64 {
        self.0.as_second()
    }

    /// This instant moved by `seconds`; the limits of the time scale hold it.
    #[must_use]
    pub fn plus(self, seconds: i64) -> Self {
        let moved = self.as_second().saturating_add(seconds);
        let bounded = moved.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        Self(Timestamp::from_second(bounded).unwrap_or(self.0))
    }

    /// Seconds from `earlier` to this instant; negative when it is later.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> i64 {
        self.as_second() - earlier.as_second()
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Instant {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text.parse()?))
    }
}

impl Serialize for Instant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Instant {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Instant".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "maxLength": 40,
            "x-kubernetes-validations": [{
                "rule": is_instant("self"),
                "message": "must be an instant in RFC 3339 with its offset, such as 2027-03-01T00:00:00Z, that exists, in the years 1970 to 8999 (UTC)",
            }],
        })
    }
}

/// CEL: whether this string is an instant. The format alone would let `+99:99` through, the pattern alone 30 February,
/// both together an offset that leads into another year.
fn is_instant(field: &str) -> String {
    format!(
        "{field}.matches('^(19[7-9][0-9]|[2-8][0-9]{{3}})-[0-9]{{2}}-[0-9]{{2}}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{{1,9}})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$') \
         && !format.datetime().validate({field}).hasValue() \
         && timestamp({field}) >= timestamp('1970-01-01T00:00:00Z') && timestamp({field}) < timestamp('9000-01-01T00:00:00Z')"
    )
}

/// A rule on an object: where both fields are set and are instants (else they are refused themselves), `later` is after `earlier`.
pub(super) fn is_after(later: &str, earlier: &str) -> Rule {
    let (one, other) = (format!("self.{earlier}"), format!("self.{later}"));
    Rule::new(format!(
        "!has({one}) || !has({other}) || !({} && {}) || timestamp({other}) > timestamp({one})",
        is_instant(&one),
        is_instant(&other),
    ))
    .message(format!("{later} must be after {earlier}").as_str())
}

/// A rule on a list: nothing twice.
pub(super) fn is_distinct(field: &str) -> Rule {
    Rule::new("self.all(one, self.exists_one(other, one == other))")
        .message(format!("{field} must be distinct").as_str())
}

/// A length of time in days, hours and minutes, such as `90d`, `36h`, `15m` or `1d12h`; a day is 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(i64);

impl Period {
    /// From whole seconds.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// In seconds.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours, minutes, seconds) = (
            self.0 / 86_400,
            self.0 % 86_400 / 3_600,
            self.0 % 3_600 / 60,
            self.0 % 60,
        );
        let mut nothing = true;
        for (count, unit) in [(days, 'd'), (hours, 'h'), (minutes, 'm'), (seconds, 's')] {
            if count != 0 {
                write!(f, "{count}{unit}")?;
                nothing = false;
            }
        }
        if nothing { f.write_str("0m") } else { Ok(()) }
    }
}

impl FromStr for Period {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let span: jiff::Span = text.parse()?;
        let length = span.to_duration(SpanRelativeTo::days_are_24_hours())?;
        if length.is_negative() {
            return Err(jiff::Error::from_args(format_args!(
                "a length of time can't be negative: {text}"
            )));
        }
        Ok(Self(length.as_secs()))
    }
}

impl Serialize for Period {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 2, "maxLength": 16,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([1-9][0-9]{0,3}d)?([1-9][0-9]{0,4}h)?([1-9][0-9]{0,5}m)?$')",
                "message": "must be a length of time in days, hours and minutes, such as 90d, 36h, 15m or 1d12h",
            }],
        })
    }
}

/// The life of a token: a [`Period`] in hours and minutes, 15 minutes to 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenLifetime(pub Period);

impl TokenLifetime {
    /// In seconds.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.as_seconds()
    }
}

impl Default for TokenLifetime {
    fn default() -> Self {
        Self(Period::from_seconds(3_600))
    }
}

impl JsonSchema for TokenLifetime {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "TokenLifetime".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 2, "maxLength": 8,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([1-9][0-9]{0,1}h)?([1-9][0-9]{0,3}m)?$') && duration(self) >= duration('15m') && duration(self) <= duration('24h')",
                "message": "must be a length of time in hours and minutes from 15m to 24h, such as 1h or 1h30m",
            }],
        })
    }
}
