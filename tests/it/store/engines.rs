//! The store on real servers.

use std::sync::Arc;
use std::time::Duration;

use domo_token::connect::Shared;
use domo_token::store::redis::{
    Address, ClientIdentity, Login, Place, Probe, RedisStore, Settings, TlsSettings,
};
use domo_token::store::{Look, Store, StoreError, StoreFailure, StoreSession};
use url::Host;

use crate::common::redis::{Cluster, Redis, SERVICE, Sentinels, USER, acl_line, is_installed};
use crate::common::wait::until;

const NAME: &str = "0123456789abcdef0123456789abcdef";
const LEASE: Duration = Duration::from_secs(5);
const KEEP: Duration = Duration::from_secs(60);
const PASSWORD: &str = "c4nary-redis-password";

fn address(server: &Redis) -> Address {
    Address {
        host: Host::Ipv4([127, 0, 0, 1].into()),
        port: server.port(),
    }
}

fn settings(server: &Redis) -> Settings {
    Settings {
        place: Place::Server(address(server)),
        database: 0,
        tls: None,
        login: None,
        login_keys: "username and password_file",
        prefix: "domo-token".to_owned(),
    }
}

fn with_login(server: &Redis, password: &str) -> Settings {
    Settings {
        login: Some(Login {
            username: Some(USER.to_owned()),
            password: password.into(),
        }),
        ..settings(server)
    }
}

fn read(server: &Redis, file: &str) -> Vec<u8> {
    std::fs::read(server.path(file)).unwrap()
}

fn with_tls(server: &Redis, trusts_ca: bool, identity: bool) -> Settings {
    let ca = (Arc::from(read(server, "ca.pem")), "ca.pem".to_owned());
    Settings {
        tls: Some(TlsSettings {
            ca: trusts_ca.then_some(ca),
            identity: identity.then(|| ClientIdentity {
                certificate_pem: read(server, "client.pem"),
                key_pem: read(server, "client.key").into(),
            }),
        }),
        ..settings(server)
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

fn store(settings: Settings) -> RedisStore {
    RedisStore::new(settings, &Shared::default()).unwrap()
}

/// Executes all operations as a host does that gets a token, then what another host sees.
async fn exercise(store: &RedisStore) -> Result<Look, StoreError> {
    let mut session = store.session(NAME);
    let before = session.look().await?;
    assert!(before.token.is_none() && before.note.is_none());
    session.put_note(b"a note", KEEP).await?;
    assert!(session.claim("one", LEASE).await?);
    assert!(!store.session(NAME).claim("two", LEASE).await?);
    session.extend(LEASE).await?;
    assert!(session.look().await?.note.is_some());
    session.put_token(b"a\0token\r\n", KEEP).await?;
    store.session(NAME).look().await
}

#[track_caller]
fn assert_shared(look: Result<Look, StoreError>) {
    let look = look.unwrap();
    assert_eq!(look.token.unwrap().as_slice(), b"a\0token\r\n");
    assert!(look.note.is_none());
}

fn failure(settings: Settings) -> StoreError {
    let error = block_on(async { store(settings).session(NAME).look().await }).unwrap_err();
    assert!(
        !error.message.contains(PASSWORD) && !error.message.contains(NAME),
        "{error}"
    );
    error
}

fn probe(settings: Settings) -> Result<Probe, StoreError> {
    block_on(async { store(settings).probe().await })
}

#[test]
fn hosts_share_a_token_under_the_recommended_permissions() {
    if !is_installed() {
        return;
    }
    let server = Redis::start(&acl_line(PASSWORD));
    assert_shared(block_on(exercise(&store(with_login(&server, PASSWORD)))));
    let keys = server.cli(&["KEYS", "*"]);
    let mut keys: Vec<&str> = keys.lines().collect();
    keys.sort_unstable();
    let key = |kind: &str| format!("domo-token:{{{NAME}}}:{kind}");
    assert_eq!(keys, [key("lease"), key("token")]);
    let left: u64 = server.cli(&["PTTL", &key("token")]).parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    assert_eq!(server.cli(&["ACL", "LOG"]), "", "a command was denied");
    let probe = probe(with_login(&server, PASSWORD)).unwrap();
    assert!(probe.is_sufficient() && probe.has_login && !probe.is_tls);
    assert!(probe.clock_difference_ms.unwrap().abs() < 1000, "{probe:?}");
    assert_eq!(server.cli(&["KEYS", "*probe*"]), "");
    assert_eq!(server.cli(&["ACL", "LOG"]), "");
}

#[test]
fn login_errors_are_distinguished() {
    if !is_installed() {
        return;
    }
    let denied = "user reader on >c4nary-redis-password ~other:* -@all +get +time\n";
    let server = Redis::start(&format!(
        "{}{denied}requirepass default-password\n",
        acl_line(PASSWORD)
    ));
    let mut reader = with_login(&server, PASSWORD);
    reader.login.as_mut().unwrap().username = Some("reader".to_owned());
    let mut default = with_login(&server, "default-password");
    default.login.as_mut().unwrap().username = None;
    assert_shared(block_on(exercise(&store(default))));
    let mut database = with_login(&server, PASSWORD);
    database.database = 1;
    for (settings, message) in [
        (settings(&server), "requires a login (NOAUTH)"),
        (with_login(&server, "another-password"), "(WRONGPASS)"),
        (
            reader.clone(),
            "does not permit GET (NOPERM); grant it: ACL SETUSER reader ~domo-token:*",
        ),
        (database, "does not permit SELECT (NOPERM)"),
    ] {
        let error = failure(settings);
        assert_eq!(error.cause, StoreFailure::Login);
        assert!(error.message.contains(message), "{error}");
    }
    let found = probe(reader).unwrap();
    let granted: Vec<_> = found
        .permissions
        .iter()
        .filter(|one| one.is_granted)
        .collect();
    assert_eq!(granted.len(), 1, "{found:?}");
    assert_eq!(granted[0].command, "TIME");
}

#[test]
fn login_at_a_server_without_passwords_is_rejected() {
    if !is_installed() {
        return;
    }
    let server = Redis::start("");
    let mut settings = with_login(&server, PASSWORD);
    settings.login.as_mut().unwrap().username = None;
    let error = failure(settings);
    assert_eq!(error.cause, StoreFailure::Login);
    assert!(
        error.message.contains("without any password configured"),
        "{error}"
    );
}

#[test]
fn value_of_another_type_is_a_record_that_does_not_open_and_is_replaced() {
    if !is_installed() {
        return;
    }
    let server = Redis::start("");
    let key = |kind: &str| format!("domo-token:{{{NAME}}}:{kind}");
    server.cli(&["RPUSH", &key("token"), "poison"]);
    server.cli(&["SADD", &key("note"), "poison"]);
    server.cli(&["HSET", &key("lease"), "poison", "1"]);
    let store = store(settings(&server));
    let look = block_on(async {
        let mut session = store.session(NAME);
        let look = session.look().await?;
        assert!(look.token.unwrap().is_empty() && look.note.unwrap().is_empty());
        assert!(!session.claim("id", LEASE).await?, "it is held");
        session.extend(LEASE).await?;
        session.put_note(b"a note", KEEP).await?;
        session.put_token(b"a\0token\r\n", KEEP).await?;
        session.look().await
    });
    assert_shared(look);
}

#[test]
fn database_is_selected() {
    if !is_installed() {
        return;
    }
    let server = Redis::start("");
    let database = Settings {
        database: 3,
        ..settings(&server)
    };
    assert_shared(block_on(exercise(&store(database))));
    assert_eq!(server.cli(&["DBSIZE"]), "0");
    assert_eq!(server.cli(&["-n", "3", "DBSIZE"]), "2");
}

#[test]
fn tls_verifies_both_sides() {
    if !is_installed() {
        return;
    }
    let server = Redis::start_tls("");
    assert_shared(block_on(exercise(&store(with_tls(&server, true, true)))));
    assert!(probe(with_tls(&server, true, true)).unwrap().is_tls);
    let mut by_name = with_tls(&server, true, true);
    by_name.place = Place::Server(Address {
        host: Host::Domain("localhost".to_owned()),
        port: server.port(),
    });
    assert!(probe(by_name).unwrap().is_sufficient());
    for (settings, cause, message) in [
        (
            with_tls(&server, false, true),
            StoreFailure::Tls,
            "its certificate was issued by a CA that is not trusted here",
        ),
        (
            with_tls(&server, true, false),
            StoreFailure::Tls,
            "requires a client certificate; set client_certificate_file and client_key_file",
        ),
        (
            settings(&server),
            StoreFailure::Connect,
            "; if it expects TLS, write rediss instead of redis",
        ),
    ] {
        let error = failure(settings);
        assert!(error.message.contains(message), "{error}");
        assert_eq!(error.cause, cause, "{error}");
    }
    let other = Redis::start_tls("");
    let mut stranger = with_tls(&server, true, true);
    let identity = with_tls(&other, true, true).tls.unwrap().identity;
    stranger.tls.as_mut().unwrap().identity = identity;
    let error = failure(stranger);
    assert_eq!(error.cause, StoreFailure::Tls);
    assert!(
        error
            .message
            .contains("does not accept the client certificate"),
        "{error}"
    );
    let plain = Redis::start("");
    let error = failure(Settings {
        tls: with_tls(&server, true, true).tls,
        ..settings(&plain)
    });
    assert!(error.message.contains("TLS"), "{error}");
}

#[test]
fn full_server_is_read_but_not_written() {
    if !is_installed() {
        return;
    }
    let server = Redis::start("maxmemory-policy noeviction\n");
    let store = store(settings(&server));
    assert_shared(block_on(exercise(&store)));
    server.cli(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let look = block_on(async { store.session(NAME).look().await }).unwrap();
    assert!(look.token.is_some());
    let error = block_on(async { store.session(NAME).put_note(b"note", KEEP).await });
    let error = error.unwrap_err();
    assert_eq!(error.cause, StoreFailure::Full, "{error}");
    let error = block_on(async { store.probe().await }).unwrap_err();
    assert_eq!(error.cause, StoreFailure::Full, "{error}");
}

#[test]
fn replica_is_read_but_not_written() {
    if !is_installed() {
        return;
    }
    let master = Redis::start("repl-diskless-sync-delay 0\n");
    assert_shared(block_on(exercise(&store(settings(&master)))));
    let replica = master.replica("");
    let store = store(settings(&replica));
    let look = block_on(async { store.session(NAME).look().await }).unwrap();
    assert!(look.token.is_some());
    let error = block_on(async { store.session(NAME).claim("id", LEASE).await });
    assert_eq!(error.unwrap_err().cause, StoreFailure::ReadOnly);
}

#[test]
fn frozen_server_costs_a_second_and_a_killed_one_nothing() {
    if !is_installed() {
        return;
    }
    let mut server = Redis::start("");
    let store = store(settings(&server));
    block_on(async {
        let mut session = store.session(NAME);
        session.look().await.unwrap();
        server.pause();
        let start = domo_token::platform::clock::boot_now();
        let error = session.look().await.unwrap_err();
        let took = domo_token::platform::clock::boot_now().saturating_since(start);
        assert_eq!(error.cause, StoreFailure::Timeout);
        assert!(took < Duration::from_millis(1500), "{took:?}");
        server.resume();
        session.look().await.unwrap();
        server.kill();
        assert_eq!(
            session.look().await.unwrap_err().cause,
            StoreFailure::Connect
        );
        assert_eq!(
            session.look().await.unwrap_err().cause,
            StoreFailure::Connect
        );
        server.restart();
        session.look().await.unwrap();
    });
}

#[test]
fn connection_ends_with_its_session() {
    if !is_installed() {
        return;
    }
    let server = Redis::start("");
    let store = store(settings(&server));
    let clients = || {
        let info = server.cli(&["INFO", "clients"]);
        let line = info
            .lines()
            .find(|line| line.starts_with("connected_clients:"));
        line.unwrap().trim().to_owned()
    };
    block_on(async {
        let mut session = store.session(NAME);
        session.look().await.unwrap();
        session.look().await.unwrap();
        // One is that of redis-cli.
        assert_eq!(clients(), "connected_clients:2");
        drop(session);
    });
    until(|| {
        let now = clients();
        (now == "connected_clients:1").then_some(()).ok_or(now)
    });
}

#[test]
fn sentinels_lead_to_the_new_master_after_a_failover() {
    if !is_installed() {
        return;
    }
    let mut all = Sentinels::start(&acl_line(PASSWORD), "requirepass s3ntinel-password\n");
    let sentinels = |password: &str| Settings {
        place: Place::Sentinels {
            addresses: all.sentinels.iter().map(address).collect(),
            service: SERVICE.to_owned(),
            password: Some(password.into()),
        },
        ..with_login(&all.servers[0], PASSWORD)
    };
    let store = store(sentinels("s3ntinel-password"));
    let error = failure(sentinels("another"));
    assert_eq!(error.cause, StoreFailure::Login);
    assert!(error.message.contains("sentinel_password_file"), "{error}");
    assert_shared(block_on(exercise(&store)));
    all.servers[0].kill();
    all.wait_for_master(1);
    let look = block_on(async {
        let mut session = store.session(NAME);
        session.put_note(b"note", KEEP).await?;
        session.look().await
    });
    assert!(look.unwrap().note.is_some());
    assert_eq!(all.servers[1].cli(&["DBSIZE"]), "3");
}

#[test]
fn cluster_is_reached_by_any_of_its_nodes() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::start(&acl_line(PASSWORD));
    for (index, node) in cluster.nodes.iter().enumerate() {
        let store = store(with_login(node, PASSWORD));
        assert_shared(block_on(exercise(&store)));
        let probe = block_on(async { store.probe().await }).unwrap();
        assert!(probe.is_sufficient(), "{index}: {probe:?}");
        for node in &cluster.nodes {
            node.cli(&["FLUSHALL"]);
        }
    }
}
