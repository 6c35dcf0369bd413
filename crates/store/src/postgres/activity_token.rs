//! The token of a leased activity as the engine has it: the number of its row, and the token of its lease.

use crate::error::Result;
use crate::failure::Failure;

pub fn join(id: i64, token: &str) -> String {
    format!("{id}:{token}")
}

pub fn split(token: &str) -> Result<(i64, &str)> {
    let parts = token.split_once(':').and_then(|(id, token)| Some((id.parse().ok()?, token)));
    parts.ok_or_else(|| Failure::lock_lost("ack_work_item", "Invalid lock token: it is not of this store"))
}
