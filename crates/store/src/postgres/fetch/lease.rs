//! Collects the leases of turns from the rows of a server's answer.

use std::collections::HashMap;

use duroxide::providers::KvEntry;
use sqlx::postgres::PgRow;

use crate::postgres::fetch::rows;
use crate::postgres::fetch::rows::AnswerRow;
use crate::postgres::node::held_turns::LeasedMessage;

/// A leased turn: its instance, and the messages and keys that the server sent with the lease.
#[derive(Default)]
pub struct LeaseRow {
    pub token: String,
    pub instance: String,
    pub name: Option<String>,
    pub version: Option<String>,
    pub execution: Option<i64>,
    pub last_event: Option<i64>,
    pub created_us: Option<i64>,
    /// The instance does not exist, and begins later.
    pub starts_later: bool,
    pub messages: Vec<LeasedMessage>,
    /// Messages that cannot be read. They are deleted with the turn.
    pub unreadable: Vec<i64>,
    pub keys: HashMap<String, KvEntry>,
}

/// Collects the leases in the order of their first messages.
pub fn leases(answers: &[PgRow]) -> Result<Vec<LeaseRow>, sqlx::Error> {
    let mut leases: Vec<LeaseRow> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for row in answers.iter().map(AnswerRow) {
        match row.kind()? {
            rows::LEASED_TURN => {
                let token = row.token()?;
                places.insert(token.clone(), leases.len());
                leases.push(LeaseRow {
                    token,
                    instance: row.instance()?,
                    name: row.name()?,
                    version: row.version()?,
                    execution: row.execution()?,
                    last_event: row.last_event()?,
                    created_us: row.stamp()?,
                    starts_later: row.starts_later()?,
                    ..LeaseRow::default()
                });
            }
            rows::MESSAGE => {
                let Some(lease) = places.get(&row.token()?).map(|place| &mut leases[*place]) else { continue };
                let id = row.id()?;
                match serde_json::from_str(&row.item()?.unwrap_or_default()) {
                    Ok(item) => lease.messages.push(LeasedMessage {
                        id,
                        item,
                        attempts: row.attempt()?,
                        is_held_back: row.last_event()? == Some(1),
                        age_ms: row.stamp()?.unwrap_or_default(),
                    }),
                    Err(error) => {
                        let instance = &lease.instance;
                        tracing::error!(
                            target: "duroxide::store",
                            instance,
                            id,
                            "a message cannot be read, and is dropped: {error}"
                        );
                        lease.unreadable.push(id);
                    }
                }
            }
            rows::KEY => {
                let Some(lease) = places.get(&row.token()?).map(|place| &mut leases[*place]) else { continue };
                let last_updated_at_ms = u64::try_from(row.stamp()?.unwrap_or_default()).unwrap_or(0);
                if let (Some(key), Some(value)) = (row.name()?, row.item()?) {
                    lease.keys.insert(key, KvEntry { value, last_updated_at_ms });
                }
            }
            _ => {}
        }
    }
    leases.sort_by_key(|lease| lease.messages.first().map_or(i64::MAX, |message| message.id));
    Ok(leases)
}
