//! Finds the rights that a role lacks for the work of a node.

use sqlx::PgPool;

use crate::postgres::connect::session::begin;
use crate::postgres::schema::VERSION;

/// The tables that a node reads and writes.
pub const TABLES: [&str; 13] = [
    "instances",
    "executions",
    "history",
    "orchestrator_queue",
    "worker_queue",
    "instance_locks",
    "sessions",
    "kv_store",
    "kv_delta",
    "python_waiting",
    "python_outboxes",
    "python_nodes",
    "python_start_locks",
];

/// The tables that a node only reads.
pub const READ_ONLY: [&str; 2] = ["_duroxide_migrations", "python_secrets"];

/// The statements that give the present role the rights that it lacks; empty if it has all of them.
pub async fn missing(pool: &PgPool, schema: &str) -> Result<Vec<String>, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    sqlx::query_scalar(
        "WITH tables AS (SELECT c.oid, c.relname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = ANY ($2 || $4) AND c.relkind IN ('r', 'p')) \
         SELECT format('GRANT %s ON %I.%I TO %I', string_agg(kind, ', ' ORDER BY place), $1, relname, current_user) \
         FROM tables, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS kinds (kind, place) \
         WHERE NOT has_table_privilege(oid, kind) AND (kind = 'SELECT' OR relname <> ALL ($4)) GROUP BY relname \
         UNION ALL \
         SELECT format('GRANT USAGE ON SEQUENCE %I.%I TO %I', $1, s.relname, current_user) \
         FROM tables JOIN pg_catalog.pg_depend d ON d.refobjid = tables.oid AND d.deptype IN ('a', 'i') \
         JOIN pg_catalog.pg_class s ON s.oid = d.objid AND d.classid = 'pg_class'::regclass \
         WHERE CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE, UPDATE') END \
         UNION ALL \
         SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, current_user) \
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         WHERE (n.nspname = $1 AND p.proname LIKE 'python\\_%\\_' || $3 \
                OR n.nspname = 'pg_catalog' AND p.proname = 'pg_control_checkpoint') \
         AND NOT has_function_privilege(p.oid, 'EXECUTE') \
         UNION ALL \
         SELECT format('CREATE POLICY duroxide ON %I.%I TO %I USING (true)', $1, relname, current_user) FROM tables \
         WHERE row_security_active(oid) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy policy WHERE policy.polrelid = tables.oid)",
    )
    .bind(schema)
    .bind(TABLES)
    .bind(VERSION.as_str())
    .bind(READ_ONLY)
    .fetch_all(&mut *transaction)
    .await
}
