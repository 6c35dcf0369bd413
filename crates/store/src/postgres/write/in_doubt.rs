//! What became of a transaction whose commit the server did not answer.

use sqlx::PgConnection;

/// The number of a transaction, and the last checkpoint when it was made.
///
/// A server that crashes may forget a transaction that it had not flushed, and give its number to another one. After a crash there
/// is another checkpoint, so a number counts only as long as there is none.
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
    /// The number may be that of another transaction by now.
    Unknown,
}

/// Asks the server, and, where it cannot know, the tables: the transaction has sent these messages and started these instances.
pub async fn fate(
    connection: &mut PgConnection,
    schema: &str,
    mark: CommitMark,
    starts: &[String],
    items: &[String],
) -> Result<CommitOutcome, sqlx::Error> {
    let asked = sqlx::query_as::<_, (Option<String>, i64)>(
        "SELECT txid_status($1), (checkpoint_lsn - '0/0')::bigint FROM pg_control_checkpoint()",
    );
    let (status, checkpoint) = match asked.bind(mark.transaction).fetch_one(&mut *connection).await {
        Ok(answer) => answer,
        // So late a transaction this server has never made.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("22023") => {
            return Ok(CommitOutcome::NotMade);
        }
        Err(error) => return Err(error),
    };
    match status.as_deref() {
        Some("in progress") => return Ok(CommitOutcome::UnderWay),
        Some("committed") if checkpoint == mark.checkpoint => return Ok(CommitOutcome::Made),
        Some("committed") => {}
        _ => return Ok(CommitOutcome::NotMade),
    }
    let found: bool = sqlx::query_scalar(&format!(
        "SELECT EXISTS (SELECT FROM \"{schema}\".orchestrator_queue WHERE work_item = ANY ($2) AND created_at > now() - interval '1 hour') \
         OR EXISTS (SELECT FROM \"{schema}\".instances WHERE instance_id = ANY ($1))"
    ))
    .bind(starts)
    .bind(items)
    .fetch_one(connection)
    .await?;
    Ok(match found {
        true => CommitOutcome::Made,
        // They have not been there before, and are not there now.
        false if !starts.is_empty() => CommitOutcome::NotMade,
        false => CommitOutcome::Unknown,
    })
}
