//! An owner for tests that only carries out requests: each request and its position go into the file in one
//! transaction.

use std::path::Path;

use duroxide::providers::DeleteInstanceResult;
use rusqlite::Connection;

use crate::error::StoreError;
use crate::sqlite::file::lock::{LockHandle, OwnerLock};
use crate::sqlite::file::schema;
use crate::sqlite::inbox::{Body, InboxAnswer, InboxConsumer, InboxReply};
use crate::sqlite::read;
use crate::start::{IfExists, StartOutcome};

pub struct MinimalOwner {
    pub connection: Connection,
    pub consumer: InboxConsumer,
    /// Held until this is dropped.
    #[expect(dead_code)]
    pub owner_lock: OwnerLock,
}

impl MinimalOwner {
    /// `None` while another process or test is the owner.
    pub fn of(path: &Path) -> Option<Self> {
        let owner_lock = LockHandle::new(path).unwrap().try_acquire().unwrap()?;
        let mut connection = Connection::open(path).unwrap();
        schema::prepare(&mut connection, path).unwrap();
        let position = |name: &str| Ok(read::inbox_position(&connection, name)?);
        let consumer = InboxConsumer::new(path, position).unwrap();
        Some(Self { connection, consumer, owner_lock })
    }

    /// Carries out one batch, and returns the answers without sending them.
    pub fn carry_out(&self) -> Vec<(i64, InboxAnswer)> {
        let batch = self.consumer.next_batch().unwrap();
        batch
            .iter()
            .map(|request| (request.position, self.carry_out_one(&request.inbox, request.position, &request.body)))
            .collect()
    }

    fn carry_out_one(&self, inbox: &str, position: i64, body: &Body) -> InboxAnswer {
        let transaction = self.connection.unchecked_transaction().unwrap();
        let reply = match body {
            Body::Start { requests, if_exists } => {
                let mut outcomes = Vec::new();
                for request in requests {
                    let status = read::status(&transaction, &request.instance)?;
                    match status.and_then(|status| status.orchestration.or(status.starting)) {
                        None => {
                            let row = (&request.instance, &request.orchestration);
                            let insert = "INSERT INTO instances(id, starting, created_ms) VALUES (?, ?, 0)";
                            transaction.execute(insert, row).unwrap();
                            outcomes.push(StartOutcome::Started);
                        }
                        Some(name) if *if_exists == IfExists::Attach && name == request.orchestration => {
                            outcomes.push(StartOutcome::Attached);
                        }
                        Some(name) => {
                            return Err(StoreError::InstanceAlreadyExists {
                                instance: request.instance.clone(),
                                orchestration: name,
                            });
                        }
                    }
                }
                InboxReply::Started(outcomes)
            }
            Body::Delete { ids, .. } => {
                for id in ids {
                    transaction.execute("DELETE FROM instances WHERE id = ?", [id]).unwrap();
                }
                InboxReply::Deleted(DeleteInstanceResult { instances_deleted: ids.len() as u64, ..Default::default() })
            }
            Body::Messages { items, .. } => {
                for item in items {
                    let data = serde_json::to_string(item).unwrap();
                    let insert = "INSERT INTO messages(instance, visible_ms, data) VALUES (0, 0, ?)";
                    transaction.execute(insert, [data]).unwrap();
                }
                InboxReply::Delivered
            }
            other => panic!("no test sends {other:?}"),
        };
        transaction.execute("INSERT OR REPLACE INTO inboxes VALUES (?, ?)", (inbox, position)).unwrap();
        transaction.commit().unwrap();
        Ok(reply)
    }

    pub fn serve(&self) {
        let answers = self.carry_out();
        self.consumer.reply(answers);
    }
}
