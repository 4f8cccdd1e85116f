//! Daemons of several hosts that share tokens through a redis-server, a Sentinel or a Cluster.
//!
//! `hosts` is what they have in common: the hosts of a fleet, and what each of them reports.

mod hosts;

mod config_check;
mod engine_faults;
mod failed_hosts;
mod failures_of_domo;
mod hostile_engine;
mod leaks;
mod monitoring;
mod sharing;
mod soak;
mod tls;
mod topologies;
