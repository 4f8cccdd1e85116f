//! `domo-tokend app`: the secrets of the gateway's applications.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use domo_token::credentials::SecretHash;

use crate::common::service::{SERVICE, with_service_user};
use crate::common::{HOUR, chmod, config_text, folder, mode, parts, sandbox};

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    command.env_clear().arg("app").args(words);
    command.arg("--config").arg(folder.join("config.toml"));
    command
}

fn run(folder: &Path, words: &[&str]) -> Output {
    command(folder, words).output().unwrap()
}

/// Returns standard output and standard error of a command that succeeds.
#[track_caller]
fn done(folder: &Path, words: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = parts(&run(folder, words));
    assert_eq!(code, Some(0), "{words:?}: {stderr}");
    (stdout, stderr)
}

/// Returns the message of a command that fails with this exit code and prints nothing else.
#[track_caller]
fn failed(folder: &Path, words: &[&str], expected: i32) -> String {
    let (code, stdout, stderr) = parts(&run(folder, words));
    assert_eq!(
        (code, &*stdout),
        (Some(expected), ""),
        "{words:?}: {stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

/// Returns the secret that a command prints.
#[track_caller]
fn secret(stdout: &str) -> &str {
    let secret = stdout.strip_suffix('\n').unwrap();
    assert_eq!(secret.len(), 64, "{stdout}");
    assert!(secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
    secret
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Returns what a hash file must contain for these secrets.
fn hashes(secrets: &[&str]) -> String {
    let lines = secrets.iter();
    let lines: Vec<String> = lines
        .map(|secret| format!("{}\n", SecretHash::of(secret.as_bytes())))
        .collect();
    lines.concat()
}

/// Adds the table that a command has printed to the config.
fn add_table(folder: &Path, stderr: &str) {
    let config = folder.join("config.toml");
    let start = stderr.find("\n\n[gateway").unwrap();
    let end = stderr.rfind("]\n\n").unwrap() + 2;
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config, text + &stderr[start..end]).unwrap();
}

#[test]
fn app_add_prints_the_secret_alone_and_the_table_that_completes_the_config() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let folder = folder.path();
    let before = fs::read(folder.join("config.toml")).unwrap();
    let (stdout, stderr) = done(folder, &["add", "etl"]);
    let secret = secret(&stdout);
    assert!(!stderr.contains(secret), "{stderr}");
    assert_eq!(fs::read(folder.join("config.toml")).unwrap(), before);
    let (hash, key) = (folder.join("etl.hash"), folder.join("gateway.key"));
    assert_eq!(fs::read_to_string(&hash).unwrap(), hashes(&[secret]));
    assert_eq!((mode(&hash), mode(&key)), (0o640, 0o600));
    assert_eq!(fs::read(&key).unwrap().len(), 32);
    assert!(
        stderr.contains("the id \"etl\", this secret, and the host 127.0.0.1:8640"),
        "{stderr}"
    );
    add_table(folder, &stderr);
    let (code, stdout, stderr) = crate::common::check(&folder.join("config.toml"), &[]);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    let line = "application \"etl\" (client \"acme\"): ok, 1 secret\n";
    assert!(stdout.ends_with(line), "{stdout}");
    assert!(
        stdout.contains("gateway (127.0.0.1:8640): ok\n"),
        "{stdout}"
    );
    let kept = fs::read(&key).unwrap();
    let (_, stderr) = done(folder, &["add", "bi"]);
    assert_eq!(fs::read(&key).unwrap(), kept);
    assert!(
        !stderr.contains("[gateway]\n") && stderr.contains("[gateway.apps.bi]"),
        "{stderr}"
    );
    add_table(folder, &stderr);
    let (code, _, stderr) = crate::common::check(&folder.join("config.toml"), &[]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert_eq!(
        names(folder),
        [
            "acme.secret",
            "bi.hash",
            "config.toml",
            "etl.hash",
            "gateway.key"
        ]
    );
}

#[test]
fn app_with_a_secret_is_rotated_and_not_added_again() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let folder = folder.path();
    let hash = || fs::read_to_string(folder.join("etl.hash")).unwrap();
    let message = failed(folder, &["rotate", "etl"], 78);
    assert!(
        message.contains("has no secret; create one: domo-tokend app add etl --config "),
        "{message}"
    );
    let (first, _) = done(folder, &["add", "etl"]);
    let message = failed(folder, &["add", "etl"], 78);
    assert!(
        message.contains(": domo-tokend app rotate etl --config "),
        "{message}"
    );
    assert_eq!(hash(), hashes(&[secret(&first)]));
    let (second, stderr) = done(folder, &["rotate", "etl"]);
    assert_eq!(hash(), hashes(&[secret(&first), secret(&second)]));
    assert!(
        stderr.contains("end the rotation: domo-tokend app rotate --finish etl"),
        "{stderr}"
    );
    assert!(!stderr.contains("no longer valid"), "{stderr}");
    let (third, stderr) = done(folder, &["rotate", "etl"]);
    assert_eq!(hash(), hashes(&[secret(&second), secret(&third)]));
    assert!(
        stderr.contains("the oldest of the three secrets is no longer valid"),
        "{stderr}"
    );
    let (stdout, _) = done(folder, &["rotate", "--finish", "etl"]);
    assert_eq!((&*stdout, hash()), ("", hashes(&[secret(&third)])));
    let (_, stderr) = done(folder, &["rotate", "--finish", "etl"]);
    assert!(stderr.contains("one secret already"), "{stderr}");
    assert_eq!(mode(folder.join("etl.hash")), 0o640);
}

#[test]
fn removed_app_has_an_empty_file_and_can_be_added_again() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let folder = folder.path();
    let message = failed(folder, &["remove", "etl"], 78);
    assert!(
        message.contains("application \"etl\" has no secret"),
        "{message}"
    );
    let (_, stderr) = done(folder, &["add", "etl"]);
    add_table(folder, &stderr);
    let (stdout, stderr) = done(folder, &["remove", "etl"]);
    assert_eq!(stdout, "");
    assert!(
        stderr.contains("its table [gateway.apps.etl] in "),
        "{stderr}"
    );
    assert_eq!(fs::read(folder.join("etl.hash")).unwrap(), b"");
    let (_, stderr) = done(folder, &["remove", "etl"]);
    assert!(stderr.contains("is removed already"), "{stderr}");
    let (code, stdout, stderr) = crate::common::check(&folder.join("config.toml"), &[]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert!(
        stdout.contains("application \"etl\" (client \"acme\"): removed\n"),
        "{stdout}"
    );
    failed(folder, &["rotate", "etl"], 78);
    let (again, stderr) = done(folder, &["add", "etl"]);
    assert_eq!(
        fs::read_to_string(folder.join("etl.hash")).unwrap(),
        hashes(&[secret(&again)])
    );
    assert!(
        stderr.contains("a running daemon applies this by itself"),
        "{stderr}"
    );
    assert!(!stderr.contains("[gateway"), "{stderr}");
}

#[test]
fn secret_that_cannot_be_printed_is_not_stored() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let folder = folder.path();
    let full = |words: &[&str]| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(folder, words).stdout(full).output().unwrap();
        let (code, _, stderr) = parts(&output);
        assert_eq!(code, Some(74), "{stderr}");
        assert!(
            stderr.contains("nothing was changed: cannot write to standard output"),
            "{stderr}"
        );
    };
    full(&["add", "etl"]);
    assert_eq!(names(folder), ["acme.secret", "config.toml", "gateway.key"]);
    let (first, _) = done(folder, &["add", "etl"]);
    full(&["rotate", "etl"]);
    full(&["list"]);
    let hash = fs::read_to_string(folder.join("etl.hash")).unwrap();
    assert_eq!(hash, hashes(&[secret(&first)]));
    assert_eq!(names(folder).len(), 4);
}

#[test]
fn secret_file_is_created_private_and_never_overwritten() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let folder = folder.path();
    let file = folder.join("etl.secret");
    let path = file.to_str().unwrap();
    let (stdout, stderr) = done(folder, &["add", "etl", "--secret-file", path]);
    assert_eq!((&*stdout, mode(&file)), ("", 0o600));
    let written = fs::read_to_string(&file).unwrap();
    let hash = fs::read_to_string(folder.join("etl.hash")).unwrap();
    assert_eq!(hash, hashes(&[secret(&written)]));
    assert!(
        stderr.contains(&format!("the secret in {path}")),
        "{stderr}"
    );
    for words in [["rotate", "etl"], ["add", "bi"]] {
        let message = failed(folder, &[words[0], words[1], "--secret-file", path], 78);
        assert!(
            message.contains("already exists and is not overwritten"),
            "{message}"
        );
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
    assert_eq!(fs::read_to_string(folder.join("etl.hash")).unwrap(), hash);
    assert_eq!(names(folder).len(), 5);
}

#[test]
fn app_list_shows_each_application_with_its_state() {
    let sandbox = sandbox(HOUR);
    let folder = folder(&config_text(&sandbox, "[\"data\"]"));
    let folder = folder.path();
    let (stdout, stderr) = done(folder, &["list"]);
    assert_eq!(stdout, "");
    assert!(
        stderr.starts_with("no application; add one: domo-tokend app add NAME --config "),
        "{stderr}"
    );
    let (_, stderr) = done(folder, &["add", "etl"]);
    add_table(folder, &stderr);
    done(folder, &["rotate", "etl"]);
    let (_, stderr) = done(folder, &["add", "report.daily"]);
    add_table(folder, &stderr);
    done(folder, &["remove", "report.daily"]);
    done(folder, &["add", "old"]);
    let (_, stderr) = done(folder, &["add", "bi"]);
    add_table(folder, &stderr);
    fs::remove_file(folder.join("bi.hash")).unwrap();
    fs::write(folder.join("bad.hash"), "c4nary\n").unwrap();
    let (stdout, stderr) = done(folder, &["list"]);
    assert_eq!(stderr, "");
    let path = folder.join("bad.hash");
    let expected = format!(
        "NAME          CLIENT  SECRETS  STATE\n\
         bad           -       ?        secret_hash_file {}: line 1 is not a SHA-256 hash in hexadecimal; \
         remove the file, then run: domo-tokend app add bad\n\
         bi            acme    0        no hash file\n\
         etl           acme    2        active\n\
         old           -       1        not in the config\n\
         report.daily  acme    0        removed\n",
        path.display()
    );
    assert_eq!(
        stdout.replace(" from ", " "),
        expected.replace(" from ", " ")
    );
}

#[test]
fn app_uses_the_files_that_its_table_names() {
    let sandbox = sandbox(HOUR);
    let config = config_text(&sandbox, "[\"data\"]");
    let folder = folder(&format!(
        "{config}[gateway]\nlisten = \"127.0.0.1:1\"\nkey_file = \"sub/host.key\"\n[gateway.apps.etl]\n\
         client = \"acme\"\nsecret_hash_file = \"sub/link\"\n\
         allow = [{{ methods = [\"*\"], path = \"/v1/**\", scopes = \"data\" }}]\n"
    ));
    let folder = folder.path();
    let sub = folder.join("sub");
    let message = failed(folder, &["add", "etl"], 78);
    assert!(
        message.contains("host.key: No such file or directory"),
        "{message}"
    );
    fs::create_dir(&sub).unwrap();
    fs::write(sub.join("hashes"), "").unwrap();
    chmod(sub.join("hashes"), 0o604);
    std::os::unix::fs::symlink("hashes", sub.join("link")).unwrap();
    let (stdout, _) = done(folder, &["add", "etl"]);
    assert_eq!(names(&sub), ["hashes", "host.key", "link"]);
    let hash = fs::read_to_string(sub.join("hashes")).unwrap();
    assert_eq!(hash, hashes(&[secret(&stdout)]));
    assert_eq!(mode(sub.join("hashes")), 0o604);
    fs::write(sub.join("host.key"), "short").unwrap();
    let message = failed(folder, &["rotate", "etl"], 78);
    assert!(message.contains("must have 32 random bytes"), "{message}");
    assert_eq!(fs::read_to_string(sub.join("hashes")).unwrap(), hash);
}

#[test]
fn app_without_a_usable_config_or_name_exits_78() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let message = failed(folder, &["list"], 78);
    assert!(
        message.contains("config.toml: No such file or directory"),
        "{message}"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_domo-tokend"));
    let output = command.env_clear().args(["app", "list"]).output().unwrap();
    let (code, _, stderr) = parts(&output);
    if !Path::new("/etc/domo-token/config.toml").exists() {
        assert_eq!(code, Some(78));
        assert_eq!(
            stderr,
            "domo-tokend: no config file, which a gateway requires; create it: domo-tokend init\n"
        );
    }
    let sandbox = sandbox(HOUR);
    fs::write(
        folder.join("config.toml"),
        config_text(&sandbox, "[\"data\"]"),
    )
    .unwrap();
    for name in ["a:b", "", "../etl"] {
        let message = failed(folder, &["add", name], 78);
        assert!(
            message.contains("an application's name has 1 to 64 letters"),
            "{message}"
        );
    }
    assert_eq!(failed(folder, &["add", "e\u{301}"], 78).lines().count(), 1);
    fs::write(folder.join("config.toml"), "[gateway]\n").unwrap();
    let message = failed(folder, &["add", "etl"], 78);
    assert!(message.contains("config.toml"), "{message}");
    assert_eq!(names(folder), ["config.toml"]);
}

#[test]
fn app_as_root_writes_files_that_the_service_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_domo-tokend");
    let script = format!(
        "umask 077 && echo secret | {program} init --offline --client-id id --name acme && \
         {program} app add etl 2>/etc/notes >/dev/null && {program} app rotate etl >/dev/null && \
         sed -n '/^.gateway/,/^]$/p' /etc/notes >> /etc/domo-token/config.toml && \
         cat /etc/notes && stat -c '%a %u:%g %n' /etc/domo-token/* && {program} check"
    );
    let Some(output) = with_service_user(folder.path(), &script) else {
        return;
    };
    let (code, stdout, stderr) = parts(&output);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    for line in [
        "wrote /etc/domo-token/gateway.key (mode 0640, group domo-token)\n",
        "wrote /etc/domo-token/etl.hash (mode 0640, group domo-token)\n",
        &format!("640 0:{SERVICE} /etc/domo-token/etl.hash\n"),
        &format!("640 0:{SERVICE} /etc/domo-token/gateway.key\n"),
        "checked as the service's user domo-token\n",
        "application \"etl\" (client \"acme\"): ok, 2 secrets\n",
    ] {
        assert!(stdout.contains(line), "{line} in {stdout}");
    }
}
