//! What an instance waits for, and what stands in its way.

use duroxide::providers::InstanceInfo;
use engine_adapter::{Description, Sources};
use store::clock::now_ms;
use store::operations::EngineOperations as _;

use crate::boundary::errors::Error;
use crate::client::open_store::OpenStore;
use crate::client::queries::gone;
use crate::client::status::{FAILED, RUNNING, shown};

const CANCELLED: &str = "Cancelled";
const TERMINATED: &str = "Terminated";

/// The version of an instance that has begun without one, and of a start that names none.
const NO_VERSION: [&str; 2] = ["unknown", "0.0.0"];

impl OpenStore {
    /// The description of an instance as JSON text.
    pub(super) async fn describe(&self, instance: &str) -> Result<String, Error> {
        let info = self.info(instance).await?;
        let (created_at, updated_at) =
            self.adapter.instance_times(instance).await.map_err(|error| gone(instance, error))?;
        let start = self.adapter.waiting_start(instance).await?;
        let custom_status = self.client.get_custom_status(instance, 0).await?.and_then(|(status, _)| status);
        let mut status = shown(&info.status);
        if status == FAILED {
            let failure = self.failure(instance, info.output.clone()).await?;
            status = match (failure.cancel_reason, failure.termination) {
                (Some(_), Some(_)) => TERMINATED,
                (Some(_), None) => CANCELLED,
                (None, _) => FAILED,
            };
        }
        let mut description = Description {
            instance_id: info.instance_id.clone(),
            orchestration_name: info.orchestration_name.clone(),
            orchestration_version: info.orchestration_version.clone(),
            status: status.to_owned(),
            execution_id: info.current_execution_id,
            has_begun: start.is_none(),
            starts_at: start.map(|start| start.due_ms).filter(|due_ms| *due_ms > now_ms()),
            created_at,
            updated_at,
            parent_instance_id: info.parent_instance_id.clone(),
            custom_status,
            turn_node: None,
            waits: Vec::new(),
            obstacle: None,
            unread: Vec::new(),
        };
        if status == RUNNING {
            self.add_waits(&info, &mut description).await?;
        }
        // A description is plain data, which can always be written as JSON.
        Ok(serde_json::to_string(&description).unwrap_or_default())
    }

    async fn add_waits(&self, info: &InstanceInfo, description: &mut Description) -> Result<(), Error> {
        let (instance, execution) = (info.instance_id.as_str(), info.current_execution_id);
        let history = self.client.read_with_execution(instance, execution).await?;
        let live = self.adapter.live_state(instance).await?;
        let version = info.orchestration_version.as_str();
        let sources = Sources {
            instance,
            orchestration: &info.orchestration_name,
            version: Some(version).filter(|version| !NO_VERSION.contains(version)),
            execution,
            history: &history,
            live: &live,
            mismatch: self.adapter.mismatch(instance).await,
            has_begun: description.has_begun,
        };
        description.turn_node = sources.turn_node();
        description.waits = sources.waits();
        description.obstacle = sources.obstacle();
        description.unread = sources.unread();
        Ok(())
    }
}
