//! Finds tables of an application that have the names of ours. The migrations leave a table alone that exists, and the
//! statements of the store would fail at it later.

use sqlx::{Executor as _, PgConnection, Row as _};

/// Our tables, each with the columns that it has had since its first version.
const TABLES: [(&str, &[&str]); 11] = [
    (
        "instances",
        &["instance_id", "orchestration_name", "orchestration_version", "current_execution_id", "updated_at"],
    ),
    ("executions", &["instance_id", "execution_id", "status", "output", "started_at", "completed_at"]),
    ("history", &["instance_id", "execution_id", "event_id", "event_type", "event_data"]),
    ("orchestrator_queue", &["id", "instance_id", "work_item", "visible_at", "lock_token", "locked_until"]),
    ("worker_queue", &["id", "work_item", "lock_token", "locked_until", "created_at"]),
    ("instance_locks", &["instance_id", "lock_token", "locked_until", "locked_at"]),
    ("sessions", &["session_id", "worker_id", "locked_until", "last_activity_at"]),
    ("kv_store", &["instance_id", "key", "value", "execution_id"]),
    ("kv_delta", &["instance_id", "key", "value", "last_updated_at_ms"]),
    ("python_waiting", &["instance_id", "execution_id", "last_event_id", "report"]),
    ("python_outboxes", &["outbox", "last"]),
];

/// A table that is not ours.
pub struct ApplicationTable {
    pub name: String,
    /// The first column of ours that it lacks.
    pub missing: String,
}

/// The first table in the schema that has the name of one of ours, and not its columns.
pub async fn find(connection: &mut PgConnection, schema: &str) -> Result<Option<ApplicationTable>, sqlx::Error> {
    let columns = TABLES.iter().flat_map(|(table, columns)| columns.iter().map(move |column| (table, column)));
    let expected: Vec<String> = columns.map(|(table, column)| format!("('{table}', '{column}')")).collect();
    // Not a prepared statement, since a pooler that the store has not detected yet may not support these. The schema is
    // made of letters, digits and underscores.
    let statement = format!(
        "SELECT expected.table_name, expected.column_name \
         FROM (VALUES {}) AS expected (table_name, column_name) \
         JOIN pg_catalog.pg_class c ON c.relname = expected.table_name \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = '{schema}' \
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid \
                           AND a.attname = expected.column_name AND NOT a.attisdropped) LIMIT 1",
        expected.join(", ")
    );
    let found = connection.fetch_optional(sqlx::raw_sql(&statement)).await?;
    found.map(|row| Ok(ApplicationTable { name: row.try_get(0)?, missing: row.try_get(1)? })).transpose()
}
