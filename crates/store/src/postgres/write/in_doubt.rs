//! Finds out whether the server made a commit whose answer was lost.

use sqlx::PgConnection;

/// The number of a transaction, and the last checkpoint when the transaction ran.
///
/// After a crash, the server may have lost a transaction that it had not flushed, and may give its number to another
/// one. Each crash is followed by a checkpoint, so a number counts only until the next checkpoint. A replica that was
/// promoted may lack the transaction, too, and has no new checkpoint at first. It has a new timeline, so a number counts
/// only if the last checkpoint is of the timeline in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitMark {
    pub transaction: i64,
    pub checkpoint: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    UnderWay,
    Made,
    NotMade,
    /// The server may have given the number to another transaction.
    Unknown,
}

/// Asks the server for the outcome. Where the server cannot know it, this looks in the tables for the messages in
/// `items` and the instances in `starts`, which the transaction sent and started.
pub async fn commit_outcome(
    connection: &mut PgConnection,
    schema: &str,
    mark: CommitMark,
    starts: &[String],
    items: &[String],
) -> Result<CommitOutcome, sqlx::Error> {
    let asked = sqlx::query_as::<_, (Option<String>, i64, Option<bool>)>(
        "SELECT CASE WHEN NOT pg_is_in_recovery() THEN txid_status($1) END, (checkpoint_lsn - '0/0')::bigint, \
         CASE WHEN NOT pg_is_in_recovery() \
         THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) = lpad(upper(to_hex(timeline_id)), 8, '0') END \
         FROM pg_control_checkpoint()",
    );
    let (status, checkpoint, is_of_this_timeline) = match asked.bind(mark.transaction).fetch_one(&mut *connection).await
    {
        Ok(answer) => answer,
        // The number lies in the future of this server, so it lost the transaction.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("22023") => {
            return Ok(CommitOutcome::NotMade);
        }
        Err(error) => return Err(error),
    };
    // A replica may get the transaction yet.
    let Some(is_of_this_timeline) = is_of_this_timeline else { return Ok(CommitOutcome::UnderWay) };
    match status.as_deref() {
        Some("in progress") => return Ok(CommitOutcome::UnderWay),
        Some("committed") if checkpoint == mark.checkpoint && is_of_this_timeline => return Ok(CommitOutcome::Made),
        Some("committed") => {}
        _ => return Ok(CommitOutcome::NotMade),
    }
    let found: bool = sqlx::query_scalar(&format!(
        "SELECT EXISTS (SELECT FROM \"{schema}\".orchestrator_queue WHERE work_item = ANY ($2) \
         AND created_at > now() - interval '1 hour') \
         OR EXISTS (SELECT FROM \"{schema}\".instances WHERE instance_id = ANY ($1))"
    ))
    .bind(starts)
    .bind(items)
    .fetch_one(connection)
    .await?;
    Ok(match found {
        true => CommitOutcome::Made,
        // The instances did not exist before the transaction, and do not exist now.
        false if !starts.is_empty() => CommitOutcome::NotMade,
        false => CommitOutcome::Unknown,
    })
}
