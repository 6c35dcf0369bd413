//! The administration of a store, which the base provider does.

use duroxide::providers::ProviderAdmin as _;

use crate::forward_admin_operations;
use crate::postgres::connect::base_provider::in_base_provider;
use crate::postgres::store::PostgresStore;

forward_admin_operations!(PostgresStore, in_base_provider);
