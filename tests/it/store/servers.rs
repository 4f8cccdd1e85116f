//! The servers that the other tests use, so that a failure here is not looked for elsewhere.

use crate::common::redis::{Cluster, Redis, Sentinels, acl_line, is_installed};

#[test]
fn server_keeps_its_port_and_config_after_a_restart() {
    if !is_installed() {
        return;
    }
    let mut server = Redis::start(&acl_line("p4ssword"));
    server.cli(&["SET", "a", "1"]);
    server.pause();
    server.resume();
    assert_eq!(server.cli(&["GET", "a"]), "1");
    server.kill();
    server.restart();
    assert_eq!(server.cli(&["GET", "a"]), "");
    assert!(server.cli(&["ACL", "LIST"]).contains("user domo-token on"));
    server.stop();
    server.restart();
    assert!(server.is_master());
}

#[test]
fn tls_server_requires_a_client_certificate() {
    if !is_installed() {
        return;
    }
    let server = Redis::start_tls("");
    assert_eq!(server.cli(&["PING"]), "PONG");
    let mut without = std::process::Command::new("redis-cli");
    without.args(["-p", &server.port().to_string(), "--tls", "--cacert"]);
    without.arg(server.path("ca.pem")).arg("PING");
    let answer = without.output().unwrap();
    assert!(!answer.stdout.starts_with(b"PONG"));
}

#[test]
fn sentinels_name_the_replica_after_the_masters_end() {
    if !is_installed() {
        return;
    }
    let mut all = Sentinels::start("", "");
    assert_eq!(all.master(), 0);
    all.servers[0].kill();
    all.wait_for_master(1);
    assert_eq!(all.master(), 1);
}

#[test]
fn cluster_has_each_key_on_one_of_its_nodes() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::start("");
    for key in ["{a}:token", "{b}:token", "{c}:token"] {
        let node = cluster.node_of(key);
        assert_eq!(cluster.nodes[node].cli(&["SET", key, "1"]), "OK");
        let other = cluster.nodes[1 - node].cli(&["GET", key]);
        assert!(other.starts_with("MOVED "), "{other}");
    }
}
