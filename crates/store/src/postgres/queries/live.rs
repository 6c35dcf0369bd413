//! Queries for what is under way for one instance, and the reports of the nodes.
//!
//! The tables of `duroxide-pg` do not say which nodes there are. Each node with a runtime writes a report into an
//! additional table every few seconds, which is created with our functions. The token of every lease begins with the id
//! of its node.

use std::collections::HashMap;
use std::time::Duration;

use crate::error::Result;
use crate::live::{LeaseHolder, LiveState, NodeReport, QueuedActivity};
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;
use crate::postgres::schema::function;

const OPERATION: &str = "get_instance_info";
/// How often a node reports.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// A node without a report for that long has ended.
const LIFE_OF_REPORT: &str = "30 seconds";
/// How long the reports of nodes that were killed stay in the table.
const KEPT: &str = "1 hour";

type ActivityRow = (i64, i64, i32, i64, Option<String>, Option<String>, Option<String>, Option<String>, Option<i64>);

/// The node in the token of a lease that began at `since_ms`.
fn holder(token: &str, since_ms: Option<i64>) -> LeaseHolder {
    let node = token.split_once('.').map(|(node, _)| node.to_owned());
    LeaseHolder { node, since_ms: since_ms.and_then(|since_ms| u64::try_from(since_ms).ok()) }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

impl Server<'_> {
    /// What is under way for an instance, and the nodes that have reported lately.
    pub async fn live_state(&self, instance: &str) -> Result<LiveState> {
        let mut live = LiveState { activities: self.queued_activities(instance).await?, ..LiveState::default() };
        self.add_messages(instance, &mut live).await?;
        self.add_turn(instance, &mut live).await?;
        live.nodes = self.nodes().await?;
        Ok(live)
    }

    async fn queued_activities(&self, instance: &str) -> Result<Vec<QueuedActivity>> {
        let Self { pool, schema } = self;
        let (now_ms, in_ms) = (function(schema, "now_ms"), function(schema, "in_ms"));
        let rows: Vec<ActivityRow> = sqlx::query_as(&format!(
            "SELECT coalesce(w.execution_id, 1), coalesce(w.activity_id, 0), w.attempt_count, \
             {in_ms}(w.visible_at), w.tag, w.session_id, s.worker_id, \
             CASE WHEN w.locked_until > now.ms THEN w.lock_token END, NULL::bigint \
             FROM \"{schema}\".worker_queue w \
             CROSS JOIN (SELECT {now_ms}() AS ms) AS now \
             LEFT JOIN \"{schema}\".sessions s ON s.session_id = w.session_id AND s.locked_until > now.ms \
             WHERE w.instance_id = $1 ORDER BY w.id"
        ))
        .bind(instance)
        .fetch_all(*pool)
        .await
        .map_err(|error| failed(OPERATION, &error))?;
        Ok(rows
            .into_iter()
            .map(|(execution, id, attempts, available_ms, tag, session, session_worker, token, since_ms)| {
                QueuedActivity {
                    execution: unsigned(execution),
                    id: unsigned(id),
                    deliveries: u32::try_from(attempts).unwrap_or(0),
                    available_ms: Some(unsigned(available_ms)),
                    tag,
                    session,
                    session_worker,
                    lease: token.map(|token| holder(&token, since_ms)),
                }
            })
            .collect())
    }

    async fn add_messages(&self, instance: &str, live: &mut LiveState) -> Result<()> {
        let Self { pool, schema } = self;
        // The server may check the conditions in any order, and only these two kinds of messages have names.
        let rows: Vec<(bool, Option<String>)> = sqlx::query_as(&format!(
            "SELECT work_item LIKE '{{\"ExternalRaised\":%', \
             CASE WHEN work_item LIKE '{{\"ExternalRaised\":%' THEN work_item::json #>> '{{ExternalRaised,name}}'::text[] \
             WHEN work_item LIKE '{{\"QueueMessage\":%' THEN work_item::json #>> '{{QueueMessage,name}}'::text[] END \
             FROM \"{schema}\".orchestrator_queue WHERE instance_id = $1 ORDER BY id"
        ))
        .bind(instance)
        .fetch_all(*pool)
        .await
        .map_err(|error| failed(OPERATION, &error))?;
        for (is_event, name) in rows {
            if let Some(name) = name {
                live.add_message(is_event, &name);
            }
        }
        Ok(())
    }

    async fn add_turn(&self, instance: &str, live: &mut LiveState) -> Result<()> {
        let Self { pool, schema } = self;
        let (has_work, token, since_ms): (bool, Option<String>, Option<i64>) = sqlx::query_as(&format!(
            "SELECT EXISTS (SELECT 1 FROM \"{schema}\".orchestrator_queue WHERE instance_id = $1 \
             AND visible_at <= clock_timestamp()), l.lock_token, l.locked_at \
             FROM (SELECT 1) AS one LEFT JOIN \"{schema}\".instance_locks l ON l.instance_id = $1 \
             AND l.locked_until > {now_ms}()",
            now_ms = function(schema, "now_ms")
        ))
        .bind(instance)
        .fetch_one(*pool)
        .await
        .map_err(|error| failed(OPERATION, &error))?;
        live.has_work = has_work;
        live.turn = token.map(|token| holder(&token, since_ms));
        Ok(())
    }

    /// The nodes that have reported lately, with the numbers of their sessions.
    async fn nodes(&self) -> Result<Vec<NodeReport>> {
        let Self { pool, schema } = self;
        let reports: Vec<(String, i64)> = sqlx::query_as(&format!(
            "SELECT report, {in_ms}(seen) FROM \"{schema}\".python_nodes \
             WHERE seen > clock_timestamp() - interval '{LIFE_OF_REPORT}' ORDER BY node",
            in_ms = function(schema, "in_ms")
        ))
        .fetch_all(*pool)
        .await
        .map_err(|error| failed(OPERATION, &error))?;
        let mut nodes: Vec<NodeReport> = reports
            .into_iter()
            .filter_map(|(report, seen_ms)| {
                let report: NodeReport = serde_json::from_str(&report).ok()?;
                Some(NodeReport { seen_ms: unsigned(seen_ms), ..report })
            })
            .collect();
        let sessions = self.sessions_by_worker().await?;
        for runtime in nodes.iter_mut().flat_map(|node| &mut node.runtimes) {
            runtime.sessions = runtime.session_workers.iter().filter_map(|worker| sessions.get(worker)).sum();
        }
        Ok(nodes)
    }

    async fn sessions_by_worker(&self) -> Result<HashMap<String, usize>> {
        let Self { pool, schema } = self;
        let rows: Vec<(String, i64)> = sqlx::query_as(&format!(
            "SELECT worker_id, count(*) FROM \"{schema}\".sessions \
             WHERE locked_until > {now_ms}() GROUP BY worker_id",
            now_ms = function(schema, "now_ms")
        ))
        .fetch_all(*pool)
        .await
        .map_err(|error| failed(OPERATION, &error))?;
        Ok(rows.into_iter().map(|(worker, count)| (worker, usize::try_from(count).unwrap_or(0))).collect())
    }

    /// Stores the report of a node, and removes those of nodes that ended long ago.
    pub async fn report_node(&self, report: &NodeReport) -> Result<()> {
        let Self { pool, schema } = self;
        let text = serde_json::to_string(report).unwrap_or_default();
        sqlx::query(&format!(
            "WITH forgotten AS (DELETE FROM \"{schema}\".python_nodes \
             WHERE seen < clock_timestamp() - interval '{KEPT}' AND node <> $1) \
             INSERT INTO \"{schema}\".python_nodes VALUES ($1, clock_timestamp(), $2) \
             ON CONFLICT (node) DO UPDATE SET seen = EXCLUDED.seen, report = EXCLUDED.report"
        ))
        .bind(&report.id)
        .bind(&text)
        .execute(*pool)
        .await
        .map_err(|error| failed("report_node", &error))?;
        Ok(())
    }

    /// Removes the report of a node that ends.
    pub async fn forget_node(&self, node: &str) -> Result<()> {
        let Self { pool, schema } = self;
        sqlx::query(&format!("DELETE FROM \"{schema}\".python_nodes WHERE node = $1"))
            .bind(node)
            .execute(*pool)
            .await
            .map_err(|error| failed("report_node", &error))?;
        Ok(())
    }
}
