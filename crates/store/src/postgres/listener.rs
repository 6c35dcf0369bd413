//! The listener: it receives the notifications of other nodes on a dedicated connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use crate::events::StoreEvents;
use crate::postgres::connect::session;
use crate::postgres::node::state::NodeState;
use crate::postgres::notify::{Heard, Hearing, Notification, channel};

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
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .after_connect(|connection, _| Box::pin(session::prepare(connection, true)))
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&channel(&core.schema)).await?;
    core.is_listening.store(true, Ordering::Release);
    // A wait that read its instance before this may have missed a change.
    events.changed(None);
    let hearing = Hearing::default();
    let look = |heard: Heard| {
        if heard.turns {
            core.hint_turns();
        }
        if heard.activities {
            core.hint_activities();
        }
        for instance in &heard.instances {
            events.changed(Some(instance));
        }
        for digest in &heard.digests {
            events.digest_changed(digest);
        }
    };
    tokio::select! {
        outcome = hear(core, &mut listener, &hearing) => outcome,
        () = hearing.follow(look, || events.changed(None)) => Ok(()),
    }
}

/// Takes in the notifications of other nodes, until the connection is lost.
async fn hear(core: &NodeState, listener: &mut PgListener, hearing: &Hearing) -> Result<(), sqlx::Error> {
    while let Some(received) = listener.try_recv().await? {
        let mut notification: Notification =
            serde_json::from_str(received.payload()).unwrap_or_else(|_| Notification {
                // A payload of another form may come from a transaction of an application.
                turns: true,
                activities: true,
                all: true,
                ..Notification::default()
            });
        if notification.node == core.node {
            continue;
        }
        if !core.notifier.has_key() {
            // The digests say nothing to this node.
            notification.all |= !notification.digests.is_empty();
            notification.digests.clear();
        }
        hearing.hear(notification);
    }
    Ok(())
}
