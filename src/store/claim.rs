//! Fetches that may be dropped. The engine drops them at shutdown, and the database may have locked an item by then; it would
//! lie there until its lease ends. So the fetch itself runs to its end in a task of its own, and what nobody takes goes back.

use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::{
    DispatcherCapabilityFilter, OrchestrationItem, Provider as _, ProviderError, SessionFetchConfig, TagFilter,
    WorkItem,
};
use tokio::runtime::Handle;

use super::client::ClientView;
use super::shared::Shared;

type Outcome<T> = Result<T, ProviderError>;

/// A locked item without an owner yet.
pub(super) struct Claim {
    shared: Arc<Shared>,
    token: String,
    /// `None` for an activity.
    instance: Option<String>,
    open: bool,
}

impl Claim {
    fn new(shared: &Arc<Shared>, token: &str, instance: Option<&str>) -> Self {
        Self { shared: Arc::clone(shared), token: token.to_owned(), instance: instance.map(str::to_owned), open: true }
    }

    /// The item has an owner, or is gone.
    pub fn settled(mut self) {
        self.open = false;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the lease ends after it.
        if self.open
            && let Ok(runtime) = Handle::try_current()
        {
            let shared = Arc::clone(&self.shared);
            let token = std::mem::take(&mut self.token);
            let instance = self.instance.take();
            runtime.spawn(give_back(shared, token, instance));
        }
    }
}

async fn give_back(shared: Arc<Shared>, token: String, instance: Option<String>) {
    let view = ClientView { shared: Arc::clone(&shared) };
    // If this fails, the lease ends by itself; after a commit that was cut short there is nothing to give back.
    if let Some(instance) = instance {
        let _ = view.abandon_orchestration_item(&token, None, true).await;
        shared.wake.orchestration(&instance);
    } else {
        let _ = view.abandon_work_item(&token, None, true).await;
        shared.wake.activities(true);
    }
}

pub(super) async fn turn(
    shared: &Arc<Shared>,
    lock_timeout: Duration,
    filter: Option<&DispatcherCapabilityFilter>,
) -> Outcome<Option<(OrchestrationItem, String, u32, Option<Claim>)>> {
    const OPERATION: &str = "fetch_orchestration_item";
    let (own, filter) = (Arc::clone(shared), filter.cloned());
    let fetch = tokio::spawn(async move {
        let backend = &own.backend;
        backend.check_open(OPERATION)?;
        let found = backend.provider.fetch_orchestration_item(lock_timeout, Duration::ZERO, filter.as_ref()).await?;
        Ok(found.map(|(item, token, attempt)| {
            let claim = Claim::new(&own, &token, Some(&item.instance));
            (item, token, attempt, Some(claim))
        }))
    });
    fetch.await.unwrap_or_else(|error| Err(ProviderError::retryable(OPERATION, error.to_string())))
}

pub(super) async fn activity(
    shared: &Arc<Shared>,
    lock_timeout: Duration,
    session: Option<&SessionFetchConfig>,
    tags: &TagFilter,
) -> Outcome<Option<(WorkItem, String, u32, Option<Claim>)>> {
    const OPERATION: &str = "fetch_work_item";
    let (own, session, tags) = (Arc::clone(shared), session.cloned(), tags.clone());
    let fetch = tokio::spawn(async move {
        let backend = &own.backend;
        backend.check_open(OPERATION)?;
        let found = backend.provider.fetch_work_item(lock_timeout, Duration::ZERO, session.as_ref(), &tags).await?;
        Ok(found.map(|(item, token, attempt)| {
            let claim = Claim::new(&own, &token, None);
            (item, token, attempt, Some(claim))
        }))
    });
    fetch.await.unwrap_or_else(|error| Err(ProviderError::retryable(OPERATION, error.to_string())))
}
