//! The listener: it receives the notifications of other nodes on a dedicated connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use crate::events::StoreEvents;
use crate::postgres::node::state::NodeState;
use crate::postgres::notify::{Notification, channel};

const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Receives the notifications of other nodes, until it is aborted.
pub async fn listen(core: Arc<NodeState>, events: Arc<dyn StoreEvents>) {
    loop {
        let outcome = tokio::select! {
            biased;
            // The connection leads to the server that the store has left.
            () = core.moves.next() => Ok(()),
            outcome = receive(&core, events.as_ref()) => outcome,
        };
        core.is_listening.store(false, Ordering::Release);
        if let Err(error) = outcome {
            core.moves.doubt();
            tracing::debug!(target: "duroxide::store", "notifications are interrupted: {error}");
        }
        // Notifications may have been missed, so the poller looks for work, and all waits read their instances.
        core.hint_turns();
        core.hint_activities();
        events.changed(None);
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn receive(core: &NodeState, events: &dyn StoreEvents) -> Result<(), sqlx::Error> {
    let options = PgConnectOptions::clone(&core.pool.connect_options());
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&channel(&core.schema)).await?;
    core.is_listening.store(true, Ordering::Release);
    // A wait that read its instance before this may have missed a change.
    events.changed(None);
    while let Some(received) = listener.try_recv().await? {
        let notification: Notification = serde_json::from_str(received.payload()).unwrap_or_else(|_| Notification {
            // A payload of another form may come from a transaction of an application.
            turns: true,
            activities: true,
            all: true,
            ..Notification::default()
        });
        if notification.node == core.node {
            continue;
        }
        if notification.turns {
            core.hint_turns();
        }
        if notification.activities {
            core.hint_activities();
        }
        if notification.all {
            events.changed(None);
        }
        for instance in &notification.changed {
            events.changed(Some(instance));
        }
    }
    Ok(())
}
