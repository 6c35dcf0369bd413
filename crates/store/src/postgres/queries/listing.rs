//! Pages of summaries, and counts by name and status.
//!
//! The order is that of the times at which instances were created, which is when their first turns were recorded. Those
//! whose starts no turn has read yet count as newer than all others. The ids of one time follow each other by bytes.
//!
//! The statistics of a table may be those of its emptiness, so the transaction of a page forbids the plans that read whole
//! tables or sort them. For a query that an index answers with few rows, the statement looks at these rows alone.

use std::collections::HashSet;

use duroxide::INITIAL_EXECUTION_ID;
use duroxide::providers::WorkItem;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Executor as _, Postgres, QueryBuilder, Row as _};

use crate::error::Result;
use crate::listing::{
    CANCELLED_END, InstanceCount, InstanceQuery, InstanceSummary, ListedStatus, PageRequest, Place, Span,
    TERMINATED_END, add_count, after_prefix,
};
use crate::postgres::connect::session::begin;
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;
use crate::postgres::schema::function;
use crate::start::WaitingStart;

const PLANS: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off; \
     SET LOCAL enable_mergejoin = off; SET LOCAL enable_sort = off; SET LOCAL jit = off";
/// So many rows are sorted within a few milliseconds.
const FEW: i64 = 2_000;
/// So many running instances are looked up rather than searched among those that have ended, which may be more.
const MANY: i64 = 200_000;
/// The places of waiting starts follow those of all other instances, which are times in µs.
const WAITING: i64 = 1 << 61;

/// The times in µs and ms at which a waiting start was sent, its instance, and the message.
type WaitingRow = (i64, i64, String, String);

impl Server<'_> {
    /// The summaries of a page, in its order; one more than its limit if there is another page.
    pub async fn page(&self, request: &PageRequest) -> Result<Vec<InstanceSummary>> {
        self.read_page(request).await.map_err(|error| failed("list", &error))
    }

    /// How many instances of each name have each status.
    pub async fn counts(&self, query: &InstanceQuery) -> Result<Vec<InstanceCount>> {
        self.read_counts(query).await.map_err(|error| failed("count", &error))
    }

    async fn read_page(&self, request: &PageRequest) -> Result<Vec<InstanceSummary>, sqlx::Error> {
        let limit = i64::from(request.limit) + 1;
        let mut transaction = begin(self.pool).await?;
        transaction.execute(sqlx::raw_sql(PLANS)).await?;
        // A start leaves the queue when its instance gets its row, so the queue is read first.
        let waiting = match &request.after {
            Some(after) if !request.is_oldest_first && after.at < WAITING => Vec::new(),
            _ if !request.query.wants_starting() => Vec::new(),
            after => self.waiting_page(&mut transaction, request, after.as_ref(), limit).await?,
        };
        let (begun_after, has_begun) = match &request.after {
            Some(after) if after.at >= WAITING => (None, !request.is_oldest_first),
            after => (after.as_ref(), true),
        };
        let begun = if has_begun && (request.is_oldest_first || (waiting.len() as i64) < limit) {
            self.begun_page(&mut transaction, request, begun_after, limit).await?
        } else {
            Vec::new()
        };
        transaction.commit().await?;
        let known: HashSet<String> = begun.iter().map(|summary| summary.id.clone()).collect();
        let waiting = waiting.into_iter().filter(|summary| !known.contains(&summary.id));
        let mut page: Vec<InstanceSummary> = if request.is_oldest_first {
            begun.into_iter().chain(waiting).collect()
        } else {
            waiting.chain(begun).collect()
        };
        page.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(page)
    }

    async fn waiting_page(
        &self,
        connection: &mut PgConnection,
        request: &PageRequest,
        after: Option<&Place>,
        limit: i64,
    ) -> Result<Vec<InstanceSummary>, sqlx::Error> {
        let schema = self.schema;
        let (microseconds, in_ms) = (function(schema, "in_us"), function(schema, "in_ms"));
        let mut sql = QueryBuilder::new(format!(
            "SELECT {microseconds}(q.created_at), {in_ms}(q.created_at), q.instance_id, q.work_item"
        ));
        self.push_waiting(&mut sql, &request.query);
        let after = after.filter(|after| after.at >= WAITING).map(|after| (after.at - WAITING, after.id.as_str()));
        push_order(&mut sql, "q", request.is_oldest_first, after, limit);
        let rows: Vec<WaitingRow> = sql.build_query_as().persistent(false).fetch_all(connection).await?;
        Ok(rows.into_iter().filter_map(starting).collect())
    }

    /// The tables and conditions for the starts that no turn has read yet and that fit `query`.
    fn push_waiting(&self, sql: &mut QueryBuilder<'_, Postgres>, query: &InstanceQuery) {
        let schema = self.schema;
        sql.push(format!(
            " FROM \"{schema}\".orchestrator_queue q WHERE q.work_item LIKE '{{\"StartOrchestration\":%' \
             AND NOT EXISTS (SELECT 1 FROM \"{schema}\".instances i WHERE i.instance_id = q.instance_id)"
        ));
        for (field, value) in [("orchestration", &query.name), ("parent_instance", &query.parent)] {
            let Some(value) = value else { continue };
            // The server may check the conditions in any order, and only a start is sure to be JSON.
            sql.push(format!(
                " AND CASE WHEN q.work_item LIKE '{{\"StartOrchestration\":%' \
                 THEN q.work_item::json #>> '{{StartOrchestration,{field}}}'::text[] END = "
            ));
            sql.push_bind(value.clone());
        }
        push_prefix(sql, "q.instance_id", query.id_prefix.as_deref());
        push_span(sql, "q.created_at", query.created);
    }

    async fn begun_page(
        &self,
        connection: &mut PgConnection,
        request: &PageRequest,
        after: Option<&Place>,
        limit: i64,
    ) -> Result<Vec<InstanceSummary>, sqlx::Error> {
        let schema = self.schema;
        let (microseconds, in_ms) = (function(schema, "in_us"), function(schema, "in_ms"));
        let mut sql = QueryBuilder::new(format!(
            "SELECT {microseconds}(i.created_at) AS created_us, i.instance_id AS id, i.orchestration_name AS name, \
             i.orchestration_version AS version, e.status AS status, {in_ms}(i.created_at) AS created_ms, \
             (SELECT {in_ms}(f.started_at) FROM \"{schema}\".executions f WHERE f.instance_id = i.instance_id \
             ORDER BY f.execution_id LIMIT 1) AS started_ms, \
             CASE WHEN e.status IN ('Completed', 'Failed') AND e.completed_at IS NOT NULL \
             THEN {in_ms}(e.completed_at) END AS ended_ms, i.custom_status AS custom_status, \
             i.parent_instance_id AS parent, i.current_execution_id AS execution, {mismatch} AS has_mismatch, \
             CASE WHEN e.status = 'Failed' THEN e.output END AS output, \
             CASE WHEN e.status = 'Failed' THEN {last_event} END AS last_event",
            mismatch = self.has_mismatch(),
            last_event = self.last_event(),
        ));
        let narrow = self.narrow(connection, &request.query).await?;
        self.push_begun(&mut sql, &request.query, narrow.as_ref());
        let after = after.map(|after| (after.at, after.id.as_str()));
        push_order(&mut sql, "i", request.is_oldest_first, after, limit);
        let rows = sql.build().persistent(false).fetch_all(connection).await?;
        rows.iter().map(begun).collect()
    }

    async fn read_counts(&self, query: &InstanceQuery) -> Result<Vec<InstanceCount>, sqlx::Error> {
        let mut transaction = begin(self.pool).await?;
        let mut counts = Vec::new();
        if query.wants_starting() {
            let mut sql = QueryBuilder::new(
                "SELECT q.work_item::json #>> '{StartOrchestration,orchestration}'::text[], \
                 pg_catalog.count(DISTINCT q.instance_id)",
            );
            self.push_waiting(&mut sql, query);
            sql.push(" GROUP BY 1");
            let rows: Vec<(String, i64)> = sql.build_query_as().persistent(false).fetch_all(&mut *transaction).await?;
            counts.extend(rows.into_iter().map(|(name, count)| InstanceCount {
                name,
                status: ListedStatus::Running,
                count: count.unsigned_abs(),
            }));
        }
        let narrow = self.narrow(&mut transaction, query).await?;
        let mut sql = QueryBuilder::new("SELECT i.orchestration_name, e.status, CASE WHEN e.status = 'Failed' THEN ");
        self.push_ends(&mut sql);
        sql.push(" ELSE 0 END, pg_catalog.count(*)");
        self.push_begun(&mut sql, query, narrow.as_ref());
        sql.push(" GROUP BY 1, 2, 3");
        let rows: Vec<(String, Option<String>, i32, i64)> =
            sql.build_query_as().persistent(false).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        for (name, status, ends, count) in rows {
            let status = ListedStatus::of_ends(status.as_deref(), ends);
            add_count(&mut counts, InstanceCount { name, status, count: count.unsigned_abs() });
        }
        Ok(counts)
    }

    fn has_mismatch(&self) -> String {
        let schema = self.schema;
        format!(
            "EXISTS (SELECT 1 FROM \"{schema}\".python_waiting w WHERE w.instance_id = i.instance_id \
             AND w.execution_id = i.current_execution_id AND e.status = 'Running' AND NOT EXISTS \
             (SELECT 1 FROM \"{schema}\".history h WHERE h.instance_id = w.instance_id \
             AND (h.execution_id, h.event_id) > (w.execution_id, w.last_event_id)))"
        )
    }

    fn last_event(&self) -> String {
        let schema = self.schema;
        format!(
            "(SELECT h.event_data FROM \"{schema}\".history h WHERE h.instance_id = i.instance_id \
             AND h.execution_id = i.current_execution_id ORDER BY h.event_id DESC LIMIT 1)"
        )
    }

    /// See [`ListedStatus::of_ends`].
    fn push_ends(&self, sql: &mut QueryBuilder<'_, Postgres>) {
        let last_event = self.last_event();
        sql.push(format!("CASE WHEN coalesce(strpos({last_event}, ")).push_bind(CANCELLED_END);
        sql.push(format!("), 0) = 0 THEN 0 WHEN strpos({last_event}, ")).push_bind(TERMINATED_END);
        sql.push(") = 0 THEN 1 ELSE 2 END");
    }

    /// The tables and conditions for the instances that have begun and that fit `query`.
    fn push_begun(&self, sql: &mut QueryBuilder<'_, Postgres>, query: &InstanceQuery, narrow: Option<&Narrow>) {
        let schema = self.schema;
        match narrow {
            None => {
                sql.push(format!(" FROM \"{schema}\".instances i"));
            }
            Some(narrow) => {
                sql.push(" FROM (");
                narrow.push(sql, schema);
                sql.push(format!(
                    " OFFSET 0) AS n CROSS JOIN LATERAL (SELECT * FROM \"{schema}\".instances x \
                     WHERE x.instance_id = n.instance_id OFFSET 0) AS i"
                ));
            }
        }
        sql.push(format!(
            " LEFT JOIN LATERAL (SELECT * FROM \"{schema}\".executions x \
             WHERE x.instance_id = i.instance_id AND x.execution_id = i.current_execution_id OFFSET 0) AS e ON true \
             WHERE true"
        ));
        self.push_statuses(sql, &query.statuses);
        if let Some(name) = &query.name {
            sql.push(" AND i.orchestration_name = ").push_bind(name.clone());
        }
        if let Some(version) = &query.version {
            sql.push(" AND i.orchestration_version = ").push_bind(version.clone());
        }
        if let Some(parent) = &query.parent {
            sql.push(" AND i.parent_instance_id = ").push_bind(parent.clone());
        }
        push_prefix(sql, "i.instance_id", query.id_prefix.as_deref());
        push_span(sql, "i.created_at", query.created);
        if query.ended != (None, None) {
            sql.push(" AND e.status IN ('Completed', 'Failed')");
            push_span(sql, "e.completed_at", query.ended);
        }
        if let Some(has_mismatch) = query.has_mismatch {
            sql.push(if has_mismatch { " AND " } else { " AND NOT " }).push(self.has_mismatch());
        }
    }

    fn push_statuses(&self, sql: &mut QueryBuilder<'_, Postgres>, statuses: &[ListedStatus]) {
        if statuses.is_empty() {
            return;
        }
        sql.push(" AND (false");
        for status in statuses {
            match status {
                ListedStatus::Running => {
                    sql.push(" OR e.status IS NULL OR e.status NOT IN ('Completed', 'Failed')");
                }
                ListedStatus::Completed => {
                    sql.push(" OR e.status = 'Completed'");
                }
                ListedStatus::Failed | ListedStatus::Cancelled | ListedStatus::Terminated => {
                    sql.push(" OR (e.status = 'Failed' AND ");
                    self.push_ends(sql);
                    sql.push(format!(" = {})", status.ends()));
                }
            }
        }
        sql.push(")");
    }

    /// The index that gives the fewest rows, if these are few.
    async fn narrow(
        &self,
        connection: &mut PgConnection,
        query: &InstanceQuery,
    ) -> Result<Option<Narrow>, sqlx::Error> {
        let mut candidates = Narrow::candidates(query);
        let tuned = candidates.iter().filter_map(Narrow::index).collect::<Vec<_>>();
        if !tuned.is_empty() {
            let present: Vec<String> = sqlx::query_scalar(
                "SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
                 ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname::text = ANY ($2)",
            )
            .bind(self.schema)
            .bind(tuned)
            .fetch_all(&mut *connection)
            .await?;
            candidates.retain(|one| one.index().is_none_or(|index| present.iter().any(|name| name == index)));
        }
        let mut narrow = None;
        let mut least = MANY + 1;
        for candidate in candidates {
            let most = candidate.most();
            let mut sql = QueryBuilder::new("SELECT pg_catalog.count(*) FROM (");
            candidate.push(&mut sql, self.schema);
            sql.push(" LIMIT ").push_bind(least.min(most + 1)).push(") AS few");
            let counted: i64 = sql.build_query_scalar().persistent(false).fetch_one(&mut *connection).await?;
            if counted < least && counted <= most {
                (least, narrow) = (counted, Some(candidate));
            }
        }
        Ok(narrow)
    }
}

/// A way to the ids of some instances, by one index.
enum Narrow {
    Name(String),
    Parent(String),
    Mismatched,
    Running,
    Failed,
    Ended(Span),
}

impl Narrow {
    /// The ways that fit `query`.
    fn candidates(query: &InstanceQuery) -> Vec<Self> {
        let mut candidates = Vec::new();
        candidates.extend(query.name.clone().map(Self::Name));
        candidates.extend(query.parent.clone().map(Self::Parent));
        if query.has_mismatch == Some(true) {
            candidates.push(Self::Mismatched);
        }
        if query.statuses == [ListedStatus::Running] {
            candidates.push(Self::Running);
        }
        if query.is_about_failures() {
            candidates.push(Self::Failed);
        }
        if query.ended != (None, None) {
            candidates.push(Self::Ended(query.ended));
        }
        candidates
    }

    /// The index of `tune` without which this way reads the whole table.
    fn index(&self) -> Option<&'static str> {
        match self {
            Self::Name(_) => Some("python_instances_name"),
            Self::Running => Some("python_executions_running"),
            Self::Failed => Some("python_executions_failed"),
            Self::Ended(_) => Some("python_executions_ended"),
            Self::Parent(_) | Self::Mismatched => None,
        }
    }

    /// The largest number of rows for which this way is better than the order of the page.
    fn most(&self) -> i64 {
        if matches!(self, Self::Running) { MANY } else { FEW }
    }

    fn push(&self, sql: &mut QueryBuilder<'_, Postgres>, schema: &str) {
        match self {
            Self::Name(name) => {
                sql.push(format!("SELECT n.instance_id FROM \"{schema}\".instances n WHERE n.orchestration_name = "))
                    .push_bind(name.clone());
            }
            Self::Parent(parent) => {
                sql.push(format!("SELECT n.instance_id FROM \"{schema}\".instances n WHERE n.parent_instance_id = "))
                    .push_bind(parent.clone());
            }
            Self::Mismatched => {
                sql.push(format!("SELECT n.instance_id FROM \"{schema}\".python_waiting n"));
            }
            Self::Running => {
                sql.push(format!(
                    "SELECT DISTINCT n.instance_id FROM \"{schema}\".executions n \
                     WHERE n.status NOT IN ('Completed', 'Failed')"
                ));
            }
            Self::Failed => {
                sql.push(format!(
                    "SELECT DISTINCT n.instance_id FROM \"{schema}\".executions n WHERE n.status = 'Failed'"
                ));
            }
            Self::Ended(span) => {
                sql.push(format!(
                    "SELECT DISTINCT n.instance_id FROM \"{schema}\".executions n \
                     WHERE n.status IN ('Completed', 'Failed')"
                ));
                push_span(sql, "n.completed_at", *span);
            }
        }
    }
}

/// The end of a statement that reads the rows of `table` by their times and ids: at most `limit` rows that follow the
/// place `after`, a time in µs and an id.
fn push_order(
    sql: &mut QueryBuilder<'_, Postgres>,
    table: &str,
    is_oldest_first: bool,
    after: Option<(i64, &str)>,
    limit: i64,
) {
    let (direction, comparison) = if is_oldest_first { ("ASC", ">") } else { ("DESC", "<") };
    if let Some((us, id)) = after {
        sql.push(format!(" AND ({table}.created_at, {table}.instance_id COLLATE \"C\") {comparison} ("));
        push_time(sql, us);
        sql.push(", ").push_bind(id.to_owned()).push(" COLLATE \"C\")");
    }
    sql.push(format!(" ORDER BY {table}.created_at {direction}, {table}.instance_id COLLATE \"C\" {direction} LIMIT "));
    sql.push_bind(limit);
}

/// A time that is given in µs since the epoch. The product is exact up to the year 2255.
fn push_time(sql: &mut QueryBuilder<'_, Postgres>, us: i64) {
    sql.push("'epoch'::timestamptz + ").push_bind(us).push("::float8 * interval '1 microsecond'");
}

fn push_span(sql: &mut QueryBuilder<'_, Postgres>, column: &str, (from, to): Span) {
    for (comparison, end) in [(">=", from), ("<", to)] {
        if let Some(end) = end {
            sql.push(format!(" AND {column} {comparison} "));
            push_time(sql, i64::try_from(end).unwrap_or(i64::MAX).saturating_mul(1_000));
        }
    }
}

fn push_prefix(sql: &mut QueryBuilder<'_, Postgres>, column: &str, prefix: Option<&str>) {
    let Some(prefix) = prefix else { return };
    sql.push(format!(" AND {column} COLLATE \"C\" >= ")).push_bind(prefix.to_owned());
    if let Some(end) = after_prefix(prefix) {
        sql.push(format!(" AND {column} COLLATE \"C\" < ")).push_bind(end);
    }
}

fn starting((at, created_ms, id, message): WaitingRow) -> Option<InstanceSummary> {
    let message = serde_json::from_str::<WorkItem>(&message).ok()?;
    let start = WaitingStart::of(message, created_ms.unsigned_abs(), 0)?;
    Some(InstanceSummary {
        place: Place { at: WAITING + at, id: id.clone() },
        id,
        name: start.orchestration,
        version: None,
        status: ListedStatus::Running,
        created_ms: start.requested_ms,
        started_ms: None,
        ended_ms: None,
        custom_status: None,
        last_event: None,
        output: None,
        parent: start.parent,
        executions: INITIAL_EXECUTION_ID,
        has_mismatch: false,
    })
}

fn begun(row: &PgRow) -> Result<InstanceSummary, sqlx::Error> {
    let id: String = row.try_get("id")?;
    let status: Option<String> = row.try_get("status")?;
    let last_event: Option<String> = row.try_get("last_event")?;
    let time = |column| row.try_get::<Option<i64>, _>(column).map(|time| time.map(i64::unsigned_abs));
    Ok(InstanceSummary {
        place: Place { at: row.try_get("created_us")?, id: id.clone() },
        id,
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        status: ListedStatus::of(status.as_deref(), last_event.as_deref()),
        created_ms: row.try_get::<i64, _>("created_ms")?.unsigned_abs(),
        started_ms: time("started_ms")?,
        ended_ms: time("ended_ms")?,
        custom_status: row.try_get("custom_status")?,
        last_event,
        output: row.try_get("output")?,
        parent: row.try_get("parent")?,
        executions: row.try_get::<i64, _>("execution")?.unsigned_abs(),
        has_mismatch: row.try_get("has_mismatch")?,
    })
}
