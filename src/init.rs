//! `domo-tokend init`: a first config and secret file, tried against Domo before they are written.

mod next;
mod prompt;

use std::fs::File;
#[cfg(unix)]
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use domo_token_client::scope::ScopeSet;
use secrecy::{ExposeSecret, SecretString};

use crate::check;
use crate::config::{self, Config, ConfigError, Env, usable_id, usable_secret};
use crate::credentials::Credentials;
#[cfg(unix)]
use crate::file_mode;
use crate::schedule::REQUEST_MAX;
use crate::source::domo::{DomoSource, Registration, SourceError};
use crate::source::{FetchError, TokenSource};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Where the config goes; by default where the daemon would look for it.
    pub config: Option<PathBuf>,
    /// The client's name in it.
    pub name: String,
    /// The client id; asked for if it isn't given.
    pub client_id: Option<String>,
    /// The scope sets.
    pub tokens: Vec<String>,
    /// Another endpoint than Domo's own.
    pub token_url: Option<String>,
    /// Whether Domo isn't asked.
    pub offline: bool,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is no place for it.
    #[error(
        "no place for a config: neither an absolute $XDG_CONFIG_HOME nor $HOME is set; name one with --config"
    )]
    NoPlace,
    /// Something is there already.
    #[error(
        "{0} is there already, and nothing is overwritten; edit it, or name another with --config"
    )]
    Exists(PathBuf),
    /// What was given can't be right.
    #[error("{what}: {problem}")]
    Wrong {
        /// What.
        what: &'static str,
        /// Why not.
        problem: String,
    },
    /// It makes no config.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The HTTP client can't be made.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Domo says no.
    #[error("Domo refuses these credentials, nothing was written: {0}")]
    Denied(String),
    /// Domo can't be asked.
    #[error("Domo can't be asked, nothing was written: {0}; --offline writes without asking")]
    Unreachable(String),
    /// A file can't be written.
    #[error("{path}: {source}", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard input can't be read.
    #[error("standard input: {0}")]
    Read(io::Error),
}

impl InitError {
    /// The exit code, of sysexits: 75 if Domo couldn't be reached, else 78.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable(_) => 75,
            Self::NoPlace
            | Self::Exists(_)
            | Self::Wrong { .. }
            | Self::Config(_)
            | Self::Source(_)
            | Self::Denied(_)
            | Self::Write { .. }
            | Self::Read(_) => 78,
        }
    }
}

/// Asks for what is missing, tries it, writes both files, and says what to do next.
///
/// # Errors
///
/// [`InitError`]; then nothing was written that wasn't there before.
pub async fn run(wishes: &Wishes, env: Env<'_>) -> Result<String, InitError> {
    let path = place(wishes, env).ok_or(InitError::NoPlace)?;
    let secret_path = path.with_file_name(format!("{}.secret", wishes.name));
    for path in [&path, &secret_path] {
        if path.symlink_metadata().is_ok() {
            return Err(InitError::Exists(path.clone()));
        }
    }
    let client_id = match &wishes.client_id {
        Some(id) => id.clone(),
        None => prompt::line("Client id (Admin > Authentication > API clients): ")
            .map_err(InitError::Read)?,
    };
    if !usable_id(&client_id) {
        return Err(wrong(
            "client id",
            "empty, too long, or not one word of ASCII",
        ));
    }
    let text = config_text(wishes, &client_id)?;
    let config = Config::parse(&text, &path)?;
    let secret = prompt::hidden("Client secret (not shown): ").map_err(InitError::Read)?;
    if !usable_secret(secret.expose_secret()) {
        return Err(wrong("client secret", "empty, or with a control character"));
    }
    let tried = if wishes.offline {
        "not tried against Domo".to_owned()
    } else {
        attempt(&config, &client_id, &secret).await?
    };
    write(&path, &text, &secret_path, &secret)?;
    Ok(next_steps(wishes, &path, &secret_path, &tried, env))
}

fn wrong(what: &'static str, problem: &str) -> InitError {
    let problem = problem.to_owned();
    InitError::Wrong { what, problem }
}

/// Where the daemon would look first for a config of this user.
fn place(wishes: &Wishes, env: Env) -> Option<PathBuf> {
    #[cfg(unix)]
    let has_own = !rustix::process::geteuid().is_root();
    #[cfg(windows)]
    let has_own = false;
    let usual = if has_own {
        config::own_place
    } else {
        config::host_place
    };
    config::named_place(wishes.config.clone(), env).or_else(|| usual(env))
}

fn config_text(wishes: &Wishes, client_id: &str) -> Result<String, InitError> {
    let name = &wishes.name;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(wrong(
            "--name",
            "a client's name has letters, digits, '_' or '-'",
        ));
    }
    let mut sets = Vec::new();
    for set in &wishes.tokens {
        let parsed = ScopeSet::parse(set).map_err(|error| wrong("--tokens", &error.to_string()))?;
        sets.push(quoted(parsed.as_str()));
    }
    let mut lines = vec![
        "# All keys: domo-tokend check --schema".to_owned(),
        format!("[clients.{name}]"),
        format!("client_id = {}", quoted(client_id)),
        format!("client_secret_file = \"{name}.secret\""),
        format!("tokens = [{}]", sets.join(", ")),
    ];
    if let Some(url) = &wishes.token_url {
        lines.push(format!("token_url = {}", quoted(url)));
        if url.starts_with("http://") {
            lines.push("allow_http_loopback = true".to_owned());
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// As a TOML string; JSON's form is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Asks Domo for a token of each set.
async fn attempt(
    config: &Config,
    client_id: &str,
    secret: &SecretString,
) -> Result<String, InitError> {
    let mut told = Vec::new();
    for client in config.clients.values() {
        let credentials = Credentials {
            client_id: client_id.to_owned(),
            client_secret: secret.clone(),
        };
        let registration = Registration::new(client.endpoint.clone(), credentials, None)?;
        let source = DomoSource::new(registration, None)?;
        for scope in &client.tokens {
            let fetched = source
                .fetch(scope, REQUEST_MAX)
                .await
                .map_err(|error| match error {
                    FetchError::Denied { words, .. } | FetchError::ProxyLogin { words } => {
                        InitError::Denied(words)
                    }
                    FetchError::Transient { words, .. } => InitError::Unreachable(words),
                })?;
            let seconds = fetched.lifetime.as_secs();
            told.push(format!(
                "Domo gave a token for \"{scope}\" that lives {seconds} s"
            ));
        }
    }
    Ok(told.join("\n"))
}

/// Both files or none.
fn write(
    path: &Path,
    text: &str,
    secret_path: &Path,
    secret: &SecretString,
) -> Result<(), InitError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| InitError::Write { path, source }
    };
    let service = check::service_group(path);
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        make_directory(directory, service).map_err(failed(directory))?;
    }
    let secret_mode = service.map_or(0o600, |_| 0o640);
    create(secret_path, secret.expose_secret(), secret_mode, service)
        .map_err(failed(secret_path))?;
    let mode = service.map_or(0o600, |_| 0o644);
    if let Err(error) = create(path, text, mode, None) {
        // A secret that no config names would be in the way of the next try.
        let _removed = std::fs::remove_file(secret_path);
        return Err(failed(path)(error));
    }
    Ok(())
}

/// For us alone, on Windows for whom its parent says; the service's user must find its way into its own.
#[cfg_attr(windows, expect(unused_variables, reason = "modes are Unix's"))]
fn make_directory(directory: &Path, service: Option<u32>) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    #[cfg(windows)]
    std::fs::create_dir_all(directory)?;
    #[cfg(unix)]
    file_mode::create_directories(directory, 0o700)?;
    #[cfg(unix)]
    if service.is_some() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// For us alone from the first instant, then of that mode and group; never in another file's place.
fn create(path: &Path, text: &str, mode: u32, group: Option<u32>) -> io::Result<()> {
    let mut file = create_closed(path)?;
    let written = fill(&mut file, text, mode, group);
    if written.is_err() {
        // Half a file would be in the way of the next try.
        let _removed = std::fs::remove_file(path);
    }
    written
}

#[cfg(unix)]
fn create_closed(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

#[cfg(windows)]
use crate::acl::create_closed;

#[cfg_attr(windows, expect(unused_variables, reason = "modes are Unix's"))]
fn fill(file: &mut File, text: &str, mode: u32, group: Option<u32>) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt, fchown};
        fchown(&*file, None, group)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    file.write_all(text.as_bytes())?;
    file.write_all(if text.ends_with('\n') { b"" } else { b"\n" })
}

fn next_steps(wishes: &Wishes, path: &Path, secret_path: &Path, tried: &str, env: Env) -> String {
    let set = wishes.tokens.first().map_or("data", String::as_str);
    let start = next::commands(path, wishes.config.as_deref(), env).join("\n  ");
    format!(
        "{tried}\nwrote {} and {}\nnext:\n  {start}\n  domo-token {set}\n",
        path.display(),
        secret_path.display()
    )
}
