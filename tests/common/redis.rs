//! Real servers that speak the Redis protocol: alone, with a replica and sentinels, or as a cluster of two.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::process::{KillOnDrop, send_signal};
use super::wait::until;
use super::{chmod, print_skip};

/// The name by which sentinels know the master.
pub(crate) const SERVICE: &str = "mymaster";

/// The user of [`acl_line`].
pub(crate) const USER: &str = "domo-token";

/// How often a start is repeated with another port, because another process took the first one.
const STARTS: usize = 5;

/// Returns whether the programs are installed. Prints a notice if not.
pub(crate) fn is_installed() -> bool {
    let mut version = Command::new("redis-server");
    let found = version.arg("--version").stdout(Stdio::null()).status();
    let is_installed = found.is_ok_and(|status| status.success());
    if !is_installed {
        print_skip("redis-server is not installed");
    }
    is_installed
}

/// Returns the line of a config that lets [`USER`] do what the documentation recommends, and nothing else.
pub(crate) fn acl_line(password: &str) -> String {
    format!(
        "user {USER} on >{password} resetkeys ~domo-token:* resetchannels -@all +get +set +time +pexpire +del\n"
    )
}

/// A server with its own folder; killed when dropped.
pub(crate) struct Redis {
    child: KillOnDrop,
    port: u16,
    is_tls: bool,
    /// Of its default user.
    password: Option<String>,
    folder: TempDir,
}

impl Redis {
    /// Starts a server with these lines of config besides the port's.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config, false, &[])
    }

    /// Starts a server that accepts only TLS, with a certificate for localhost and 127.0.0.1 by the CA of its
    /// `ca.pem`. Clients need one by the same CA, as `client.pem` with `client.key` is.
    pub(crate) fn start_tls(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_certificates(folder.path());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n{config}",
            path("server.pem"),
            path("server.key"),
            path("ca.pem")
        );
        Self::start_in(folder, &config, true, &[])
    }

    fn start_in(folder: TempDir, config: &str, is_tls: bool, arguments: &[&str]) -> Self {
        let password = config
            .lines()
            .find_map(|line| line.strip_prefix("requirepass "));
        for _ in 0..STARTS {
            let port = free_port();
            let port_lines = if is_tls {
                format!("port 0\ntls-port {port}\n")
            } else {
                format!("port {port}\n")
            };
            let dir = folder.path().display();
            let text = format!(
                "bind 127.0.0.1\nsave \"\"\ndir {dir}\nlogfile {dir}/log\n{port_lines}{config}\n"
            );
            fs::write(folder.path().join("redis.conf"), text).unwrap();
            if let Some(child) = spawn(folder.path(), arguments) {
                return Self {
                    child,
                    port,
                    is_tls,
                    password: password.map(str::to_owned),
                    folder,
                };
            }
        }
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("redis-server does not start: {log}");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns host and port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.address())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the path of a file in its folder, such as `dump.rdb` or `ca.pem`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Ends it in an orderly way.
    pub(crate) fn stop(&mut self) {
        send_signal(self.pid(), "-TERM");
        self.child.wait().unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9));
    }

    /// Starts it again after its end, on the same port and with the config as it is in the file.
    pub(crate) fn restart(&mut self) {
        fs::remove_file(self.path("log")).unwrap();
        let child = spawn(self.folder.path(), &[]);
        self.child = child.expect("its port was taken");
    }

    /// Stops all its threads until [`Redis::resume`]; connections to it stay open.
    pub(crate) fn pause(&self) {
        send_signal(self.pid(), "-STOP");
    }

    pub(crate) fn resume(&self) {
        send_signal(self.pid(), "-CONT");
    }

    /// Returns a command of redis-cli for it, as its default user.
    pub(crate) fn cli_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["--raw", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if self.is_tls {
            command.arg("--tls");
            for (option, file) in [
                ("--cacert", "ca.pem"),
                ("--cert", "client.pem"),
                ("--key", "client.key"),
            ] {
                command.arg(option).arg(self.path(file));
            }
        }
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        command.args(arguments);
        command
    }

    /// Executes a command on it as its default user, and returns what redis-cli prints.
    #[track_caller]
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = self.cli_command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {stdout} {stderr}");
        stdout
    }

    /// Returns whether it is a master that accepts writes.
    pub(crate) fn is_master(&self) -> bool {
        self.cli(&["ROLE"]).starts_with("master")
    }

    /// Starts a replica of it, and waits until it has its data.
    pub(crate) fn replica(&self, config: &str) -> Redis {
        let config = format!("replicaof 127.0.0.1 {}\n{config}", self.port);
        let replica = Redis::start(&config);
        until(|| {
            let role = replica.cli(&["ROLE"]);
            role.contains("\nconnected\n").then_some(()).ok_or(role)
        });
        replica
    }
}

/// A master, its replica, and three sentinels that watch them.
pub(crate) struct Sentinels {
    pub(crate) sentinels: Vec<Redis>,
    /// The server that is the master at first, and the one that is then its replica.
    pub(crate) servers: [Redis; 2],
}

impl Sentinels {
    /// Starts them with these lines of config in the servers', and these in the sentinels'.
    pub(crate) fn start(server_config: &str, sentinel_config: &str) -> Self {
        let config = format!("repl-diskless-sync-delay 0\n{server_config}");
        let master = Redis::start(&config);
        let replica = master.replica(&config);
        let config = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {SERVICE} 500\n\
             sentinel failover-timeout {SERVICE} 2000\n{sentinel_config}",
            master.port
        );
        let start = || {
            let folder = tempfile::tempdir().unwrap();
            Redis::start_in(folder, &config, false, &["--sentinel"])
        };
        let sentinels: Vec<Redis> = (0..3).map(|_| start()).collect();
        let all = Self {
            sentinels,
            servers: [master, replica],
        };
        // A failover needs a majority, and a replica to promote.
        for sentinel in &all.sentinels {
            until(|| {
                let seen = sentinel.cli(&["INFO", "sentinel"]);
                let is_complete = seen.contains("slaves=1,sentinels=3");
                is_complete.then_some(()).ok_or(seen)
            });
        }
        all
    }

    /// Returns the addresses of the sentinels as a list in TOML.
    pub(crate) fn toml(&self) -> String {
        let addresses: Vec<String> = self.sentinels.iter().map(Redis::address).collect();
        format!("{addresses:?}")
    }

    /// Returns which of the servers the sentinels name.
    pub(crate) fn master(&self) -> usize {
        let named = self.sentinels[0].cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
        let port = named.lines().last().unwrap_or_default().to_owned();
        let mut servers = self.servers.iter();
        let found = servers.position(|server| server.port.to_string() == port);
        found.unwrap_or_else(|| panic!("{named}"))
    }

    /// Waits until all sentinels name this server, and it accepts writes.
    pub(crate) fn wait_for_master(&self, server: usize) {
        let port = self.servers[server].port.to_string();
        for sentinel in &self.sentinels {
            until(|| {
                let named = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
                named.ends_with(&port).then_some(()).ok_or(named)
            });
        }
        until(|| {
            let is_master = self.servers[server].is_master();
            is_master.then_some(()).ok_or("is no master yet")
        });
    }
}

/// Two nodes of a cluster, each with half of the slots.
pub(crate) struct Cluster {
    pub(crate) nodes: [Redis; 2],
}

impl Cluster {
    pub(crate) fn start(config: &str) -> Self {
        let node = || {
            let bus = free_port();
            Redis::start(&format!(
                "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-port {bus}\n{config}"
            ))
        };
        let nodes = [node(), node()];
        nodes[0].cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
        nodes[1].cli(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
        nodes[1].cli(&["CLUSTER", "SET-CONFIG-EPOCH", "2"]);
        let bus = nodes[1].cli(&["CONFIG", "GET", "cluster-port"]);
        let bus = bus.lines().last().unwrap();
        let port = nodes[1].port.to_string();
        nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]);
        for node in &nodes {
            until(|| {
                let info = node.cli(&["CLUSTER", "INFO"]);
                let is_complete = info.contains("cluster_state:ok")
                    && info.contains("cluster_slots_assigned:16384");
                is_complete.then_some(()).ok_or(info)
            });
        }
        Self { nodes }
    }

    /// Returns which node has a key.
    pub(crate) fn node_of(&self, key: &str) -> usize {
        let slot: u16 = self.nodes[0]
            .cli(&["CLUSTER", "KEYSLOT", key])
            .parse()
            .unwrap();
        usize::from(slot > 8191)
    }
}

/// Returns a port that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts a server with the config in its folder. Returns `None` if it ends, as it does if its port is taken.
fn spawn(folder: &Path, arguments: &[&str]) -> Option<KillOnDrop> {
    let log = folder.join("log");
    let mut command = Command::new("redis-server");
    command.arg(folder.join("redis.conf")).args(arguments);
    command.stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = KillOnDrop(command.spawn().unwrap());
    let is_started = until(|| {
        if child.try_wait().unwrap().is_some() {
            return Ok(false);
        }
        let text = fs::read_to_string(&log).unwrap_or_default();
        // A sentinel reports its id instead.
        let is_ready =
            text.contains("Ready to accept connections") || text.contains("Sentinel ID is");
        is_ready.then_some(true).ok_or(text)
    });
    is_started.then_some(child)
}

/// Writes a CA, and a key and a certificate by it for a server and for a client.
fn write_certificates(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = format!("CA of {}", folder.display());
    authority
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        chmod(&path, 0o600);
    };
    write("ca.pem", &authority.pem());
    for name in ["server", "client"] {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        write(&format!("{name}.pem"), &certificate.pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
}
