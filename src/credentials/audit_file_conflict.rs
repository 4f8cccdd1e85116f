//! Checks that the audit file, to which lines are appended, is no file that the daemon reads.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::CredentialsError;
use crate::config::named_path::NamedPath;
use crate::config::{AUDIT_IN_USE, Config};

/// Checks that the audit file is none of the files in use, with links resolved.
pub(super) fn check_is_apart(config: &Config) -> Result<(), CredentialsError> {
    let identity = |path: &PathBuf| {
        let stat = fs::metadata(path).ok()?;
        Some((stat.dev(), stat.ino()))
    };
    let audit = config.audit.file.as_ref();
    let Some((audit, found)) = audit.and_then(|path| Some((path, identity(path)?))) else {
        return Ok(());
    };
    let mut in_use = config.files_in_use().into_iter();
    if !in_use.any(|path| identity(&path) == Some(found)) {
        return Ok(());
    }
    Err(CredentialsError::Unsafe {
        what: "audit.file",
        path: NamedPath::from(audit).shown(),
        problem: AUDIT_IN_USE.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn audit_file_that_links_lead_to_a_file_in_use_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["config.toml", "acme.secret", "audit"] {
            fs::write(at(name), "").unwrap();
        }
        fs::hard_link(at("acme.secret"), at("hard")).unwrap();
        symlink(folder.path(), at("directory")).unwrap();
        let check = |audit: &str| {
            let text = format!(
                "[audit]\nfile = \"{audit}\"\n[clients.acme]\nclient_id = \"acme\"\n\
                 client_secret_file = \"acme.secret\"\ntokens = [\"data\"]\n"
            );
            check_is_apart(&Config::parse(&text, &at("config.toml")).unwrap())
        };
        for audit in ["hard", "directory/config.toml"] {
            let error = check(audit).unwrap_err().to_string();
            assert!(error.starts_with("audit.file /"), "{error}");
            assert!(error.contains("must not be the config"), "{error}");
        }
        for audit in ["audit", "directory/new"] {
            check(audit).unwrap();
        }
    }
}
