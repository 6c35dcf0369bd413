//! Implementations that pass every operation on.
//!
//! Each macro takes the name of a *body* macro, and emits a whole `impl` block with one method per row of the tables in
//! [`operations`](crate::operations). The body macro gets `(self, operation(arguments...))` and gives the expression
//! that the method evaluates. It has an arm for each operation that is special, and a last arm for all others.
//! `#[async_trait]` expands no macro in the place of a method, so the block cannot be put together from smaller macros.

use std::sync::Arc;

use crate::operations::{AdminOperations, EngineOperations};

/// Implements [`EngineOperations`](crate::operations::EngineOperations).
#[macro_export]
macro_rules! forward_engine_operations {
    ($store:ty, $body:ident) => {
        $crate::engine_signatures! { [$crate::emit_engine_operations] $store, $body }
    };
}

/// Implements [`AdminOperations`](crate::operations::AdminOperations).
#[macro_export]
macro_rules! forward_admin_operations {
    ($store:ty, $body:ident) => {
        $crate::admin_signatures! { [$crate::emit_admin_operations] $store, $body }
    };
}

/// Implements the engine's `Provider`. Failures become the engine's errors here and nowhere else. The body of
/// `commit_turn` gets its [`TurnCommit`](crate::turn_commit::TurnCommit) by value.
#[macro_export]
macro_rules! forward_provider {
    (
        [$($generics:tt)*] $store:ty, name: |$named:ident| $name:expr, admin: |$administered:ident| $admin:expr,
        $body:ident
    ) => {
        $crate::engine_signatures! {
            [$crate::emit_provider] [$($generics)*] $store, |$named| $name, |$administered| $admin, $body
        }
    };
}

/// Implements the engine's `ProviderAdmin`.
#[macro_export]
macro_rules! forward_provider_admin {
    ([$($generics:tt)*] $store:ty, $body:ident) => {
        $crate::admin_signatures! { [$crate::emit_provider_admin] [$($generics)*] $store, $body }
    };
}

pub use {forward_admin_operations, forward_engine_operations};

#[doc(hidden)]
#[macro_export]
macro_rules! emit_engine_operations {
    (
        { $store:ty, $body:ident }
        $($operation:ident($($argument:ident: $kind:ty),* $(,)?) -> $answer:ty;)*
    ) => {
        #[::async_trait::async_trait]
        impl $crate::operations::EngineOperations for $store {
            async fn commit_turn(
                &self,
                token: &str,
                commit: ::std::sync::Arc<$crate::turn_commit::TurnCommit>,
            ) -> $crate::Result<()> {
                $body!(self, commit_turn(token, commit))
            }

            $(async fn $operation(&self, $($argument: $kind),*) -> $crate::Result<$answer> {
                $body!(self, $operation($($argument),*))
            })*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! emit_admin_operations {
    (
        { $store:ty, $body:ident }
        $($operation:ident($($argument:ident: $kind:ty),* $(,)?) -> $answer:ty;)*
    ) => {
        #[::async_trait::async_trait]
        impl $crate::operations::AdminOperations for $store {
            $(async fn $operation(&self, $($argument: $kind),*) -> $crate::Result<$answer> {
                $body!(self, $operation($($argument),*))
            })*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! emit_provider {
    (
        { [$($generics:tt)*] $store:ty, |$named:ident| $name:expr, |$administered:ident| $admin:expr, $body:ident }
        $($operation:ident($($argument:ident: $kind:ty),* $(,)?) -> $answer:ty;)*
    ) => {
        #[::async_trait::async_trait]
        impl<$($generics)*> ::duroxide::providers::Provider for $store {
            fn name(&self) -> &str {
                let $named = self;
                $name
            }

            fn version(&self) -> &str {
                env!("CARGO_PKG_VERSION")
            }

            fn as_management_capability(&self) -> Option<&dyn ::duroxide::providers::ProviderAdmin> {
                let $administered = self;
                Some($admin)
            }

            async fn ack_orchestration_item(
                &self,
                token: &str,
                execution_id: u64,
                delta: Vec<::duroxide::Event>,
                activities: Vec<::duroxide::providers::WorkItem>,
                messages: Vec<::duroxide::providers::WorkItem>,
                metadata: ::duroxide::providers::ExecutionMetadata,
                cancelled: Vec<::duroxide::providers::ScheduledActivityIdentifier>,
            ) -> Result<(), ::duroxide::providers::ProviderError> {
                let commit = $crate::turn_commit::TurnCommit {
                    execution_id,
                    delta,
                    activities,
                    messages,
                    metadata,
                    cancelled,
                };
                let outcome: $crate::Result<()> = async { $body!(self, commit_turn(token, commit)) }.await;
                outcome.map_err(::duroxide::providers::ProviderError::from)
            }

            $(async fn $operation(
                &self,
                $($argument: $kind),*
            ) -> Result<$answer, ::duroxide::providers::ProviderError> {
                let outcome: $crate::Result<$answer> = async { $body!(self, $operation($($argument),*)) }.await;
                outcome.map_err(::duroxide::providers::ProviderError::from)
            })*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! emit_provider_admin {
    (
        { [$($generics:tt)*] $store:ty, $body:ident }
        $($operation:ident($($argument:ident: $kind:ty),* $(,)?) -> $answer:ty;)*
    ) => {
        #[::async_trait::async_trait]
        impl<$($generics)*> ::duroxide::providers::ProviderAdmin for $store {
            $(async fn $operation(
                &self,
                $($argument: $kind),*
            ) -> Result<$answer, ::duroxide::providers::ProviderError> {
                let outcome: $crate::Result<$answer> = async { $body!(self, $operation($($argument),*)) }.await;
                outcome.map_err(::duroxide::providers::ProviderError::from)
            })*
        }
    };
}

/// A store as the engine's `Provider`, with nothing in between.
pub struct AsProvider<Store> {
    pub store: Arc<Store>,
    /// The name of the store in the logs of the engine.
    pub name: &'static str,
}

macro_rules! to_store {
    ($self:ident, commit_turn($token:ident, $commit:ident)) => {
        $self.store.commit_turn($token, Arc::new($commit)).await
    };
    ($self:ident, $operation:ident($($argument:ident),*)) => {
        $self.store.$operation($($argument),*).await
    };
}

forward_provider!(
    [Store: EngineOperations + AdminOperations] AsProvider<Store>,
    name: |this| this.name, admin: |this| this, to_store
);
forward_provider_admin!([Store: EngineOperations + AdminOperations] AsProvider<Store>, to_store);
