//! The `Host` of a request: exactly one, and a name or address of this machine.

use super::connection::Connection;
use super::heads::{assert_rejected, only_answer};
use crate::common::{HOUR, sandbox_and_daemon};

#[test]
fn missing_or_second_host_is_400() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let heads = [
        "",
        "X-Host: localhost\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nhost: evil.example\r\n",
        "HOST: evil.example\r\nA: b\r\nhost: localhost\r\n",
        "Host: localhost\r\nHost:\r\n",
    ];
    let heads = heads.map(|fields| format!("GET /v1/token/data HTTP/1.1\r\n{fields}\r\n"));
    assert_rejected(&daemon, "bad_request", &heads);
}

#[test]
fn host_is_localhost_or_a_loopback_literal_with_any_port() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    let with_host = |host: &str| format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for host in [
        "localhost",
        "LocalHost",
        "localhost:80",
        "localhost:1",
        "localhost:65535",
        "127.0.0.1",
        "127.0.0.1:8080",
        "127.1.2.3",
        "[::1]",
        "[::1]:443",
    ] {
        let answer = Connection::open(&daemon).exchange(with_host(host));
        assert_eq!(answer.status, 200, "{host}");
    }
    let foreign = [
        "example.com",
        "api.domo.com",
        "localhost.example.com",
        "localhost.localdomain",
        "xlocalhost",
        "local",
        "10.0.0.1",
        "128.0.0.1",
        "0.0.0.0",
        "127.0.0.1.example.com",
        "[::2]",
        "[::]",
        "[fe80::1]",
        "evil.example:80",
    ];
    assert_rejected(&daemon, "forbidden_origin", &foreign.map(with_host));
}

#[test]
fn malformed_host_is_rejected() {
    let (_sandbox, daemon) = sandbox_and_daemon(HOUR);
    for host in [
        "",
        "user@localhost",
        "localhost@evil.example",
        "user:password@localhost",
        "evil.example@127.0.0.1",
        "http://localhost",
        "localhost/",
        "localhost/@x",
        "localhost?x",
        "localhost#x",
        "localhost,localhost",
        "localhost evil.example",
        "localhost:x",
        "localhost:80:80",
        "localhost:-1",
        "localhost:+80",
        "127.0.0.1:x",
        "127.1",
        "0x7f000001",
        "2130706433",
        "::1",
        "[::1",
        "::1]",
        "[::1]]",
        "[[::1]]",
        "[127.0.0.1]",
        "[localhost]",
        "[::1]x",
        "[::1]:x",
        "[::1%25lo]",
        "loc%61lhost",
        "\"localhost\"",
        "localhost\\",
        "local\u{f6}host",
    ] {
        let kind = only_answer(
            &daemon,
            format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        let kinds = ["bad_request", "forbidden_origin"];
        assert!(kinds.contains(&&*kind), "{host:?}: {kind}");
    }
}
