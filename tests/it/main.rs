//! The real programs: a daemon, the sandbox as Domo, and the helper. Tests do not depend on each other.

#![cfg(unix)]
#![cfg(test)]

#[path = "../common/mod.rs"]
mod common;

mod access_control;
mod app;
mod app_command;
mod audit;
mod broker_choice;
mod check;
mod completions;
mod config_schema;
mod config_watch;
mod containers;
mod credential_forms;
mod docs;
mod docs_commands;
mod docs_reference;
mod end_to_end;
mod environment;
mod faults;
mod file_advice;
mod file_size_limit;
mod files;
mod fleet;
mod fleet_config;
mod gateway;
mod gateway_config;
mod health;
mod help;
mod http;
mod init;
mod isolation;
mod languages;
mod layering;
mod log_format;
mod log_output;
mod man;
mod memory_wipe;
mod messages;
mod namespaces;
mod no_broker;
mod node;
mod oauth_responses;
mod onboarding;
mod openapi;
mod outages;
mod processes;
mod prose;
mod proxy_login;
mod python;
mod recipes;
mod reload;
mod runtime_directory;
mod secrecy;
mod slow_tests;
mod soak;
mod socket_loss;
mod start;
mod status;
mod stdout;
mod store;
mod systemd;
mod terminal;
mod thousand_hosts;
mod thread_limit;
mod tls;
mod unit_files;
mod units;
mod users;
mod verbs;
