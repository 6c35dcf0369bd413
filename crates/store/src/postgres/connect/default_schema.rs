//! The schema of a store that is opened without one. A new database gets [`OWN`]. A store that an earlier version created
//! in [`EARLIER`] is found there.
//!
//! Each role may create in `public` on servers up to PostgreSQL 14, and in databases upgraded from these. So a store in
//! `public` counts only if this role trusts its owner (`schema::ownership`): another role can neither lead a program to
//! its own store nor hide the program's store.

use sqlx::{Executor as _, PgConnection};

use crate::error::StoreError;
use crate::postgres::connect::errors::refused_by;
use crate::postgres::connect::session;
use crate::postgres::schema::ownership::{self, SchemaWithStore};

/// The schema of a new store.
pub const OWN: &str = "duroxide";
/// The schema in which earlier versions created a store.
pub const EARLIER: &str = "public";

/// Which schema it is, and what the operator has to know about the other one.
pub enum DefaultSchema {
    Own,
    /// No store is in [`OWN`], and [`EARLIER`] has one of the role with this name, which is not trusted.
    OwnBesideForeign(String),
    Earlier,
    /// [`OWN`] has a store, too, but belongs to another role, which could hide the store in [`EARLIER`].
    EarlierBesideForeign,
    /// Both have a store, so the program has to name one.
    Ambiguous,
}

pub fn choose(stores: &[SchemaWithStore]) -> DefaultSchema {
    let in_schema = |name: &str| stores.iter().find(|store| store.schema == name);
    match (in_schema(EARLIER), in_schema(OWN)) {
        (Some(earlier), None) if earlier.is_trusted => DefaultSchema::Earlier,
        (Some(earlier), Some(own)) if earlier.is_trusted && !(own.is_trusted && own.is_in_own_schema) => {
            DefaultSchema::EarlierBesideForeign
        }
        (Some(earlier), Some(_)) if earlier.is_trusted => DefaultSchema::Ambiguous,
        (Some(foreign), None) => DefaultSchema::OwnBesideForeign(foreign.owner.clone()),
        (_, _) => DefaultSchema::Own,
    }
}

/// Finds the schema of a store that is opened without one. Logs what the operator has to know.
pub async fn find(connection: &mut PgConnection, server: &str) -> Result<&'static str, StoreError> {
    connection.execute(sqlx::raw_sql(session::BEGIN)).await.map_err(refused_by(server))?;
    let stores = ownership::stores(connection, &[EARLIER, OWN]).await.map_err(refused_by(server))?;
    connection.execute("COMMIT").await.map_err(refused_by(server))?;
    decide(&choose(&stores), server)
}

/// The name of the schema.
pub fn decide(chosen: &DefaultSchema, server: &str) -> Result<&'static str, StoreError> {
    match chosen {
        DefaultSchema::Own => Ok(OWN),
        DefaultSchema::OwnBesideForeign(owner) => {
            tracing::warn!(
                target: "duroxide::store",
                "the schema '{EARLIER}' of PostgreSQL {server} has a store of role '{owner}', which this user does not trust, \
                 so it is not used; the store is in the schema '{OWN}'"
            );
            Ok(OWN)
        }
        DefaultSchema::Earlier => {
            warn_of_earlier(server, "");
            Ok(EARLIER)
        }
        DefaultSchema::EarlierBesideForeign => {
            warn_of_earlier(server, ", and not the one in the schema 'duroxide', which belongs to another role");
            Ok(EARLIER)
        }
        DefaultSchema::Ambiguous => Err(ambiguous(server)),
    }
}

/// The refusal to choose between two stores.
pub fn ambiguous(server: &str) -> StoreError {
    StoreError::Configuration(format!(
        "the schemas '{EARLIER}' and '{OWN}' of PostgreSQL {server} have a store each; name one, with \
         PostgresProvider.connect_with_schema(url, '{EARLIER}') for example"
    ))
}

/// The statement that finds the stores of the database, for the connection of an application.
pub fn stores_statement() -> String {
    ownership::stores_statement(&[EARLIER, OWN])
}

/// The schema of the store for an application that names none, from the rows of [`stores_statement`].
pub fn schema_for_application(stores: Vec<(String, String, bool, bool)>) -> Result<&'static str, StoreError> {
    let stores: Vec<_> = stores
        .into_iter()
        .map(|(schema, owner, is_trusted, is_in_own_schema)| SchemaWithStore {
            schema,
            owner,
            is_trusted,
            is_in_own_schema,
        })
        .collect();
    match choose(&stores) {
        DefaultSchema::Own => Ok(OWN),
        DefaultSchema::Earlier | DefaultSchema::EarlierBesideForeign => Ok(EARLIER),
        // The functions of such a store could run code of its owner with the rights of this role.
        DefaultSchema::OwnBesideForeign(owner) => Err(StoreError::Configuration(format!(
            "this database has no store in the schema '{OWN}', and the one in the schema '{EARLIER}' belongs to role '{owner}', \
             which this connection's role does not trust; if you trust it, pass store=\"{EARLIER}\", otherwise the schema or \
             the provider of your store"
        ))),
        DefaultSchema::Ambiguous => Err(StoreError::Configuration(format!(
            "the schemas '{EARLIER}' and '{OWN}' of this database have a store each; name one, with store=\"{EARLIER}\" for \
             example"
        ))),
    }
}

fn warn_of_earlier(server: &str, other: &str) {
    tracing::warn!(
        target: "duroxide::store",
        "PostgreSQL {server} has a store in the schema '{EARLIER}', which is used{other}; on servers up to PostgreSQL 14, and \
         in databases upgraded from these, each role may create objects in this schema: run REVOKE CREATE ON SCHEMA \
         {EARLIER} FROM PUBLIC, and name the schema, with PostgresProvider.connect_with_schema(url, '{EARLIER}')"
    );
}

#[cfg(test)]
mod tests {
    use super::{DefaultSchema, EARLIER, OWN, choose};
    use crate::postgres::schema::ownership::SchemaWithStore;

    fn store(schema: &str, is_trusted: bool, is_in_own_schema: bool) -> SchemaWithStore {
        SchemaWithStore { schema: schema.to_owned(), owner: "other".to_owned(), is_trusted, is_in_own_schema }
    }

    #[test]
    fn a_new_database_gets_a_schema_of_its_own() {
        assert!(matches!(choose(&[]), DefaultSchema::Own));
        assert!(matches!(choose(&[store(OWN, true, true)]), DefaultSchema::Own));
        assert!(matches!(choose(&[store(OWN, true, false)]), DefaultSchema::Own));
    }

    #[test]
    fn a_trusted_store_in_public_is_never_left_for_another() {
        let earlier = || store(EARLIER, true, true);
        assert!(matches!(choose(&[earlier()]), DefaultSchema::Earlier));
        assert!(matches!(choose(&[earlier(), store(OWN, true, true)]), DefaultSchema::Ambiguous));
        assert!(matches!(choose(&[earlier(), store(OWN, true, false)]), DefaultSchema::EarlierBesideForeign));
        assert!(matches!(choose(&[earlier(), store(OWN, false, true)]), DefaultSchema::EarlierBesideForeign));
    }

    #[test]
    fn a_store_of_another_role_in_public_is_not_used() {
        let foreign = || store(EARLIER, false, true);
        assert!(matches!(choose(&[foreign()]), DefaultSchema::OwnBesideForeign(owner) if owner == "other"));
        assert!(matches!(choose(&[foreign(), store(OWN, true, true)]), DefaultSchema::Own));
    }
}
