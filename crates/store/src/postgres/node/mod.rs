//! The state of one node, which its writers, its poller and the engine's calls share.
//!
//! `state` joins the other parts: `request` is a write that waits for its commit, `prefetch` the queues of leased work,
//! `held_turns` the turns that the engine runs now. `history_cache` saves reads of histories, and `known_messages` reads of
//! messages that are held back; `generations` bounds both. `cancelled_activities` stops activities that were leased before a turn cancelled them. `running_activities` keeps the node from taking its own
//! activities again. `leases_in_flight` counts the leases that are on their way from the server or back, and `pulse` knows
//! whether the server answers. `left_out` names and counts the rows that cannot be leased.

pub mod cancelled_activities;
pub mod generations;
pub mod held_turns;
pub mod history_cache;
pub mod known_messages;
pub mod leases_in_flight;
pub mod left_out;
pub mod prefetch;
pub mod pulse;
pub mod request;
pub mod running_activities;
pub mod state;
