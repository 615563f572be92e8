//! Publishes what happened as events; one that can't be published fails nothing. Does I/O.

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::api::names::FIELD_MANAGER;
use crate::plan::announcement::Announcement;

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
        if let Err(error) = self.0.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(%error, reason = event.reason, "an event could not be published");
        }
    }
}
