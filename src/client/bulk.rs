//! Many starts or messages in one call: all or none of them, in one transaction.

use duroxide::providers::WorkItem;

use crate::boundary::errors::{Error, InstanceAlreadyExists};
use crate::client::View;
use store::error::StoreError;
use store::start::{IfExists, StartOutcome, StartRequest};

/// Instance, orchestration, input, version.
pub(super) type StartTuple = (String, String, String, Option<String>);
/// Instance, name of the event or queue, data.
pub(super) type MessageTuple = (String, String, String);

pub(super) fn event((instance, name, data): MessageTuple) -> WorkItem {
    WorkItem::ExternalRaised { instance, name, data }
}

pub(super) fn queue_message((instance, name, data): MessageTuple) -> WorkItem {
    WorkItem::QueueMessage { instance, name, data }
}

impl View {
    /// For each request whether its instance was started; those that were not are attached to.
    pub(super) async fn start_all(&self, requests: Vec<StartTuple>, attach: bool) -> Result<Vec<bool>, Error> {
        let if_exists = if attach { IfExists::Attach } else { IfExists::Raise };
        let names: Vec<(String, String)> =
            requests.iter().map(|(instance, orchestration, ..)| (instance.clone(), orchestration.clone())).collect();
        let requests = requests
            .into_iter()
            .map(|(instance, orchestration, input, version)| StartRequest { instance, orchestration, input, version })
            .collect();
        match self.store.start_all(requests, if_exists).await {
            Ok(outcomes) => Ok(outcomes.into_iter().map(|outcome| outcome == StartOutcome::Started).collect()),
            Err(error) => Err(place_start(&names, attach, error)),
        }
    }

    pub(super) async fn send_all(
        &self,
        messages: Vec<MessageTuple>,
        message: fn(MessageTuple) -> WorkItem,
    ) -> Result<(), Error> {
        Ok(self.store.send(messages.into_iter().map(message).collect()).await?)
    }
}

/// Says which request met an instance that exists.
fn place_start(names: &[(String, String)], attach: bool, error: StoreError) -> Error {
    let StoreError::InstanceAlreadyExists { instance: taken, orchestration: existing } = &error else {
        return Error::Store(error);
    };
    let mut same = names.iter().enumerate().filter(|(_, (instance, _))| instance == taken);
    let position = if attach {
        same.find(|(_, (_, orchestration))| orchestration != existing)
    } else {
        // Of two requests for one id the second is refused, whatever the store has.
        let first = same.next();
        same.next().or(first)
    };
    let position = position.map_or(0, |(position, _)| position);
    Error::Python(InstanceAlreadyExists::new_err(format!("requests[{position}]: {error}; nothing was started")))
}
