//! The errors for a server that cannot be reached, with the way out for those that we know.

use crate::error::StoreError;
use crate::postgres::third_party_texts;

pub fn unreachable(server: &str, fact: &str) -> StoreError {
    StoreError::Unavailable(format!("PostgreSQL {server} cannot be reached: {fact}; check the server and the url"))
}

pub fn refused_by(server: &str) -> impl Fn(sqlx::Error) -> StoreError + '_ {
    move |error| unreachable(server, &explain(&error))
}

/// The text of an error of connecting, with advice for the errors that we know.
pub fn explain(error: &sqlx::Error) -> String {
    let text = error.to_string();
    match third_party_texts::remedy_of_connecting(&text) {
        Some(remedy) => format!("{text}; {remedy}"),
        None => text,
    }
}
