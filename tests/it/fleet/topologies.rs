//! Sentinels that fail over, and a Cluster of two nodes.

use super::hosts::{client, domo, fleet_status, section, shared_token, start, start_all, token_of};
use crate::common::HOUR;
use crate::common::redis::{Cluster, SERVICE, Sentinels, free_port, is_installed};

#[test]
fn failover_of_sentinels_costs_no_request() {
    if !is_installed() {
        return;
    }
    let mut engines = Sentinels::start("", "");
    let domo = domo(HOUR);
    // The first sentinel of the list is unreachable.
    let addresses = engines
        .toml()
        .replacen('[', &format!("[\"127.0.0.1:{}\", ", free_port()), 1);
    let config =
        client(&domo) + &format!("\n[fleet]\nsentinels = {addresses}\nservice = \"{SERVICE}\"\n");
    let first = start(&config);
    let token = token_of(&first);
    assert_eq!(fleet_status(&first)["up"], true);
    let before = engines.master();
    assert_eq!(engines.servers[before].cli(&["WAIT", "1", "5000"]), "1");
    engines.servers[before].kill();
    engines.wait_for_master(1 - before);
    let second = start(&config);
    assert_eq!(token_of(&second), token);
    assert_eq!(domo.requests().len(), 1);
}

#[test]
fn hosts_share_through_any_node_of_a_cluster() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::start("");
    let domo = domo(HOUR);
    // One of them is redirected (MOVED) to the other's node.
    let configs = [0, 1].map(|node| client(&domo) + &section(&cluster.nodes[node].url(), ""));
    let hosts = start_all(&configs);
    shared_token(&hosts);
    assert_eq!(domo.requests().len(), 1);
    for host in &hosts {
        let status = fleet_status(host);
        assert_eq!(status["up"], true, "{status}");
    }
}
