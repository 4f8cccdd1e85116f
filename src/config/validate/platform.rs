//! Rejects keys of the other platform: Unix keys on Windows and the reverse.

use super::Validator;
use crate::config::ConfigError;
use crate::config::parse::RawConfig;

impl Validator<'_> {
    /// Checks the keys, for Windows or for other systems, and returns the pipe's group.
    pub(super) fn platform(
        &self,
        raw: &RawConfig,
        windows: bool,
    ) -> Result<Option<String>, ConfigError> {
        let broker = &raw.broker;
        let pipe_group = broker.pipe_group.as_ref();
        if !windows {
            return match pipe_group {
                Some(group) => {
                    let problem = "named pipes exist only on Windows; use socket_group".to_owned();
                    Err(self.error(Some(group.span()), "broker.pipe_group", problem))
                }
                None => Ok(None),
            };
        }
        let instead = "a pipe has no mode; use pipe_group to admit callers of other users";
        let mode = broker.socket_mode.as_ref().map(toml::Spanned::span);
        let group = broker.socket_group.as_ref().map(toml::Spanned::span);
        let shared = broker.shared_directory.then_some(None);
        let kept = broker.keep_over_restart.map(|_| None);
        let foreign = [
            (mode.map(Some), "broker.socket_mode", instead),
            (group.map(Some), "broker.socket_group", "use pipe_group"),
            (shared, "broker.shared_directory", "a pipe has no directory"),
            (
                kept,
                "broker.keep_over_restart",
                "there is no systemd to store tokens",
            ),
        ];
        for (span, key, problem) in foreign {
            if let Some(span) = span {
                let problem = format!("not supported on Windows: {problem}");
                return Err(self.error(span, key, problem));
            }
        }
        for (name, client) in &raw.clients {
            if client.get_ref().access.is_some() {
                let problem = "not supported on Windows: callers cannot be identified there; every \
                               caller that can open the pipe may have every token";
                let key = format!("clients.{name}.access");
                return Err(self.error(Some(client.span()), &key, problem.to_owned()));
            }
        }
        match pipe_group {
            Some(group) if group.get_ref().is_empty() => {
                let problem = "must be a group's name or its security identifier".to_owned();
                Err(self.error(Some(group.span()), "broker.pipe_group", problem))
            }
            group => Ok(group.map(|group| group.get_ref().clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Naming;

    fn platform(text: &str, windows: bool) -> Result<Option<String>, String> {
        let path = Path::new("config.toml");
        let validator = Validator {
            text,
            path,
            naming: Naming::Keys,
        };
        let raw = RawConfig::parse(text).unwrap();
        validator
            .platform(&raw, windows)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn key_of_another_platform_is_an_error_that_names_the_own_one() {
        for (line, windows, message) in [
            (
                "pipe_group = \"Users\"",
                false,
                "broker.pipe_group: named pipes exist only on Windows; use socket_group",
            ),
            ("socket_mode = \"0660\"", true, "use pipe_group"),
            (
                "socket_group = 7",
                true,
                "broker.socket_group: not supported on Windows: use pipe_group",
            ),
            (
                "shared_directory = true",
                true,
                "broker.shared_directory: not supported on Windows",
            ),
            (
                "keep_over_restart = true",
                true,
                "broker.keep_over_restart: not supported on Windows",
            ),
            ("pipe_group = \"\"", true, "security identifier"),
        ] {
            let text = format!("[broker]\n{line}\n");
            let error = platform(&text, windows).unwrap_err();
            assert!(error.contains(message), "{line}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let text = "[clients.acme.access]\ndata = { users = [\"etl\"] }\n";
        assert!(
            platform(text, true)
                .unwrap_err()
                .contains("clients.acme.access")
        );
        assert_eq!(platform(text, false), Ok(None));
    }

    #[test]
    fn pipe_group_is_used_as_written() {
        let text = "[broker]\npipe_group = \"S-1-5-32-545\"\n";
        assert_eq!(platform(text, true), Ok(Some("S-1-5-32-545".to_owned())));
        assert_eq!(platform("", true), Ok(None));
    }
}
