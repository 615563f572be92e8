//! What must hold: the invariants by their numbers in the design, judged from the API server's objects alone.

use stateright::Property;
use wayleave::api::v1alpha1::ChildKind;
use wayleave::domain::lifetime;

use crate::objects::{Second, Word, instant};
use crate::replica::{Job, Replica};
use crate::world::{Bounds, World};

pub(crate) const APPROVED: &str = "I1 no access that was never approved";
pub(crate) const STAYS_CUT: &str = "I1 what was cut stays cut";
pub(crate) const CLOSED: &str = "I1 I2 I3 whoever has seen an end leaves no access";
pub(crate) const HARD_END: &str = "I2 no access after a hard end, whoever is down";
pub(crate) const BINDINGS_FIRST: &str = "I2 I3 bindings go before all else";
pub(crate) const NO_MORE: &str = "I4 never more than was granted";
pub(crate) const FOREIGN: &str = "I5 nothing foreign is touched";
pub(crate) const NO_ORPHAN: &str = "I6 a leader at rest leaves no credential of an access that ended";
pub(crate) const ONCE: &str = "I8 one generation is delivered once";
pub(crate) const NEW_NAMES: &str = "I8 no name comes back";
pub(crate) const JUST: &str = "the closing lane closes nothing that should stand";
pub(crate) const IN_PLACE: &str = "L3 a leader at rest has a working credential delivered";
pub(crate) const ENDS: &str = "L1 everything goes at last";

pub(crate) fn all() -> Vec<Property<Bounds>> {
    vec![
        Property::always(APPROVED, |bounds: &Bounds, world: &World| {
            let mut usable = world.server.usable(world.now(bounds));
            usable.all(|(token, role)| world.approved.contains(&(token.account.grant, role.variant)))
        }),
        Property::always(STAYS_CUT, |bounds: &Bounds, world: &World| {
            let mut usable = world.server.usable(world.now(bounds)).map(|(token, _)| token.account);
            !world.cut || usable.all(|account| world.excused.contains(&(account.grant, account.activation)))
        }),
        Property::always(CLOSED, |bounds: &Bounds, world: &World| {
            let has_seen = |replica: &Replica| is_closed(bounds, world, replica);
            !world.replicas.iter().any(has_seen) || !is_usable(bounds, world)
        }),
        Property::always(HARD_END, |bounds: &Bounds, world: &World| {
            let now = world.now(bounds);
            let mut usable = world.server.usable(now);
            usable.all(|(token, _)| token.until.is_none_or(|until| now <= until))
        }),
        Property::always(BINDINGS_FIRST, |bounds: &Bounds, world: &World| {
            let begun = world.replicas.iter().filter_map(|replica| match &replica.job {
                Some(Job::Close(taking)) if taking.begun => Some(&taking.bound),
                _ => None,
            });
            let bound: Vec<(u8, u8)> = begun.flatten().copied().collect();
            let mut usable = world.server.usable(world.now(bounds));
            usable.all(|(token, _)| !bound.contains(&(token.account.grant, token.account.activation)))
        }),
        Property::always(NO_MORE, |bounds: &Bounds, world: &World| {
            let most = |grant| {
                let of_grant = world.approved.iter().filter(move |it| it.0 == grant);
                of_grant.map(|it| it.1).max()
            };
            let mut usable = world.server.usable(world.now(bounds));
            usable.all(|(token, role)| Some(role.variant) <= most(token.account.grant))
        }),
        Property::always(FOREIGN, |_, world: &World| !world.server.foreign_touched),
        Property::always(NO_ORPHAN, |bounds: &Bounds, world: &World| {
            let at_rest = is_at_rest(bounds, world);
            let is_ours = |it: &&crate::objects::Child| !it.id.foreign;
            !at_rest || world.should_be(bounds) || !world.server.children.iter().any(|it| is_ours(&it))
        }),
        Property::always(ONCE, |_, world: &World| !world.server.delivered_twice),
        Property::always(NEW_NAMES, |_, world: &World| {
            let again = |it: &&crate::objects::Child| it.id.kind != ChildKind::DeliverySecret && it.id.again > 0;
            !world.server.children.iter().any(|it| again(&it))
        }),
        Property::always(JUST, |_, world: &World| !world.overdone),
        Property::always(IN_PLACE, |bounds: &Bounds, world: &World| {
            let now = world.now(bounds);
            let live = world.server.grant.as_ref().and_then(|grant| grant.status.live());
            // Towards the end nothing can be made any more that would end in time.
            let until = instant(bounds.terms.expires);
            let is_too_late = lifetime::ask(instant(now), until, 900, bounds.terms.hard).is_none();
            live.is_none() || is_too_late || !is_at_rest(bounds, world) || has_working_credential(world, now)
        }),
    ]
}

/// Checked along every way to its end.
pub(crate) fn ends() -> Property<Bounds> {
    Property::eventually(ENDS, has_come_to_an_end)
}

/// All is done that was to be done, nothing of ours is left, and status says so.
pub(crate) fn has_come_to_an_end(bounds: &Bounds, world: &World) -> bool {
    let ours = world.server.children.iter().filter(|it| !it.id.foreign).count();
    let is_final = world.server.grant.as_ref().is_none_or(|grant| {
        let status = grant.status.get();
        !grant.deleting && status.is_some_and(|it| it.identity.is_none() && it.children.is_empty())
    });
    world.is_over(bounds) && ours == 0 && is_final
}

pub(crate) fn is_usable(bounds: &Bounds, world: &World) -> bool {
    world.server.usable(world.now(bounds)).next().is_some()
}

/// Access has ended by something that anybody can see: not by what is missing.
fn has_ended(bounds: &Bounds, world: &World, replica: &Replica) -> bool {
    let Some(grant) = &world.server.grant else { return false };
    let latest = |no: bool| {
        let all = world.server.decisions.iter();
        all.filter(|it| (it.word != Word::Approve) == no).map(|it| it.at).max()
    };
    let is_denied = latest(true).is_some() && latest(true) >= latest(false);
    // One who was gone before it began to watch is not seen to go.
    let is_owner_gone = world.server.owner.is_none() && !replica.deleted_owners.is_empty();
    grant.deleting || grant.suspend || is_denied || is_owner_gone || world.now(bounds) >= bounds.terms.expires
}

/// A replica has seen that access has ended, and nothing is left for its closing lane.
fn is_closed(bounds: &Bounds, world: &World, replica: &Replica) -> bool {
    let closes = bounds.broken != Some(crate::Broken::LeaderCloses) || replica.leads;
    replica.up
        && replica.is_current()
        && (!closes || replica.due(bounds.terms, world.now(bounds)).is_empty())
        && has_ended(bounds, world, replica)
}

/// One leads alone, has seen everything, and has nothing left to do; nobody else is in the middle of anything.
pub(crate) fn is_at_rest(bounds: &Bounds, world: &World) -> bool {
    let now = world.now(bounds);
    let rests = |replica: &Replica| {
        replica.leads
            && replica.swept
            && replica.is_current()
            && replica.look(bounds.terms, now, bounds.broken).is_none()
    };
    let is_idle = |replica: &Replica| replica.job.is_none();
    let leading = world.replicas.iter().filter(|it| it.leads).count();
    leading == 1 && world.replicas.iter().all(is_idle) && world.replicas.iter().any(rests)
}

/// What the delivery Secret holds gives access, and goes on to.
fn has_working_credential(world: &World, now: Second) -> bool {
    let secrets = world.server.children.iter().filter(|it| !it.id.foreign);
    let mut held = secrets.filter_map(|it| it.holds);
    held.any(|token| {
        let token = &world.server.tokens[usize::from(token)];
        let anchored = world.server.children.iter().any(|it| it.id == token.anchor);
        anchored && now < token.expires && world.server.authorises(token).is_some()
    })
}
