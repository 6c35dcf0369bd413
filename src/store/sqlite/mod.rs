//! The embedded store: one file, one process that works on it, any number of others that use it as clients.

#[cfg(test)]
mod conformance;
mod owner;
mod place;
mod presence;
mod read;
mod schema;
#[cfg(test)]
mod testing;
mod upgrade;
