//! Finds objects of other roles under our names. A role that may create in a schema can make a function, a table or a view
//! before the store does, and the node would run it, or what hangs on it, with its own rights.
//!
//! A node trusts the owner of the schema, the roles that its own role is a member of, the owner of the database, and
//! superusers: each of them can replace everything in the schema anyway. That the node's own role is a superuser does not
//! make it a member of all roles here.

use sqlx::{Executor as _, PgConnection, Row as _};

use crate::postgres::schema::rights::{READ_ONLY, TABLES};
use crate::postgres::schema::{VERSION, base_functions};

/// An object under one of our names that is not ours.
pub struct ForeignObject {
    /// What it is, with its name and its schema.
    pub object: String,
    /// What is wrong with it.
    pub fact: String,
    /// How it gets another owner, or is removed.
    pub remedy: String,
}

/// The roles that a node trusts, as the table `trusted`, and the schema, as the table `place`.
fn roles(schema: &str) -> String {
    format!(
        "WITH RECURSIVE place AS (SELECT oid, nspowner FROM pg_catalog.pg_namespace WHERE nspname = '{schema}'), \
         own (oid) AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user \
         UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN own ON m.member = own.oid), \
         higher (oid) AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolsuper OR rolname = 'pg_database_owner' \
         UNION ALL SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database()), \
         trusted (oid) AS (SELECT oid FROM own UNION ALL SELECT oid FROM higher UNION ALL SELECT nspowner FROM place) "
    )
}

/// The first object in the schema that has one of our names, and another kind or an owner whom this role does not trust.
///
/// This reads the catalog only, and needs no rights. It is not a prepared statement, since a pooler that the store has
/// not detected yet may not support these. The schema is made of letters, digits and underscores.
pub async fn find_foreign(connection: &mut PgConnection, schema: &str) -> Result<Option<ForeignObject>, sqlx::Error> {
    let list = |names: &[&str]| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let all_tables = [TABLES.as_slice(), &READ_ONLY].concat();
    let (tables, functions, version) = (list(&all_tables), list(&base_functions::NAMES), VERSION.as_str());
    let statement = format!(
        "{roles}, \
         ours AS (SELECT c.oid, c.relname, c.relkind, c.relowner FROM pg_catalog.pg_class c \
         JOIN place ON c.relnamespace = place.oid WHERE c.relname IN ({tables})), \
         functions AS (SELECT p.oid, p.proowner, p.oid::pg_catalog.regprocedure::text AS signature \
         FROM pg_catalog.pg_proc p JOIN place ON p.pronamespace = place.oid \
         WHERE p.proname IN ({functions}, 'python_send') OR p.proname LIKE 'python\\_%\\_{version}'), \
         found (kind, name, owner, reason) AS (\
         SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' \
         WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' ELSE 'relation' END, relname::text, relowner, \
         CASE WHEN relkind IN ('r', 'p') THEN 'owner' ELSE 'kind' END FROM ours \
         WHERE relkind NOT IN ('r', 'p') OR relowner NOT IN (SELECT oid FROM trusted) \
         UNION ALL SELECT 'type', t.typname::text, t.typowner, 'kind' FROM pg_catalog.pg_type t \
         JOIN place ON t.typnamespace = place.oid WHERE t.typname IN ({tables}) AND t.typrelid = 0 \
         UNION ALL SELECT 'function', signature, proowner, 'owner' FROM functions \
         WHERE proowner NOT IN (SELECT oid FROM trusted) \
         UNION ALL SELECT 'trigger', t.tgname::text || ' ON ' || ours.relname::text, p.proowner, 'trigger' \
         FROM pg_catalog.pg_trigger t JOIN ours ON ours.oid = t.tgrelid JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid \
         WHERE NOT t.tgisinternal AND p.proowner NOT IN (SELECT oid FROM trusted)) \
         SELECT found.kind, found.name, pg_catalog.pg_get_userbyid(found.owner)::text, found.reason, \
         pg_catalog.pg_get_userbyid(place.nspowner)::text FROM found, place ORDER BY 1, 2 LIMIT 1",
        roles = roles(schema)
    );
    let Some(row) = connection.fetch_optional(sqlx::raw_sql(&statement)).await? else { return Ok(None) };
    let (kind, name, owner): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (reason, owner_of_schema): (String, String) = (row.try_get(3)?, row.try_get(4)?);
    // The signature of a function has its schema already.
    let name = if kind == "function" { name } else { format!("{schema}.{name}") };
    let is_not_trusted = format!("role '{owner}', which neither owns the schema nor is a role of this user");
    let (fact, remedy) = match reason.as_str() {
        "kind" => (format!("is a {kind} of role '{owner}', where the store has a table"), format!("drop the {kind}")),
        "trigger" => (
            format!("runs a function of {is_not_trusted}"),
            format!("drop the trigger, or give its function to role '{owner_of_schema}', which owns the schema"),
        ),
        _ => (
            format!("belongs to {is_not_trusted}"),
            format!(
                "drop it, or, if you trust what it holds, run ALTER {} {name} OWNER TO \"{owner_of_schema}\"",
                kind.to_uppercase()
            ),
        ),
    };
    Ok(Some(ForeignObject { object: format!("{kind} '{name}'"), fact, remedy }))
}

/// A schema of a role that the present role does not trust.
pub struct ForeignSchema {
    pub owner: String,
    /// Whether the tables of a store are in it.
    pub has_store: bool,
    /// Whether the present role, or one that it is a member of, owns these tables.
    pub has_own_tables: bool,
}

/// The schema, if a role owns it that this role is not a member of, and that owns neither the database nor everything.
pub async fn foreign_schema(connection: &mut PgConnection, schema: &str) -> Result<Option<ForeignSchema>, sqlx::Error> {
    let statement = format!(
        "{} SELECT pg_catalog.pg_get_userbyid(place.nspowner)::text, EXISTS (SELECT FROM pg_catalog.pg_class c \
         WHERE c.relnamespace = place.oid AND c.relname = '_duroxide_migrations'), \
         EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = place.oid \
         AND c.relname = '_duroxide_migrations' AND c.relowner IN (SELECT oid FROM own)) FROM place \
         WHERE place.nspowner NOT IN (SELECT oid FROM own UNION ALL SELECT oid FROM higher)",
        roles(schema)
    );
    let found = connection.fetch_optional(sqlx::raw_sql(&statement)).await?;
    let read = |row: sqlx::postgres::PgRow| {
        Ok(ForeignSchema { owner: row.try_get(0)?, has_store: row.try_get(1)?, has_own_tables: row.try_get(2)? })
    };
    found.map(read).transpose()
}

/// A schema that has the tables of a store.
pub struct SchemaWithStore {
    pub schema: String,
    /// The role that owns the tables.
    pub owner: String,
    /// Whether this role trusts the owner of the tables.
    pub is_trusted: bool,
    /// Whether the schema belongs to this role, a role that it is a member of, the owner of the database or a superuser.
    pub is_in_own_schema: bool,
}

/// The statement for [`stores`]. The result has the columns of [`SchemaWithStore`].
///
/// This reads the catalog only, and needs no rights. The statement also runs on connections of applications, so it names
/// the schema of each operator: it means the same with any `search_path`. It has no colon and no percent sign, which the
/// libraries of applications would take for a parameter.
pub fn stores_statement(schemas: &[&str]) -> String {
    let schemas = schemas.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    format!(
        "WITH RECURSIVE own (oid) AS (SELECT oid FROM pg_catalog.pg_roles \
         WHERE rolname OPERATOR(pg_catalog.=) current_user \
         UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN own ON m.member OPERATOR(pg_catalog.=) own.oid), \
         trusted (oid) AS (SELECT oid FROM own UNION ALL SELECT oid FROM pg_catalog.pg_roles \
         WHERE rolsuper OR rolname OPERATOR(pg_catalog.=) 'pg_database_owner' \
         UNION ALL SELECT datdba FROM pg_catalog.pg_database \
         WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
         SELECT CAST(n.nspname AS pg_catalog.text), CAST(pg_catalog.pg_get_userbyid(c.relowner) AS pg_catalog.text), \
         c.relowner OPERATOR(pg_catalog.=) n.nspowner \
         OR c.relowner OPERATOR(pg_catalog.=) ANY (SELECT oid FROM trusted), \
         n.nspowner OPERATOR(pg_catalog.=) ANY (SELECT oid FROM trusted) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE c.relname OPERATOR(pg_catalog.=) '_duroxide_migrations' \
         AND n.nspname OPERATOR(pg_catalog.=) ANY (ARRAY[{schemas}]) \
         AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p'])"
    )
}

/// The schemas among these that have the tables of a store.
pub async fn stores(connection: &mut PgConnection, schemas: &[&str]) -> Result<Vec<SchemaWithStore>, sqlx::Error> {
    let read = |row: &sqlx::postgres::PgRow| {
        Ok(SchemaWithStore {
            schema: row.try_get(0)?,
            owner: row.try_get(1)?,
            is_trusted: row.try_get(2)?,
            is_in_own_schema: row.try_get(3)?,
        })
    };
    connection.fetch_all(sqlx::raw_sql(&stores_statement(schemas))).await?.iter().map(read).collect()
}
