//! What waits in the file for one instance. It tells what is under way while no process works on the store.

use duroxide::providers::WorkItem;
use rusqlite::Connection;
use rusqlite::types::FromSql;

use crate::clock::now_ms;
use crate::error::Result;
use crate::live::{LiveState, QueuedActivity};
use crate::sqlite::read::query::{failed, unsigned};

const OPERATION: &str = "get_instance_info";

/// The activities and messages of an instance. The file does not tell which of them have leases.
pub fn live_state(connection: &Connection, id: &str) -> Result<LiveState> {
    const ACTIVITIES: &str = "SELECT a.data, a.attempts FROM instances i JOIN activities a ON a.instance = i.number \
         WHERE i.id = ? ORDER BY a.sequence";
    const MESSAGES: &str = "SELECT m.data, m.visible_ms FROM instances i JOIN messages m ON m.instance = i.number \
         WHERE i.id = ? ORDER BY m.sequence";
    let mut live = LiveState::default();
    for (item, attempts) in items::<u32>(connection, ACTIVITIES, id)? {
        if let WorkItem::ActivityExecute { execution_id, id, session_id, tag, .. } = item {
            live.activities.push(QueuedActivity {
                execution: execution_id,
                id,
                deliveries: attempts,
                tag,
                session: session_id,
                ..QueuedActivity::default()
            });
        }
    }
    let now = now_ms();
    for (item, visible_ms) in items::<i64>(connection, MESSAGES, id)? {
        if unsigned(visible_ms) <= now {
            live.add(&item);
        }
    }
    Ok(live)
}

fn items<T: FromSql>(connection: &Connection, sql: &'static str, id: &str) -> Result<Vec<(WorkItem, T)>> {
    let failed = failed(OPERATION);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let rows = statement.query_map([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, T>(1)?))).map_err(failed)?;
    let mut items = Vec::new();
    for row in rows {
        let (data, number) = row.map_err(failed)?;
        items.extend(serde_json::from_str(&data).ok().map(|item| (item, number)));
    }
    Ok(items)
}
