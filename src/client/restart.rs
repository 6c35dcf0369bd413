//! Runs an instance that has ended again, or starts another one as it was started.

use duroxide::INITIAL_EXECUTION_ID;
use store::operations::AdminOperations as _;
use store::start::{IfExists, StartOutcome, StartRequest};

use crate::boundary::errors::{ClientError, Error};
use crate::client::open_store::{OpenStore, started_with};
use crate::client::status::{has_ended, shown};

impl OpenStore {
    /// Begins a run as that of `instance`, under its own id if it has ended, or under `new_instance`; whether one begins.
    pub(super) async fn restart(
        &self,
        instance: String,
        new_instance: Option<String>,
        input: Option<String>,
        version: Option<String>,
    ) -> Result<bool, Error> {
        let info = self.info(&instance).await?;
        if new_instance.is_none() && !has_ended(shown(&info.status)) {
            return Ok(false);
        }
        let input = match input {
            Some(input) => input,
            None => self.input_of(&instance, info.current_execution_id).await?,
        };
        let (instance, if_exists) = match new_instance {
            Some(new_instance) => (new_instance, IfExists::Attach),
            None => (instance, IfExists::Restart),
        };
        let request = StartRequest { instance, orchestration: info.orchestration_name, input, version, due_ms: None };
        Ok(self.store.start(request, if_exists).await? != StartOutcome::Attached)
    }

    /// The input of the run to which an execution belongs, which may have continued as new.
    async fn input_of(&self, instance: &str, last: u64) -> Result<String, Error> {
        let mut first = last;
        while first > INITIAL_EXECUTION_ID && self.continued_as_new(instance, first - 1).await {
            first -= 1;
        }
        let history = self.client.read_history_with_execution_id(instance, first).await?;
        history.into_iter().find_map(started_with).ok_or_else(|| {
            Error::Python(ClientError::new_err(format!(
                "no history of instance '{instance}' has its input, since it has not begun or was pruned; give the input"
            )))
        })
    }

    /// Whether the next execution belongs to the same run; false if the execution was pruned.
    async fn continued_as_new(&self, instance: &str, execution: u64) -> bool {
        let info = self.client.get_execution_info(instance, execution).await;
        info.is_ok_and(|info| info.status == "ContinuedAsNew")
    }
}
