//! Publishes what happened as events; one that can't be published fails nothing. Does I/O.

use std::time::Duration;

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::api::names::FIELD_MANAGER;
use crate::plan::announcement::Announcement;

/// The longest that an event may keep a reconcile.
const DEADLINE: Duration = Duration::from_secs(5);

/// The one recorder: it folds what is repeated.
pub(crate) struct Events(Recorder);

impl Events {
    /// Publishes in the name of the replica `instance`.
    pub(crate) fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: (!instance.is_empty()).then(|| instance.to_owned()),
        };
        Self(Recorder::new(client, reporter))
    }

    /// Publishes an announcement about an object, if there is one.
    pub(crate) async fn announce(&self, object: &impl Resource<DynamicType = ()>, said: Option<Announcement>) {
        let Some(said) = said else { return };
        let event = Event {
            type_: if said.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: said.reason,
            note: Some(said.note),
            action: said.action,
            secondary: None,
        };
        let reference = object.object_ref(&());
        match tokio::time::timeout(DEADLINE, self.0.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, reason = event.reason, "an event could not be published"),
            Err(_) => tracing::warn!(
                reason = event.reason,
                "an event could not be published: no answer in time"
            ),
        }
    }
}
