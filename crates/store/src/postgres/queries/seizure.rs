//! Takes turns away from nodes, for terminations.

use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::WorkItem;
use duroxide::{Event, INITIAL_EXECUTION_ID};
use sqlx::PgConnection;

use crate::clock::span_ms;
use crate::error::Result;
use crate::failure::Failure;
use crate::operations::AdminOperations as _;
use crate::postgres::connect::session::begin;
use crate::postgres::errors::failed;
use crate::postgres::node::held_turns::NodeTurn;
use crate::postgres::queries::Server;
use crate::postgres::schema::function;
use crate::postgres::store::PostgresStore;
use crate::retry::{RetryLimit, RetryState};
use crate::retrying;
use crate::termination::{SEIZURE, SeizedTurn, SeizesTurns, TERMINATE};

const CONTINUED: &str = "ContinuedAsNew";

/// The pauses between two looks at a lease that a deletion or another termination holds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A seized turn, and what the commit of its end needs.
type Seized = (SeizedTurn, NodeTurn);

/// The result of one attempt to seize a turn.
enum Seizure {
    Seized(Box<Seized>),
    /// The instance has ended, or does not exist.
    HasEnded,
    /// A deletion or another termination has the lease. Two that took it from each other might never end.
    IsHeld,
}

/// The row of an instance and of its current execution.
struct CurrentExecution {
    execution: i64,
    created_us: i64,
    status: String,
}

impl Server<'_> {
    /// Takes the lease of an instance, also from a turn that runs, which can no longer commit then. `token` is unique to
    /// the attempt.
    async fn seize(&self, instance: &str, token: &str) -> Result<Seizure> {
        let failed = |error| failed(TERMINATE, &error);
        let mut transaction = begin(self.pool).await.map_err(failed)?;
        if !self.take_lease(&mut transaction, instance, token).await.map_err(failed)? {
            transaction.rollback().await.map_err(failed)?;
            return Ok(Seizure::IsHeld);
        }
        // These statements see what a turn has committed before its lease was taken.
        let current = self.current_execution(&mut transaction, instance).await.map_err(failed)?;
        let messages = self.messages(&mut transaction, instance).await.map_err(failed)?;
        let is_known = current.is_some() || messages.iter().any(|(_, item)| is_start(item.as_ref()));
        if !is_known || current.as_ref().is_some_and(|current| crate::history::is_last(&current.status)) {
            transaction.rollback().await.map_err(failed)?;
            return Ok(Seizure::HasEnded);
        }
        let mut events = Vec::new();
        if let Some(current) = &current {
            events = self.events(&mut transaction, instance, current.execution).await.map_err(failed)?;
        }
        let seized = seized(instance, token, current, messages, events)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Seizure::Seized(Box::new(seized)))
    }

    async fn take_lease(
        &self,
        connection: &mut PgConnection,
        instance: &str,
        token: &str,
    ) -> Result<bool, sqlx::Error> {
        let schema = self.schema;
        let statement = format!(
            "INSERT INTO \"{schema}\".instance_locks AS l (instance_id, lock_token, locked_until, locked_at) \
             SELECT $1, $2, now_ms + $3, now_ms FROM (SELECT {now_ms}() AS now_ms) AS clock \
             ON CONFLICT (instance_id) DO UPDATE SET lock_token = excluded.lock_token, \
             locked_until = excluded.locked_until, locked_at = excluded.locked_at \
             WHERE l.locked_until <= excluded.locked_at OR l.lock_token = excluded.lock_token \
             OR (l.lock_token NOT LIKE 'deletion.%' AND l.lock_token NOT LIKE 'termination.%')",
            now_ms = function(schema, "now_ms")
        );
        let statement = sqlx::query(&statement).bind(instance).bind(token).bind(span_ms(SEIZURE));
        Ok(statement.execute(connection).await?.rows_affected() > 0)
    }

    async fn current_execution(
        &self,
        connection: &mut PgConnection,
        instance: &str,
    ) -> Result<Option<CurrentExecution>, sqlx::Error> {
        let schema = self.schema;
        let row: Option<(i64, i64, String)> = sqlx::query_as(&format!(
            "SELECT i.current_execution_id, {in_us}(i.created_at), coalesce(e.status, 'Running') \
             FROM \"{schema}\".instances i LEFT JOIN \"{schema}\".executions e \
             ON e.instance_id = i.instance_id AND e.execution_id = i.current_execution_id WHERE i.instance_id = $1",
            in_us = function(schema, "in_us")
        ))
        .bind(instance)
        .fetch_optional(connection)
        .await?;
        Ok(row.map(|(execution, created_us, status)| CurrentExecution { execution, created_us, status }))
    }

    /// The messages of an instance in their order, with their rows. One that cannot be read has no text.
    async fn messages(
        &self,
        connection: &mut PgConnection,
        instance: &str,
    ) -> Result<Vec<(i64, Option<WorkItem>)>, sqlx::Error> {
        let schema = self.schema;
        let statement =
            format!("SELECT id, work_item FROM \"{schema}\".orchestrator_queue WHERE instance_id = $1 ORDER BY id");
        let rows: Vec<(i64, String)> = sqlx::query_as(&statement).bind(instance).fetch_all(connection).await?;
        Ok(rows.into_iter().map(|(id, item)| (id, serde_json::from_str(&item).ok())).collect())
    }

    async fn events(
        &self,
        connection: &mut PgConnection,
        instance: &str,
        execution: i64,
    ) -> Result<Vec<String>, sqlx::Error> {
        let schema = self.schema;
        let statement = format!(
            "SELECT event_data FROM \"{schema}\".history WHERE instance_id = $1 AND execution_id = $2 ORDER BY event_id"
        );
        sqlx::query_scalar(&statement).bind(instance).bind(execution).fetch_all(connection).await
    }
}

fn seized(
    instance: &str,
    token: &str,
    current: Option<CurrentExecution>,
    messages: Vec<(i64, Option<WorkItem>)>,
    events: Vec<String>,
) -> Result<Seized> {
    let mut turn = NodeTurn::of(instance.to_owned());
    let mut execution = INITIAL_EXECUTION_ID;
    let mut history = Vec::new();
    // Of several starts, the others stay: the engine answers a start of an instance that exists.
    let mut has_begun = current.is_some() && !events.is_empty();
    let mut beginning = None;
    let is_continued = current.as_ref().is_some_and(|current| current.status == CONTINUED);
    for (id, item) in messages {
        match item {
            Some(WorkItem::StartOrchestration { .. }) if std::mem::replace(&mut has_begun, true) => continue,
            Some(start @ WorkItem::StartOrchestration { .. }) => beginning = Some(start),
            Some(successor @ WorkItem::ContinueAsNew { .. }) if is_continued => beginning = Some(successor),
            _ => {}
        }
        turn.read.push(id);
    }
    if let Some(current) = current {
        turn.execution = current.execution;
        turn.created_us = Some(current.created_us);
        // An instance that was restarted has the number of the new execution already.
        let is_next = matches!(beginning, Some(WorkItem::ContinueAsNew { .. }));
        execution = current.execution.unsigned_abs() + u64::from(is_next);
        if beginning.is_none() {
            let read = |event: &String| serde_json::from_str::<Event>(event);
            let unreadable = |error| Failure::unreadable(TERMINATE, format!("an event cannot be read: {error}"));
            history = events.iter().map(read).collect::<Result<_, _>>().map_err(unreadable)?;
            turn.length = history.len();
        }
    }
    Ok((SeizedTurn { token: token.to_owned(), execution, history, beginning }, turn))
}

fn is_start(item: Option<&WorkItem>) -> bool {
    matches!(item, Some(WorkItem::StartOrchestration { .. }))
}

#[async_trait]
impl SeizesTurns for PostgresStore {
    async fn seize_turn(&self, instance: &str) -> Result<Option<SeizedTurn>> {
        let (server, moves) = (self.server(), &self.core.moves);
        let token = format!("termination.{}", self.core.token());
        let mut pause = SHORTEST_PAUSE;
        loop {
            let mut retry = RetryState::new(RetryLimit::Caller);
            let seize = || moves.answer(TERMINATE, server.seize(instance, &token));
            match retrying!(self.availability, TERMINATE, &mut retry, seize())? {
                Seizure::Seized(seized) => {
                    let (seized, turn) = *seized;
                    self.core.held.insert(&seized.token, turn);
                    return Ok(Some(seized));
                }
                Seizure::HasEnded => return Ok(None),
                Seizure::IsHeld => {
                    // Its lease ends, if not its work.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn all_children(&self, instance: &str) -> Result<Vec<String>> {
        let mut children = self.list_children(instance).await?;
        let waiting = self.core.moves.answer(TERMINATE, self.server().waiting_children(&[instance.to_owned()])).await?;
        children.extend(waiting);
        Ok(children)
    }
}
