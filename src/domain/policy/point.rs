//! One point that a grant is judged in: what is asked, what the grant has, whether that is enough, what to change. Pure.

use crate::domain::permission::Shown;

/// The most points of one list that are kept; what the schema lets through and people write stays far below.
pub const MOST_POINTS: usize = 256;

/// One point that a grant is judged in. Its texts hold nothing that could take over a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// A stable name: the field of the policy that asks, such as `limits.duration`; what every policy asks is called
    /// `grant.…`.
    pub name: &'static str,
    /// The field of the grant (or, where it says so, of its integration) that is judged.
    pub field: String,
    /// What is asked.
    pub asks: String,
    /// What the grant has.
    pub has: String,
    /// The policy that asks; none where every policy would.
    pub policy: Option<String>,
    /// Why the grant fails in it; none where it doesn't.
    pub refusal: Option<Refusal>,
}

/// Why a grant fails in a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In words for the requester: field, given, allowed.
    pub words: String,
    /// What to change.
    pub change: String,
}

impl Point {
    /// A point that holds.
    pub(super) fn holds(
        name: &'static str,
        field: impl Into<String>,
        has: impl Into<String>,
        asks: impl Into<String>,
    ) -> Self {
        Self {
            name,
            field: field.into(),
            asks: asks.into(),
            has: has.into(),
            policy: None,
            refusal: None,
        }
    }

    /// The same point, failing. The words stand after the field.
    pub(super) fn fails(mut self, words: impl std::fmt::Display, change: impl Into<String>) -> Self {
        self.refusal = Some(Refusal {
            words: format!("{}: {words}", self.field),
            change: change.into(),
        });
        self
    }

    /// The same point, failing where `fails` is true, in the words of what is had and asked.
    pub(super) fn fails_if(self, fails: bool, change: impl FnOnce() -> String) -> Self {
        if !fails {
            return self;
        }
        let words = format!("{}, {}", self.has, self.asks);
        self.fails(words, change())
    }

    /// The same point, asked by a policy.
    pub(super) fn by(mut self, policy: &str) -> Self {
        if let Some(refusal) = &mut self.refusal {
            refusal.words = format!("{} (policy {})", refusal.words, Shown(policy));
        }
        self.policy = Some(policy.to_owned());
        self
    }

    /// Whether the grant has what is asked.
    #[must_use]
    pub fn is_permitted(&self) -> bool {
        self.refusal.is_none()
    }
}

/// Points in the order in which they were judged, and how many were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// At most [`MOST_POINTS`]; where there are more, those that fail are kept first.
    pub listed: Vec<Point>,
    /// How many more there are.
    pub left_out: usize,
}

impl Points {
    /// Bounds a list.
    pub(super) fn of(mut points: Vec<Point>) -> Self {
        let left_out = points.len().saturating_sub(MOST_POINTS);
        // The last of those that hold go first.
        let mut room = left_out;
        for index in (0..points.len()).rev() {
            if room > 0 && points[index].is_permitted() {
                points.remove(index);
                room -= 1;
            }
        }
        points.truncate(MOST_POINTS);
        Self {
            listed: points,
            left_out,
        }
    }

    /// Whether the grant has all that is asked.
    #[must_use]
    pub fn are_permitted(&self) -> bool {
        // Those that fail are never left out for those that hold.
        self.listed.iter().all(Point::is_permitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_points_those_that_fail_are_kept_in_their_order() {
        let points = (0..MOST_POINTS * 2).map(|number| {
            Point::holds("a", "spec", number.to_string(), "").fails_if(number % 2 == 1, || "change".to_owned())
        });
        let bounded = Points::of(points.collect());
        assert_eq!((bounded.listed.len(), bounded.left_out), (MOST_POINTS, MOST_POINTS));
        assert!(bounded.listed.iter().all(|point| !point.is_permitted()));
        assert_eq!(
            (bounded.listed[0].has.as_str(), bounded.listed[1].has.as_str()),
            ("1", "3")
        );
        assert!(!bounded.are_permitted());
        let holding = |count: usize| {
            let points = (0..count).map(|number| Point::holds("a", "spec", number.to_string(), ""));
            Points::of(points.collect())
        };
        for (count, left_out) in [(MOST_POINTS, 0), (MOST_POINTS + 2, 2)] {
            let bounded = holding(count);
            assert_eq!((bounded.listed.len(), bounded.left_out), (MOST_POINTS, left_out));
            assert_eq!(bounded.listed[MOST_POINTS - 1].has, (MOST_POINTS - 1).to_string());
        }
    }

    #[test]
    fn the_words_of_a_refusal_hold_field_given_allowed_and_who_asks() {
        let point = Point::holds("limits.duration", "spec.expiresAt", "120d", "at most 90d");
        let point = point.fails_if(true, || "end it earlier".to_owned()).by("readers\u{1b}");
        let words = point.refusal.unwrap().words;
        assert_eq!(words, "spec.expiresAt: 120d, at most 90d (policy readers\\u{1b})");
    }
}
