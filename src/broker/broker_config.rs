//! What a config decides for the broker, besides its clients.

use std::collections::BTreeMap;

use domo_token_protocol::messages::BrokerStatus;

use crate::source::Origin;
use domo_token_core::access_policy::Access;

/// What the broker is configured with, besides its clients.
#[derive(Clone, Debug, Default)]
pub struct BrokerConfig {
    pub daemon: DaemonInfo,
    /// The client of requests that name none.
    pub default_client: Option<String>,
    pub access: AccessTables,
    pub origins: Origins,
    /// Whether tokens may be stored over a restart.
    pub keep_over_restart: bool,
}

/// What status and metrics report about the daemon.
#[derive(Clone, Debug, Default)]
pub struct DaemonInfo {
    pub status: BrokerStatus,
    /// Why clients could not be loaded as the config has them, by client.
    pub load_errors: BTreeMap<String, String>,
    /// Why the fleet could not be loaded.
    pub fleet_error: Option<String>,
    /// Why clients do not share their tokens although the fleet is loaded, by client.
    pub sharing_errors: BTreeMap<String, String>,
}

impl DaemonInfo {
    /// Returns whether the config has a fleet, and not all of its clients can share their tokens in it.
    pub(super) fn is_fleet_broken(&self) -> bool {
        self.fleet_error.is_some() || !self.sharing_errors.is_empty()
    }
}

/// The access tables, by client. A client without one is open to everyone that may connect.
#[derive(Clone, Debug, Default)]
pub struct AccessTables(pub BTreeMap<String, Access>);

impl AccessTables {
    pub(super) fn get(&self, client: &str) -> Option<&Access> {
        self.0.get(client)
    }

    /// Returns the clients that have a table.
    pub(super) fn clients(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether any rule names units.
    pub(super) fn has_units(&self) -> bool {
        let mut rules = self.0.values().flat_map(|access| access.0.values());
        rules.any(|rule| !rule.units.is_empty())
    }

    /// Returns whether any rule needs the names or groups of the user database.
    pub(super) fn need_user_database(&self) -> bool {
        self.0.values().any(Access::needs_user_database)
    }
}

/// With which id, and at which endpoint, the tokens of each loaded client are requested, by client.
pub type Origins = BTreeMap<String, Origin>;
