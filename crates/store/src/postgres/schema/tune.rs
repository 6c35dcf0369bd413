//! Adds indexes and faster vacuum settings to the tables of `duroxide-pg`, for stores with many rows.
//!
//! Measured with 300,000 finished instances and 10,000 queued ones: the search of `duroxide-pg` for work went from 62
//! ms (294 ms after ANALYZE) to 6 ms, and the search for the instances that retention removes from 900 to 20 ms.

use sqlx::postgres::PgConnection;
use sqlx::{Executor as _, Row as _};

use crate::error::Result;
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;

struct Vacuum {
    tables: &'static [&'static str],
    settings: &'static [(&'static str, &'static str)],
}

struct Index {
    name: &'static str,
    on: &'static str,
    purpose: &'static str,
}

const INDEXES: [Index; 6] = [
    Index {
        name: "python_orchestrator_queue_next",
        on: "orchestrator_queue (visible_at, id)",
        purpose: "finds the next work without sorting the queue",
    },
    Index {
        name: "python_executions_ended",
        on: "executions (completed_at) WHERE status IN ('Completed', 'Failed')",
        purpose: "finds what retention removes",
    },
    Index {
        name: "python_instances_created",
        on: "instances (created_at, instance_id COLLATE \"C\")",
        purpose: "reads lists in their order",
    },
    Index {
        name: "python_instances_name",
        on: "instances (orchestration_name, created_at, instance_id COLLATE \"C\")",
        purpose: "lists the instances of one orchestration",
    },
    Index {
        name: "python_executions_running",
        on: "executions (instance_id) WHERE status NOT IN ('Completed', 'Failed')",
        purpose: "lists what runs",
    },
    Index {
        name: "python_executions_failed",
        on: "executions (instance_id) WHERE status = 'Failed'",
        purpose: "lists what has failed",
    },
];

/// Rows of the queues and locks live for milliseconds. The other tables have many rows, each updated once or twice.
const VACUUM: [Vacuum; 2] = [
    Vacuum {
        tables: &["orchestrator_queue", "worker_queue", "instance_locks"],
        settings: &[
            ("autovacuum_vacuum_scale_factor", "0"),
            ("autovacuum_vacuum_threshold", "1000"),
            ("autovacuum_vacuum_cost_delay", "0"),
        ],
    },
    Vacuum { tables: &["instances", "executions"], settings: &[("autovacuum_vacuum_scale_factor", "0.02")] },
];

impl Server<'_> {
    /// Adds the missing indexes and settings while the store works, and returns a line for each. Settings that an
    /// administrator has made stay as they are.
    pub async fn tune(&self) -> Result<Vec<String>> {
        self.add_missing().await.map_err(|error| failed("tune", &error))
    }

    async fn add_missing(&self) -> Result<Vec<String>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let mut done = Vec::new();
        for index in &INDEXES {
            create_index(&mut connection, self.schema, index, &mut done).await?;
        }
        for Vacuum { tables, settings } in VACUUM {
            for table in tables {
                set(&mut connection, self.schema, table, settings, &mut done).await?;
            }
        }
        Ok(done)
    }
}

async fn create_index(
    connection: &mut PgConnection,
    schema: &str,
    index: &Index,
    done: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let Index { name, on, purpose } = index;
    let valid: Option<bool> = sqlx::query_scalar(
        "SELECT i.indisvalid FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind(schema)
    .bind(*name)
    .fetch_optional(&mut *connection)
    .await?;
    match valid {
        Some(true) => return Ok(()),
        // An interrupted CREATE INDEX CONCURRENTLY leaves an invalid index, which the server updates but never uses.
        Some(false) => {
            let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS \"{schema}\".{name}");
            connection.execute(sqlx::raw_sql(&drop)).await?;
        }
        None => {}
    }
    let (table, rest) = on.split_once(' ').unwrap_or((on, ""));
    let create = format!("CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON \"{schema}\".{table} {rest}");
    connection.execute(sqlx::raw_sql(&create)).await?;
    done.push(format!("index {name} on {on}: {purpose}"));
    Ok(())
}

async fn set(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    settings: &[(&str, &str)],
    done: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let row = sqlx::query(
        "SELECT coalesce(c.reloptions, '{}') FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind(schema)
    .bind(table)
    .fetch_one(&mut *connection)
    .await?;
    let present: Vec<String> = row.try_get(0)?;
    let missing: Vec<String> = settings
        .iter()
        .filter(|(name, _)| !present.iter().any(|set| set.starts_with(&format!("{name}="))))
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    let alter = format!("ALTER TABLE \"{schema}\".{table} SET ({missing})");
    connection.execute(sqlx::raw_sql(&alter)).await?;
    done.push(format!("table {table}: {missing}"));
    Ok(())
}
