//! `Dockerfile`, `deploy/` and `docs/containers.md`, as far as they can be tested without containers.

use std::fs::{self};
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::common::namespaces::{Container, can_create_containers};
use crate::common::process::wrapped;
use crate::common::redis::{self, Redis};
use crate::common::{
    CANARY_SECRET, CLIENT_ID, Daemon, HOUR, check, chmod, helper, parts, print_skip, run_to_end,
    sandbox, token,
};
use domo_sandbox::Sandbox;
use tempfile::TempDir;

/// The uid and gid of the image.
const USER: u32 = 65532;

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

const MANIFESTS: [&str; 4] = [
    "deploy/kubernetes/sidecar.yaml",
    "deploy/kubernetes/daemonset.yaml",
    "deploy/kubernetes/sidecar-fleet.yaml",
    "deploy/kubernetes/sidecar-gateway.yaml",
];

/// Returns `config.toml` from the `ConfigMap` of a manifest.
fn config_in(manifest: &str) -> String {
    file_in(manifest, "config.toml")
}

/// Returns a file from the `ConfigMap` of a manifest.
fn file_in(manifest: &str, name: &str) -> String {
    let text = file(manifest);
    let (_, rest) = text.split_once(&format!("  {name}: |\n")).unwrap();
    let indented = |line: &&str| line.is_empty() || line.starts_with("    ");
    let lines = rest.lines().take_while(indented);
    lines
        .map(|line| line.trim_start().to_owned() + "\n")
        .collect()
}

/// Returns the value of the first line with that key.
fn value_in(manifest: &str, key: &str) -> String {
    let text = file(manifest);
    let mut lines = text.lines().map(str::trim);
    lines
        .find_map(|line| line.strip_prefix(key))
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn configs_of_the_manifests_are_valid() {
    for manifest in MANIFESTS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, config_in(manifest)).unwrap();
        let (code, stdout, stderr) = check(&path, &["--syntax"]);
        assert_eq!(code, Some(0), "{manifest}: {stderr}");
        assert!(stdout.contains(": ok"), "{stdout}");
    }
}

/// Returns the rights that lines of a file give to the user of a fleet in its store.
fn rights_in(name: &str) -> Vec<String> {
    let text = file(name);
    let rights = text.lines().filter_map(|line| {
        let (_, rights) = line.split_once(" resetkeys ")?;
        Some(rights.to_owned())
    });
    rights.collect()
}

#[test]
fn documents_give_the_user_of_a_fleet_the_same_rights() {
    let expected = "~domo-token:* resetchannels -@all +get +set +time +pexpire +del";
    for (name, count) in [("docs/fleet.md", 2), ("deploy/kubernetes/README.md", 1)] {
        assert_eq!(rights_in(name), vec![expected; count], "{name}");
    }
}

#[test]
fn sidecar_with_a_fleet_differs_from_the_sidecar_in_its_schedule_and_its_fleet() {
    let lines = |name| -> Vec<String> {
        let text = file(name);
        let lines = text.lines().map(|line| line.trim().to_owned());
        lines.filter(|line| !line.starts_with('#')).collect()
    };
    let with_fleet = lines(MANIFESTS[2]);
    let mut rest = with_fleet.iter();
    let renamed = [
        ("name: domo-token", "name: domo-token-fleet"),
        ("kind: Job", "kind: CronJob"),
    ];
    for line in lines(MANIFESTS[0]) {
        let renamed = renamed.iter().find(|(name, _)| *name == line);
        let line = renamed.map_or(&*line, |(_, name)| name);
        assert!(rest.any(|other| other == line), "{line}");
    }
    assert!(with_fleet.iter().any(|line| line == "[fleet]"));
}

/// Returns the indented lines of the README of the manifests between two of its texts.
fn commands_between(start: &str, end: &str) -> String {
    let text = file("deploy/kubernetes/README.md");
    let (_, rest) = text.split_once(start).unwrap();
    let (part, _) = rest.split_once(end).unwrap();
    let lines = part.lines().filter_map(|line| line.strip_prefix("    "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn sidecar_with_a_gateway_uses_the_files_that_its_readme_creates() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let commands = commands_between("valid only in its pod", "\nCreate the secrets");
    let daemon = Path::new(env!("CARGO_BIN_EXE_domo-tokend"));
    let programs = daemon.parent().unwrap().display();
    let output = Command::new("sh")
        .args(["-euc", &commands])
        .current_dir(root)
        .env("PATH", format!("{programs}:/usr/bin:/bin"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let secret = root.join("acme.secret");
    fs::write(&secret, CANARY_SECRET).unwrap();
    chmod(&secret, 0o600);
    let gateway = root.join("gateway");
    let config = config_in(MANIFESTS[3])
        .replace("/gateway/", &format!("{}/", gateway.display()))
        .replace("/secrets/acme.secret", secret.to_str().unwrap());
    let path = root.join("config.toml");
    fs::write(&path, config).unwrap();
    let (code, stdout, stderr) = check(&path, &[]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(
        stdout.contains("report") && !stderr.contains("report"),
        "{stdout}{stderr}"
    );
    for name in ["gateway.key", "report.hash", "report.secret"] {
        assert!(gateway.join(name).is_file(), "{name}");
        let readme = file("deploy/kubernetes/README.md");
        assert!(
            readme.contains(&format!("gateway/{name} "))
                || readme.contains(&format!("gateway/{name}\n"))
        );
    }
}

#[test]
fn sidecar_with_a_gateway_hides_the_files_of_the_broker_from_the_job() {
    let text = file(MANIFESTS[3]);
    let (broker, job) = text.split_once("      containers:\n").unwrap();
    assert!(broker.contains("memory: 128Mi") && broker.contains("runAsUser: 65532"));
    let (job, _) = job.split_once("      volumes:\n").unwrap();
    assert!(
        !job.contains("volumeMounts") && !job.contains("65532"),
        "{job}"
    );
    assert!(job.contains("value: 127.0.0.1:8640"));
}

/// Runs the commands of the README of the manifests that create a password, a user and certificates. Returns false if
/// a program for them is missing.
fn create_secrets_of_the_store(folder: &Path) -> bool {
    let version = Command::new("openssl").arg("version").output();
    if version.is_err() {
        print_skip("openssl is not installed");
        return false;
    }
    let commands = commands_between("\nCreate a password", "\nCreate the secrets");
    let mut shell = Command::new("sh");
    shell.args(["-euc", &commands]).current_dir(folder);
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    true
}

#[test]
fn store_of_the_manifest_serves_the_user_that_its_readme_creates() {
    let folder = tempfile::tempdir().unwrap();
    if !redis::is_installed() || !create_secrets_of_the_store(folder.path()) {
        return;
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tls_port = redis::free_port().to_string();
    let config = file_in("deploy/kubernetes/store.yaml", "redis.conf");
    let config = config
        .replace("port 0\n", "")
        .replace("tls-port 6379", &format!("tls-port {tls_port}"))
        .replace("/tls/", &path(""))
        .replace("/users/", &path(""));
    let server = Redis::start(&config);
    let password = fs::read_to_string(path("redis.password")).unwrap();
    let ca = path("redis-ca.pem");
    let encrypted = [
        "-p",
        &tls_port,
        "--tls",
        "--cacert",
        &ca,
        "--sni",
        "domo-store",
    ];
    let login = [
        "--user",
        "domo-token",
        "--pass",
        password.trim(),
        "--no-auth-warning",
    ];
    let write = ["SET", "domo-token:probe:1", "x", "NX", "PX", "5000"];
    let answer = server.cli(&[&encrypted[..], &login, &write].concat());
    assert_eq!(answer, "OK");
    let answer = server.cli(&[&encrypted[..], &login, &["KEYS", "*"]].concat());
    assert!(answer.contains("NOPERM"), "{answer}");
    assert!(server.cli(&write).contains("NOAUTH"));
    let verified = Command::new("openssl")
        .args(["verify", "-verify_hostname", "domo-store", "-CAfile", &ca])
        .arg(path("tls.crt"))
        .output();
    let verified = verified.unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn image_sets_no_config_path_so_that_the_environment_configures_it() {
    let image = file("Dockerfile");
    assert!(image.contains("DOMO_TOKEN_SOCKET=") && !image.contains("DOMO_TOKEN_CONFIG"));
}

/// A pod's volumes, in the layout of the kubelet.
struct Pod {
    folder: TempDir,
    _sandbox: Sandbox,
}

impl Pod {
    /// Creates the volumes with a secret of `owner` and `mode`, and the sidecar's config after `change`.
    fn new(owner: (u32, u32), mode: u32, change: impl Fn(String) -> String) -> Self {
        let sandbox = sandbox(HOUR);
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        chmod(root, 0o755);
        let secrets = root.join("secrets");
        fs::create_dir(&secrets).unwrap();
        chmod(&secrets, 0o1777);
        let data = secrets.join("..2026_01_01");
        fs::create_dir(&data).unwrap();
        chmod(&data, 0o755);
        let secret = data.join("acme.secret");
        fs::write(&secret, CANARY_SECRET).unwrap();
        chmod(&secret, mode);
        chown(&secret, Some(owner.0), Some(owner.1)).unwrap();
        symlink("..2026_01_01", secrets.join("..data")).unwrap();
        symlink("..data/acme.secret", secrets.join("acme.secret")).unwrap();
        let socket = root.join("socket");
        fs::create_dir(&socket).unwrap();
        chmod(&socket, 0o777);
        let config = config_in(MANIFESTS[0])
            .replace("/run/domo-token", socket.to_str().unwrap())
            .replace("/secrets/", &format!("{}/", secrets.display()));
        let url = format!(
            "token_url = \"{}\"\nallow_http_loopback = true\n",
            sandbox.token_url()
        );
        assert!(config.contains(CLIENT_ID));
        fs::write(root.join("config.toml"), change(config) + &url).unwrap();
        Self {
            folder,
            _sandbox: sandbox,
        }
    }

    /// The image's command as the image's user.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
        command.env_clear().uid(USER).gid(USER).current_dir("/");
        command.env("DOMO_TOKEN_CONFIG", self.folder.path().join("config.toml"));
        command
    }

    /// Runs both containers: the broker and the probe in the first, a caller in the second.
    fn assert_runs(self) {
        let socket = self.folder.path().join("socket/broker.sock");
        let probe: Vec<String> = serde_json::from_str(&value_in(MANIFESTS[0], "command:")).unwrap();
        assert_eq!(probe[0], "domo-token");
        let probe: Vec<&str> = probe[1..].iter().map(String::as_str).collect();
        // Its first process survives a change of user, and all others end with it.
        let user = USER.to_string();
        let as_user = [
            "setpriv",
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
        ];
        let broker = wrapped(&as_user, &self.command());
        let broker = wrapped(&["sh", "-c", "\"$@\" & wait", "sh"], &broker);
        let daemon = Daemon::start_as(Container::Pid.command(0, &broker), self.folder);
        for container in Container::ALL {
            let caller = container.command(USER, &helper(&socket, &["data"]));
            token(&{ caller }.output().unwrap());
        }
        let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
        let first = fs::read_to_string(children).unwrap();
        let enter = ["nsenter", "--target", first.trim(), "--pid", "--mount"];
        let probe = wrapped(&as_user, &helper(&socket, &probe));
        let probe = wrapped(&enter, &probe).output().unwrap();
        assert_eq!(parts(&probe).0, Some(0));
    }
}

#[test]
fn sidecar_serves_a_caller_from_volumes_laid_out_like_the_kubelets() {
    if !can_create_containers() {
        return;
    }
    assert_eq!(value_in(MANIFESTS[0], "defaultMode:"), "0440");
    for key in ["runAsUser:", "runAsGroup:", "fsGroup:"] {
        assert_eq!(value_in(MANIFESTS[0], key), USER.to_string());
    }
    Pod::new((0, USER), 0o440, |config| config).assert_runs();
}

#[test]
fn world_readable_secret_requires_allow_world_readable_secret() {
    if !can_create_containers() {
        return;
    }
    let pod = Pod::new((0, 0), 0o444, |config| config);
    let (code, stderr) = run_to_end(pod.command());
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("acme.secret"), "{stderr}");
    let consent = |config| config + "allow_world_readable_secret = true\n";
    Pod::new((0, 0), 0o444, consent).assert_runs();
}

#[test]
fn world_writable_volume_requires_shared_directory() {
    if !can_create_containers() {
        return;
    }
    let pod = Pod::new((0, USER), 0o440, |config| {
        config.replace("shared_directory = true", "")
    });
    let (code, stderr) = run_to_end(pod.command());
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("socket"), "{stderr}");
}

#[test]
fn image_uses_the_toolchain_of_the_project_and_existing_files() {
    let image = file("Dockerfile");
    let toolchain = file("rust-toolchain.toml");
    let channel = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "));
    let channel = channel.unwrap().trim_matches('"');
    assert!(image.contains(&format!("FROM rust:{channel}-")));
    assert!(image.contains(&format!("RUSTUP_TOOLCHAIN={channel}\n")));
    assert!(image.contains(&format!("USER {USER}:{USER}\n")));
    let build = file("packaging/build");
    for program in ["domo-tokend", "domo-token"] {
        assert!(image.contains(&format!("/src/target/package/{program} ")));
        assert!(build.contains(program));
    }
}
