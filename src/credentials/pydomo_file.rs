//! pydomo's connection file: an INI file with the section `client_auth`, as pydomo reads it
//! (`Domo(connection_file=…)`, pydomo 0.3.0.13 and later).

#[cfg(all(test, unix))]
mod tests;

use url::Url;
use zeroize::Zeroizing;

use super::checked_file::{self, Readers};
use super::ini::{Ini, IniError};
use super::paste_mistake::has_comment;
use super::secret_text::{check_secret, utf8};
use super::{Credentials, CredentialsError, SECRET, unusable};
use crate::config::named_path::NamedPath;
use crate::config::{Endpoint, is_quoted, validate_id};

const WHAT: &str = "connection file";
const SECTION: &str = "client_auth";

/// The longest file that is read, in bytes. pydomo's example has 150.
const MAX_FILE: usize = 64 * 1024;

/// Reads id and secret. If the file names a host, it must be that of `endpoint`: the secret is sent to no other.
pub(super) fn read(
    path: &NamedPath,
    readers: Readers,
    endpoint: &Endpoint,
) -> Result<Credentials, CredentialsError> {
    let bytes = checked_file::read(path, WHAT, readers, MAX_FILE)?;
    let from = path.shown();
    let found = utf8(&bytes).map_err(|problem| Fault::of_file(problem.to_owned()));
    let found = found.and_then(Connection::read);
    let found = found.and_then(|found| found.checked(&endpoint.url));
    let found = found.map_err(|Fault { line, problem }| {
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        unusable(WHAT, &format!("{from}{line}"), &problem)
    })?;
    Ok(Credentials {
        client_secret: check_secret(found.secret.as_bytes(), SECRET, &from)?,
        client_id: found.client,
    })
}

/// The problem of a file, and its line.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    line: Option<usize>,
    problem: String,
}

impl Fault {
    fn of_file(problem: String) -> Self {
        Self {
            line: None,
            problem,
        }
    }
}

impl From<IniError> for Fault {
    fn from(error: IniError) -> Self {
        Self {
            line: Some(error.line),
            problem: error.problem.to_owned(),
        }
    }
}

/// What pydomo reads from a file.
struct Connection {
    client: String,
    secret: Zeroizing<String>,
    /// Its line and value.
    api_host: Option<(usize, String)>,
    client_line: usize,
}

impl Connection {
    /// Parses a file; an error where pydomo raises one.
    fn read(text: &str) -> Result<Self, Fault> {
        let ini = Ini::parse(text)?;
        if !ini.sections().any(|name| name == SECTION) {
            return Err(Fault::of_file(no_section(&ini)));
        }
        let value = |key: &'static str| {
            let value = ini.get(SECTION, key)?;
            let value = value.filter(|value| !value.is_empty());
            value.ok_or_else(|| Fault::of_file(missing(&ini, key)))
        };
        let (client, secret) = (value("client")?, value("secret")?);
        let line = |key: &str| ini.line_of(SECTION, key).unwrap_or_default();
        let api_host = ini.get(SECTION, "api_host")?;
        // pydomo reads it, too, and fails if it cannot.
        ini.get(SECTION, "use_https")?;
        Ok(Self {
            client: client.to_string(),
            secret,
            api_host: api_host.map(|host| (line("api_host"), host.to_string())),
            client_line: line("client"),
        })
    }

    fn checked(self, token_url: &Url) -> Result<Self, Fault> {
        if let Some(fault) = validate_id(&self.client) {
            return Err(Fault {
                line: Some(self.client_line),
                problem: format!("its client {fault}"),
            });
        }
        if let Some((line, host)) = &self.api_host
            && let Some(fault) = validate_host(host, token_url)
        {
            return Err(Fault {
                line: Some(*line),
                problem: format!("its api_host {fault}"),
            });
        }
        Ok(self)
    }
}

fn no_section(ini: &Ini) -> String {
    let alike = |name: &str| name.trim().eq_ignore_ascii_case(SECTION);
    if ini.sections().any(alike) {
        return format!("the section's name is misspelled; write [{SECTION}]");
    }
    format!("no section [{SECTION}] in it; put client and secret below a line [{SECTION}]")
}

fn missing(ini: &Ini, key: &str) -> String {
    if ini.has(SECTION, key) {
        return format!("its {key} is empty; write {key} = VALUE");
    }
    if ini.continues_another(SECTION, key) {
        return format!(
            "no {key} in its section [{SECTION}], because an indented line continues the value above \
             it; remove the indentation of {key}"
        );
    }
    let other = [format!("client_{key}"), format!("{key}_id")];
    match other.iter().find(|other| ini.has(SECTION, other)) {
        Some(other) => format!("no {key} in its section [{SECTION}]; rename {other} to {key}"),
        None => format!("no {key} in its section [{SECTION}]; add {key} = VALUE"),
    }
}

/// Returns the problem of the host that a file names, if it is not that of `url`.
fn validate_host(written: &str, url: &Url) -> Option<&'static str> {
    if is_host_of(written, url) {
        return None;
    }
    let fault = if written.is_empty() {
        "is empty; remove the key, or write the host"
    } else if is_quoted(written) {
        "is enclosed in quotes, which Python reads as part of the value; remove them"
    } else if has_comment(written) {
        "has a comment after it, which Python reads as part of the value; put the comment on a \
         separate line"
    } else {
        "is not the host of token_url: set token_url = \"https://API_HOST/oauth/token\""
    };
    Some(fault)
}

fn is_host_of(written: &str, url: &Url) -> bool {
    let host = written.split_once("://").map_or(written, |(_, rest)| rest);
    let host = host.trim_end_matches('/');
    let with_port = url
        .port()
        .map(|port| format!("{}:{port}", url.host_str().unwrap_or_default()));
    url.host_str()
        .is_some_and(|name| name.eq_ignore_ascii_case(host))
        || with_port.is_some_and(|name| name.eq_ignore_ascii_case(host))
}
