//! Fetching: leases work for this node, and delivers it to the prefetch queues.
//!
//! `poller` asks the server for work. `rows` reads the rows of the server's answers, and `lease` collects those of each
//! leased turn. `held_list` completes leases with many messages. `session_demand` lists the slots that wait for activities of
//! sessions. `deliver` makes turns and activities of the leases, and `orphaned` handles messages to instances that do not
//! exist.

pub mod deliver;
pub mod held_list;
pub mod lease;
pub mod orphaned;
pub mod poller;
pub mod rows;
pub mod session_demand;
