//! Takes the place of `sqlx-sqlite` in the lock file.
//!
//! `sqlx` names `sqlx-sqlite` as an optional dependency. This package does not switch it on, but Cargo resolves optional
//! dependencies too, and allows one package that links the C library `sqlite3`. The real `sqlx-sqlite` would hold that
//! library at SQLite 3.46, from before the fixes of CVE-2025-6965 and of the reset of the write-ahead log.
//!
//! Nothing compiles this package. If a dependency switches on SQLite in `sqlx`, the build fails here: code that expects
//! a driver must not get an empty one.

compile_error!(
    "a dependency switches on SQLite in `sqlx`, which this workspace replaces by an empty package: switch off the feature \
     `sqlite` of `sqlx`, or remove the entry `sqlx-sqlite` from `[patch.crates-io]` in Cargo.toml"
);
