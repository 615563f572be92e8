//! Runs a check, and says how much was visited and how long it took.
#![expect(clippy::disallowed_types, reason = "how long a check took")]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model as _};

use crate::Broken;
use crate::properties::has_come_to_an_end;
use crate::world::{Action, Bounds, World};

/// Whether the larger bounds are asked for.
#[expect(clippy::disallowed_methods, reason = "how much is tested is told by the environment")]
pub(crate) fn is_long() -> bool {
    std::env::var("WAYLEAVE_TEST_LONG").is_ok_and(|value| value == "1")
}

/// Visits every state, and holds each to everything that must hold.
pub(crate) fn check(bounds: Bounds) {
    let name = bounds.name;
    let begun = now();
    let checker = bounds.checker().threads(2).spawn_bfs().join();
    say(name, &checker, begun);
    checker.assert_properties();
}

/// Whether from every state the end can be reached without another crash or lost answer: there is no loop that nobody
/// gets out of. What is `eventually` so for stateright holds along ways that end; this is for those that don't.
pub(crate) fn can_always_end(bounds: &Bounds) -> bool {
    let mut numbers: HashMap<u64, usize> = HashMap::new();
    let mut worlds: VecDeque<World> = bounds.init_states().into();
    let mut before: Vec<Vec<u32>> = Vec::new();
    let mut good = Vec::new();
    for world in &worlds {
        numbers.insert(fingerprint(world), before.len());
        before.push(Vec::new());
    }
    let mut at = 0;
    while let Some(world) = worlds.pop_front() {
        if has_come_to_an_end(bounds, &world) {
            good.push(at);
        }
        let mut actions = Vec::new();
        bounds.actions(&world, &mut actions);
        for action in actions {
            let Some(next) = bounds.next_state(&world, action) else {
                continue;
            };
            let number = *numbers.entry(fingerprint(&next)).or_insert_with(|| {
                before.push(Vec::new());
                worlds.push_back(next);
                before.len() - 1
            });
            if !matches!(action, Action::Crash(_) | Action::StepUnheard(_)) {
                before[number].push(u32::try_from(at).unwrap());
            }
        }
        at += 1;
    }
    let mut ends = vec![false; before.len()];
    while let Some(number) = good.pop() {
        if !std::mem::replace(&mut ends[number], true) {
            good.extend(before[number].iter().map(|it| *it as usize));
        }
    }
    let stuck = ends.iter().filter(|ends| !**ends).count();
    eprintln!(
        "{}: {} states, of which {stuck} can't come to an end",
        bounds.name,
        ends.len()
    );
    stuck == 0
}

/// The broken operator is found out, by this property.
pub(crate) fn finds(broken: Broken, property: &'static str, bounds: Bounds) {
    let bounds = Bounds {
        name: property,
        broken: Some(broken),
        ..bounds
    };
    let begun = now();
    let enough = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = bounds.checker().threads(2).finish_when(enough).spawn_bfs().join();
    say(&format!("{broken:?}"), &checker, begun);
    let found = checker.discovery(property);
    let path = found.unwrap_or_else(|| panic!("{broken:?} is not found out by: {property}"));
    eprintln!("  {property}: {:?}", path.into_actions());
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn now() -> Instant {
    Instant::now()
}

fn say(name: &str, checker: &impl Checker<Bounds>, begun: Instant) {
    eprintln!(
        "{name}: {} states, {} unique, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
}
