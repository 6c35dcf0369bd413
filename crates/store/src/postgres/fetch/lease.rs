//! Collects the leases of turns from the rows of a server's answer.

use std::collections::HashMap;
use std::sync::Arc;

use duroxide::providers::KvEntry;
use sqlx::postgres::PgRow;

use crate::postgres::fetch::rows;
use crate::postgres::fetch::rows::AnswerRow;
use crate::postgres::node::held_turns::LeasedMessage;
use crate::postgres::node::known_messages::{HeldList, KnownMessage};

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
    /// The messages that are held back, if they are many. [`read`](crate::postgres::fetch::held_list) adds them to
    /// `messages`.
    pub held: Option<HeldList>,
    /// Messages that cannot be read. They are deleted with the turn.
    pub unreadable: Vec<i64>,
    pub keys: HashMap<String, KvEntry>,
}

impl LeaseRow {
    /// Parses the text of a message, and notes it if it cannot be read.
    pub fn parse(&mut self, id: i64, text: &str) -> Option<KnownMessage> {
        match serde_json::from_str(text) {
            Ok(item) => Some((Arc::new(item), text.len())),
            Err(error) => {
                let instance = &self.instance;
                tracing::error!(
                    target: "duroxide::store",
                    instance,
                    id,
                    "a message cannot be read, and is dropped: {error}"
                );
                self.unreadable.push(id);
                None
            }
        }
    }

    fn first_message(&self) -> i64 {
        let of_list = self.held.iter().filter_map(|held| held.ids.first().copied());
        self.messages.first().map(|message| message.id).into_iter().chain(of_list).min().unwrap_or(i64::MAX)
    }
}

fn held_list(row: AnswerRow<'_>) -> Result<HeldList, sqlx::Error> {
    let text = row.item()?.unwrap_or_default();
    let ids: Result<Vec<i64>, _> = text.split_ascii_whitespace().map(str::parse).collect();
    let mut ids = ids.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    ids.sort_unstable();
    Ok(HeldList { ids, mark: row.name()?.unwrap_or_default() })
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
                let (is_held_back, age_ms) = (row.last_event()? == Some(1), row.stamp()?.unwrap_or_default());
                if let Some((item, _)) = lease.parse(row.id()?, &row.item()?.unwrap_or_default()) {
                    let (id, attempts) = (row.id()?, row.attempt()?);
                    lease.messages.push(LeasedMessage { id, item, attempts, is_held_back, age_ms });
                }
            }
            rows::HELD_LIST => {
                let Some(lease) = places.get(&row.token()?).map(|place| &mut leases[*place]) else { continue };
                lease.held = Some(held_list(row)?);
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
    leases.sort_by_key(LeaseRow::first_message);
    Ok(leases)
}
