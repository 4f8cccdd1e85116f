//! The table of `app list`.

use std::collections::BTreeMap;
use std::fs;

use super::{AppError, Apps, Print, read_secrets};
use crate::config::named_path::NamedPath;
use crate::config::{HASH_FILE_END, validate_name};

/// The state of an application whose secrets are valid.
const ACTIVE: &str = "active";

impl Apps<'_> {
    /// Prints each application, and returns what else there is to know.
    pub(super) fn list(&self, print: Print) -> Result<String, AppError> {
        let mut rows = BTreeMap::new();
        for app in self.config.gateway.iter().flat_map(|gateway| &gateway.apps) {
            let (name, app) = app;
            let (secrets, state) = state(&app.secret_hash_file, name);
            rows.insert(name.clone(), [app.client.clone(), secrets, state]);
        }
        for name in self.names_of_files() {
            if self.is_configured(&name) {
                continue;
            }
            let (secrets, state) = state(&self.hash_file(&name), &name);
            let state = if state == ACTIVE {
                "not in the config".to_owned()
            } else {
                state
            };
            rows.insert(name, ["-".to_owned(), secrets, state]);
        }
        if rows.is_empty() {
            let add = self.command("add NAME");
            return Ok(format!("no application; add one: {add}\n"));
        }
        print(table(&rows).as_bytes()).map_err(AppError::Stdout)?;
        Ok(String::new())
    }

    /// Returns the names of the hash files beside the config, except those that other applications have.
    fn names_of_files(&self) -> Vec<String> {
        let gateway = self.config.gateway.as_ref();
        let configured = |name: &String| {
            let file = self.hash_file(name);
            let mut apps = gateway.iter().flat_map(|gateway| gateway.apps.values());
            apps.any(|app| app.secret_hash_file == file)
        };
        let directory = match self.directory() {
            directory if directory.as_os_str().is_empty() => ".".as_ref(),
            directory => directory,
        };
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_suffix(HASH_FILE_END)?.to_owned())
        });
        names
            .filter(|name| validate_name(name).is_none() && !configured(name))
            .collect()
    }
}

/// Returns the number of secrets, and what it means.
fn state(file: &NamedPath, name: &str) -> (String, String) {
    match read_secrets(file, name) {
        Ok(None) => ("0".to_owned(), "no hash file".to_owned()),
        Ok(Some(hashes)) => {
            let state = if hashes.is_empty() { "removed" } else { ACTIVE };
            (hashes.len().to_string(), state.to_owned())
        }
        Err(error) => ("?".to_owned(), error.to_string()),
    }
}

fn table(rows: &BTreeMap<String, [String; 3]>) -> String {
    let header = ["NAME", "CLIENT", "SECRETS", "STATE"].map(str::to_owned);
    let rows = rows.iter().map(|(name, [client, secrets, state])| {
        [name.clone(), client.clone(), secrets.clone(), state.clone()]
    });
    let rows: Vec<[String; 4]> = std::iter::once(header).chain(rows).collect();
    let width = |column: fn(&[String; 4]) -> &String| {
        let lengths = rows.iter().map(|row| column(row).len());
        lengths.max().unwrap_or(0)
    };
    let (names, clients) = (width(|[name, ..]| name), width(|[_, client, ..]| client));
    let line = |[name, client, secrets, state]: &[String; 4]| {
        format!("{name:names$}  {client:clients$}  {secrets:7}  {state}\n")
    };
    rows.iter().map(line).collect()
}
