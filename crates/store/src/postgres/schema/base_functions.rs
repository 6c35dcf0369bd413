//! Gives the functions of `duroxide-pg` a `search_path` of their own.
//!
//! They are created without one, so the server would look for their operators in the `search_path` of the session. An
//! operator of another role, in a schema where that role may create, would run with the rights of the node. All names
//! of tables in these functions have their schema, so they need no other `search_path` than that of our functions.

use sqlx::PgExecutor;

/// The functions of `duroxide-pg`.
pub const NAMES: [&str; 36] = [
    "abandon_orchestration_item",
    "abandon_work_item",
    "ack_orchestration",
    "ack_orchestration_item",
    "ack_worker",
    "append_history",
    "cleanup_orphaned_sessions",
    "cleanup_schema",
    "delete_instances_atomic",
    "enqueue_completion",
    "enqueue_message",
    "enqueue_orchestration_work",
    "enqueue_orchestrator_work",
    "enqueue_worker_work",
    "fetch_history",
    "fetch_history_with_execution",
    "fetch_orchestration_item",
    "fetch_work_item",
    "get_custom_status",
    "get_execution_info",
    "get_instance_info",
    "get_instance_stats",
    "get_kv_all_values",
    "get_kv_value",
    "get_parent_id",
    "get_queue_depths",
    "get_system_metrics",
    "latest_execution_id",
    "list_children",
    "list_executions",
    "list_instances",
    "list_instances_by_status",
    "prune_executions",
    "renew_orchestration_item_lock",
    "renew_session_lock",
    "renew_work_item_lock",
];

/// The statements that give a `search_path` to the functions that have none; empty if all have one. A migration of
/// `duroxide-pg` that replaces a function takes it away.
pub async fn unprotected(connection: impl PgExecutor<'_>, schema: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT 'ALTER FUNCTION ' || p.oid::pg_catalog.regprocedure::text || ' SET search_path = pg_catalog, pg_temp' \
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = $1 AND p.proname = ANY ($2) AND p.prokind = 'f' AND p.prosrc LIKE '%' || $1 || '.%' AND NOT EXISTS (\
         SELECT FROM pg_catalog.unnest(p.proconfig) AS setting WHERE setting LIKE 'search\\_path=%')",
    )
    .bind(schema)
    .bind(NAMES)
    .fetch_all(connection)
    .await
}
