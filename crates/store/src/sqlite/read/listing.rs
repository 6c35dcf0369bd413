//! Pages of summaries, and counts by name and status.
//!
//! SQLite has no statistics here, so this file chooses the index. It counts what each index would give, up to
//! [`FEW`] rows. If one gives few, the query looks at these rows alone. Otherwise it reads the instances in the order of
//! the page and stops when the page is full. A plus before a column keeps SQLite from another index, whose rows it would
//! have to sort. A file that no runtime has opened with this version lacks some indexes; the answers are the same.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::error::Result;
use crate::listing::{
    CANCELLED_END, InstanceCount, InstanceQuery, InstanceSummary, ListedStatus, PageRequest, Place, Span,
    TERMINATED_END, add_count, after_prefix,
};
use crate::sqlite::read::query::{count, failed, signed, unsigned};
use crate::sqlite::read::starts::waiting_children;

const OPERATION: &str = "list";
/// So many rows are sorted within a millisecond or two.
const FEW: i64 = 2_000;

/// An instance that has begun, or whose start waits. Other rows stand for early messages alone.
const IS_KNOWN: &str = "(i.orchestration IS NOT NULL OR i.starting IS NOT NULL)";
/// The expression of the index `instances_by_name`.
const NAME: &str = "coalesce(i.orchestration, i.starting)";
/// See [`ListedStatus::of_ends`].
fn ends() -> String {
    const LAST_EVENT: &str =
        "(SELECT data FROM events WHERE instance = i.number AND execution = i.execution ORDER BY event DESC LIMIT 1)";
    format!(
        "CASE WHEN coalesce(instr({LAST_EVENT}, '{CANCELLED_END}'), 0) = 0 THEN 0 \
         WHEN instr({LAST_EVENT}, '{TERMINATED_END}') = 0 THEN 1 ELSE 2 END"
    )
}
/// Instances with their current executions.
const WITH_EXECUTION: &str =
    "instances i LEFT JOIN executions e ON e.instance = i.number AND e.execution = i.execution";
/// The same in the order of the instances, without any index.
const IN_ORDER: &str =
    "instances i NOT INDEXED LEFT JOIN executions e ON e.instance = i.number AND e.execution = i.execution";
/// The same for instances that have begun. A left join would let SQLite read the executions first.
const BEGUN_IN_ORDER: &str =
    "instances i NOT INDEXED CROSS JOIN executions e ON e.instance = i.number AND e.execution = i.execution";
/// The same for instances that have failed, in the order of the index `executions_failed`.
const FAILED: &str = "executions e CROSS JOIN instances i ON i.number = e.instance AND i.execution = e.execution";

/// Conditions of a statement, with the values of their parameters in order.
struct Conditions {
    /// The tables that the statement reads, and the column that has the number of the instance.
    tables: (&'static str, &'static str),
    texts: Vec<String>,
    values: Vec<Value>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { tables: (WITH_EXECUTION, "i.number"), texts: Vec::new(), values: Vec::new() }
    }
}

impl Conditions {
    fn add(&mut self, text: impl Into<String>, values: impl IntoIterator<Item = Value>) {
        self.texts.push(text.into());
        self.values.extend(values);
    }

    fn text(&self) -> String {
        if self.texts.is_empty() { "true".to_owned() } else { self.texts.join(" AND ") }
    }
}

/// The summaries of a page, in its order; one more than its limit if there is another page.
pub fn page(connection: &Connection, request: &PageRequest) -> Result<Vec<InstanceSummary>> {
    let (sql, values) = page_statement(connection, request)?;
    rows(connection, &sql, values, summary)
}

/// The statement that reads a page, with the values of its parameters.
fn page_statement(connection: &Connection, request: &PageRequest) -> Result<(String, Vec<Value>)> {
    let mut conditions = conditions(connection, &request.query)?;
    let (tables, place) = conditions.tables;
    let (direction, comparison) = if request.is_oldest_first { ("ASC", ">") } else { ("DESC", "<") };
    if let Some(after) = &request.after {
        conditions.add(format!("{place} {comparison} ?"), [Value::from(after.at)]);
    }
    conditions.values.push(Value::from(i64::from(request.limit) + 1));
    let sql = format!(
        "SELECT i.number, i.id, {NAME}, i.version, e.status, i.created_ms, \
         (SELECT started_ms FROM executions WHERE instance = i.number ORDER BY execution LIMIT 1), i.completed_ms, \
         i.custom_status, i.parent, i.execution, EXISTS (SELECT 1 FROM mismatches WHERE instance = i.number), \
         iif(e.status = 'Failed', e.output, NULL), \
         iif(e.status = 'Failed', (SELECT data FROM events WHERE instance = i.number AND execution = i.execution \
         ORDER BY event DESC LIMIT 1), NULL) \
         FROM {tables} WHERE {} ORDER BY {place} {direction} LIMIT ?",
        conditions.text()
    );
    Ok((sql, conditions.values))
}

/// How many instances of each name have each status.
pub fn counts(connection: &Connection, query: &InstanceQuery) -> Result<Vec<InstanceCount>> {
    let by_name_alone =
        InstanceQuery { name: query.name.clone(), statuses: query.statuses.clone(), ..Default::default() };
    if *query == by_name_alone {
        return counts_of_names(connection, query);
    }
    let conditions = conditions(connection, query)?;
    let sql = format!(
        "SELECT {NAME}, e.status, iif(e.status = 'Failed', {}, 0) AS ends, count(*) FROM {} WHERE {} GROUP BY 1, 2, 3",
        ends(),
        conditions.tables.0,
        conditions.text()
    );
    let counted = rows(connection, &sql, conditions.values, |row| {
        let status: Option<String> = row.get(1)?;
        Ok(InstanceCount {
            name: row.get(0)?,
            status: ListedStatus::of_ends(status.as_deref(), row.get(2)?),
            count: count(row, 3)?,
        })
    })?;
    let mut counts = Vec::new();
    for one in counted {
        add_count(&mut counts, one);
    }
    Ok(counts)
}

/// The same for a query by name and status alone. It reads the rows of what runs and what has failed, and of all others
/// the index of the names: they have completed.
fn counts_of_names(connection: &Connection, query: &InstanceQuery) -> Result<Vec<InstanceCount>> {
    let condition = if query.name.is_some() { format!("{NAME} = ?1") } else { format!("{NAME} IS NOT NULL") };
    let sql = format!(
        "SELECT {NAME}, 'All', count(*) FROM instances i WHERE {condition} GROUP BY 1 \
         UNION ALL SELECT +{NAME}, 'Running', count(*) FROM instances i \
         WHERE i.completed_ms IS NULL AND +{condition} GROUP BY 1 \
         UNION ALL SELECT {NAME}, CASE {ends} WHEN 0 THEN 'Failed' WHEN 1 THEN 'Cancelled' ELSE 'Terminated' END \
         AS status, count(*) FROM {FAILED} WHERE e.status = 'Failed' AND +{condition} GROUP BY 1, 2",
        ends = ends(),
    );
    let values = Vec::from_iter(query.name.clone().map(Value::from));
    let counted =
        rows(connection, &sql, values, |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, count(row, 2)?)))?;
    let mut counts = Vec::new();
    let of = |name: &str, status: &str| {
        let rows = counted.iter().filter(|(counted, of, _)| counted == name && of == status);
        rows.map(|(_, _, count)| count).sum::<u64>()
    };
    for (name, _, all) in counted.iter().filter(|(_, status, _)| status == "All") {
        let others = [ListedStatus::Running].into_iter().chain(ListedStatus::FAILURES);
        let mut by_status: Vec<_> = others.map(|status| (status, of(name, status.name()))).collect();
        let completed = all - by_status.iter().map(|(_, count)| count).sum::<u64>();
        by_status.push((ListedStatus::Completed, completed));
        for (status, count) in by_status {
            if count > 0 && query.wants(status) {
                counts.push(InstanceCount { name: name.clone(), status, count });
            }
        }
    }
    Ok(counts)
}

fn conditions(connection: &Connection, query: &InstanceQuery) -> Result<Conditions> {
    let mut conditions = Conditions::default();
    let narrow = narrow(connection, query)?;
    conditions.add(IS_KNOWN, []);
    add_statuses(&mut conditions, &query.statuses);
    if let Some(name) = &query.name {
        // Of a name, most instances have ended.
        let plus = if query.statuses == [ListedStatus::Running] { "+" } else { "" };
        conditions.add(format!("{plus}{NAME} = ?"), [Value::from(name.clone())]);
    }
    if let Some(version) = &query.version {
        conditions.add("i.version = ?", [Value::from(version.clone())]);
    }
    if let Some(prefix) = &query.id_prefix {
        add_prefix(&mut conditions, "+i.id", prefix);
    }
    if let Some(parent) = &query.parent {
        // A child gets its parent with its first turn. Before that, its start has it.
        let waiting = waiting_children(connection, std::slice::from_ref(parent))?;
        let waiting = serde_json::Value::from(waiting).to_string();
        conditions.add(
            "(i.parent = ? OR i.id IN (SELECT value FROM json_each(?)))",
            [Value::from(parent.clone()), Value::from(waiting)],
        );
    }
    add_span(&mut conditions, "i.created_ms", query.created);
    add_span(&mut conditions, "+i.completed_ms", query.ended);
    if let Some(has_mismatch) = query.has_mismatch {
        let exists = "EXISTS (SELECT 1 FROM mismatches WHERE instance = i.number)";
        conditions.add(if has_mismatch { exists.to_owned() } else { format!("NOT {exists}") }, []);
    }
    match narrow {
        Some(narrow) => conditions.add(format!("i.number IN ({})", narrow.sql), narrow.values),
        None if query.is_about_failures() => conditions.tables = (FAILED, "e.instance"),
        // The index of the names and that of what runs have the order of the instances, too.
        None if query.name.is_some() || query.parent.is_some() || query.statuses == [ListedStatus::Running] => {}
        None if query.wants(ListedStatus::Running) => conditions.tables = (IN_ORDER, "i.number"),
        None => conditions.tables = (BEGUN_IN_ORDER, "i.number"),
    }
    Ok(conditions)
}

fn add_statuses(conditions: &mut Conditions, statuses: &[ListedStatus]) {
    if statuses.is_empty() {
        return;
    }
    let wants = |status| statuses.contains(&status);
    let mut texts = Vec::new();
    if wants(ListedStatus::Running) {
        // The index `instances_running` has this condition.
        texts.push("i.completed_ms IS NULL".to_owned());
    }
    if wants(ListedStatus::Completed) {
        texts.push("e.status = 'Completed'".to_owned());
    }
    let failures: Vec<_> = ListedStatus::FAILURES.into_iter().filter(|status| wants(*status)).collect();
    if failures.len() == ListedStatus::FAILURES.len() {
        texts.push("e.status = 'Failed'".to_owned());
    } else if !failures.is_empty() {
        let wanted: Vec<_> = failures.into_iter().map(|status| status.ends().to_string()).collect();
        texts.push(format!("(e.status = 'Failed' AND {} IN ({}))", ends(), wanted.join(", ")));
    }
    conditions.add(format!("({})", texts.join(" OR ")), []);
}

fn add_prefix(conditions: &mut Conditions, column: &str, prefix: &str) {
    conditions.add(format!("{column} >= ?"), [Value::from(prefix.to_owned())]);
    if let Some(end) = after_prefix(prefix) {
        conditions.add(format!("{column} < ?"), [Value::from(end)]);
    }
}

fn add_span(conditions: &mut Conditions, column: &str, (from, to): Span) {
    if let Some(from) = from {
        conditions.add(format!("{column} >= ?"), [Value::from(signed(from))]);
    }
    if let Some(to) = to {
        conditions.add(format!("{column} < ?"), [Value::from(signed(to))]);
    }
}

/// A query for the numbers of some instances, by one index.
struct Narrow {
    sql: String,
    values: Vec<Value>,
}

/// The index that gives the fewest rows, if these are few.
fn narrow(connection: &Connection, query: &InstanceQuery) -> Result<Option<Narrow>> {
    let mut narrow = None;
    let mut least = FEW + 1;
    for candidate in candidates(query) {
        let sql = format!("SELECT count(*) FROM ({} LIMIT {least})", candidate.sql);
        let counted = rows(connection, &sql, candidate.values.clone(), |row| row.get::<_, i64>(0))?;
        let counted = counted.first().copied().unwrap_or(0);
        if counted < least {
            (least, narrow) = (counted, Some(candidate));
        }
    }
    Ok(narrow)
}

/// What each index that fits the query would give.
fn candidates(query: &InstanceQuery) -> Vec<Narrow> {
    let mut candidates = Vec::new();
    let mut add = |conditions: Conditions| {
        let sql = format!("SELECT i.number FROM instances i WHERE {}", conditions.text());
        candidates.push(Narrow { sql, values: conditions.values });
    };
    if let Some(name) = &query.name {
        let mut by_name = Conditions::default();
        by_name.add(format!("{NAME} = ?"), [Value::from(name.clone())]);
        add(by_name);
    }
    if let Some(prefix) = &query.id_prefix {
        let mut by_id = Conditions::default();
        add_prefix(&mut by_id, "i.id", prefix);
        add(by_id);
    }
    if query.ended != (None, None) {
        let mut by_end = Conditions::default();
        add_span(&mut by_end, "i.completed_ms", query.ended);
        add(by_end);
    }
    if query.statuses == [ListedStatus::Running] {
        let mut running = Conditions::default();
        running.add("i.completed_ms IS NULL", []);
        add(running);
    }
    let mut add_other = |sql: &str| candidates.push(Narrow { sql: sql.to_owned(), values: Vec::new() });
    if query.has_mismatch == Some(true) {
        add_other("SELECT instance FROM mismatches");
    }
    if query.is_about_failures() {
        add_other("SELECT instance FROM executions WHERE status = 'Failed'");
    }
    candidates
}

fn summary(row: &Row<'_>) -> rusqlite::Result<InstanceSummary> {
    let number: i64 = row.get(0)?;
    let id: String = row.get(1)?;
    let recorded: Option<String> = row.get(4)?;
    let last_event: Option<String> = row.get(13)?;
    Ok(InstanceSummary {
        place: Place { at: number, id: id.clone() },
        id,
        name: row.get(2)?,
        version: row.get(3)?,
        status: ListedStatus::of(recorded.as_deref(), last_event.as_deref()),
        created_ms: count(row, 5)?,
        started_ms: row.get::<_, Option<i64>>(6)?.map(unsigned),
        ended_ms: row.get::<_, Option<i64>>(7)?.map(unsigned),
        custom_status: row.get(8)?,
        parent: row.get(9)?,
        executions: count(row, 10)?,
        has_mismatch: row.get(11)?,
        output: row.get(12)?,
        last_event,
    })
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    values: Vec<Value>,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let failed = failed(OPERATION);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let rows = statement.query_map(params_from_iter(values), read).map_err(failed)?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::testing::{Folder, create_store};

    /// A store in which each condition that an index answers gives more than [`FEW`] instances.
    fn large_store(folder: &Folder, analyzed_while_empty: bool) -> Connection {
        let connection = create_store(&folder.join("store.db"));
        if analyzed_while_empty {
            connection.execute_batch("ANALYZE").unwrap();
        }
        connection
            .execute_batch(
                "CREATE TEMP TABLE numbers AS WITH RECURSIVE counting(n) AS \
                 (SELECT 1 UNION ALL SELECT n + 1 FROM counting WHERE n < 9000) SELECT n FROM counting; \
                 INSERT INTO instances(number, id, orchestration, version, created_ms, completed_ms) \
                 SELECT n, 'order-' || n, 'order', '1', n, iif(n % 3 = 0, NULL, n) FROM numbers; \
                 INSERT INTO executions(instance, execution, status, started_ms) \
                 SELECT n, 1, iif(n % 3 = 0, 'Running', iif(n % 3 = 1, 'Completed', 'Failed')), n FROM numbers;",
            )
            .unwrap();
        connection
    }

    fn plan(connection: &Connection, request: &PageRequest) -> String {
        let (sql, values) = page_statement(connection, request).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        lines.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("\n")
    }

    #[test]
    fn a_page_of_a_large_store_is_read_in_its_order_whatever_the_statistics_say() {
        let queries = [
            InstanceQuery::default(),
            InstanceQuery { statuses: vec![ListedStatus::Running], ..Default::default() },
            InstanceQuery { statuses: vec![ListedStatus::Completed], ..Default::default() },
            InstanceQuery { statuses: vec![ListedStatus::Failed], ..Default::default() },
            InstanceQuery { statuses: vec![ListedStatus::Failed, ListedStatus::Cancelled], ..Default::default() },
            InstanceQuery { name: Some("order".to_owned()), ..Default::default() },
            InstanceQuery {
                name: Some("order".to_owned()),
                statuses: vec![ListedStatus::Completed],
                ..Default::default()
            },
            InstanceQuery {
                name: Some("order".to_owned()),
                statuses: vec![ListedStatus::Running],
                ..Default::default()
            },
            InstanceQuery { id_prefix: Some("order-".to_owned()), ..Default::default() },
            InstanceQuery { ended: (Some(1), None), statuses: vec![ListedStatus::Completed], ..Default::default() },
        ];
        for analyzed_while_empty in [false, true] {
            let folder = Folder::new();
            let connection = large_store(&folder, analyzed_while_empty);
            for query in &queries {
                for (is_oldest_first, after) in [(false, None), (true, Some(5_000))] {
                    let after = after.map(|at| Place { at, id: String::new() });
                    let request = PageRequest { query: query.clone(), is_oldest_first, limit: 10, after };

                    let plan = plan(&connection, &request);

                    assert!(!plan.contains("FOR ORDER BY"), "{request:?} sorts its rows:\n{plan}");
                }
            }
        }
    }

    #[test]
    fn a_page_looks_only_at_the_rows_of_an_index_that_has_few() {
        let folder = Folder::new();
        let connection = large_store(&folder, false);
        let by_id = InstanceQuery { id_prefix: Some("order-899".to_owned()), ..Default::default() };
        let request = PageRequest { query: by_id, is_oldest_first: false, limit: 100, after: None };

        let plan = plan(&connection, &request);
        let ids: Vec<String> = page(&connection, &request).unwrap().into_iter().map(|summary| summary.id).collect();

        assert!(plan.contains("id>? AND id<?"), "it does not use the index of the ids:\n{plan}");
        assert_eq!(ids.len(), 11);
        assert_eq!((ids[0].as_str(), ids[10].as_str()), ("order-8999", "order-899"));
    }
}
