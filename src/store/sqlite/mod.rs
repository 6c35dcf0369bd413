//! The embedded store: one file, one process that works on it, any number of others that use it as clients.

mod schema;
