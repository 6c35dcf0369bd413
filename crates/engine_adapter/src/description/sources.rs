//! What a description is made of.

use duroxide::Event;
use store::live::LiveState;

pub struct Sources<'a> {
    pub instance: &'a str,
    pub orchestration: &'a str,
    /// The version that the instance needs; `None` if any version will do.
    pub version: Option<&'a str>,
    pub execution: u64,
    /// The events of that execution.
    pub history: &'a [Event],
    pub live: &'a LiveState,
    /// Where the code does not fit the history.
    pub mismatch: Option<String>,
    pub has_begun: bool,
}

impl Sources<'_> {
    /// The name for people of the node with an id.
    pub fn node_name(&self, id: Option<&str>) -> Option<String> {
        let id = id?;
        let node = self.live.nodes.iter().find(|node| node.id == id)?;
        Some(node.name.clone())
    }

    /// The node that runs a turn now.
    pub fn turn_node(&self) -> Option<String> {
        self.node_name(self.live.turn.as_ref()?.node.as_deref())
    }
}
