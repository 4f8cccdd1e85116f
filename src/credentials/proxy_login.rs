//! The login for a client's proxy: one line USER:PASSWORD of a file, used unchanged.

use std::io::{self, ErrorKind};

use secrecy::{ExposeSecret, SecretString};

use super::secret_text::line_in;
use super::{CredentialsError, MAX_SECRET, PasteMistake, checked_file, readers, unusable};
use crate::config::{ClientConfig, NOT_THE_LOGIN};

const WHAT: &str = "proxy login";

/// Reads the login for a client's proxy, if it has one.
///
/// # Errors
///
/// [`CredentialsError`], as for secrets.
pub fn proxy_login(client: &ClientConfig) -> Result<Option<ProxyLogin>, CredentialsError> {
    let login = client.endpoint.proxy_auth_file.as_ref().map(|path| {
        let bytes = checked_file::read(path, WHAT, readers(client), MAX_SECRET);
        let bytes = bytes.map_err(without_login)?;
        login_in(&bytes).map_err(|problem| unusable(WHAT, &path.shown(), &problem))
    });
    login.transpose()
}

/// Hides a possible password in an error about a missing file: the key may have the login instead of a path.
fn without_login(error: CredentialsError) -> CredentialsError {
    match error {
        CredentialsError::Read {
            what, path, source, ..
        } if is_missing(&source) && before_colon(&path).is_some() => CredentialsError::Read {
            what,
            path: format!("{}:…", before_colon(&path).unwrap_or_default()),
            source,
            advice: format!("; {NOT_THE_LOGIN}"),
        },
        other @ (CredentialsError::Read { .. }
        | CredentialsError::Unsafe { .. }
        | CredentialsError::Unusable { .. }
        | CredentialsError::Command { .. }) => other,
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename
    )
}

fn before_colon(path: &str) -> Option<&str> {
    // On Windows a path begins with a drive and a colon.
    let start = if cfg!(windows) { 2 } else { 0 };
    let at = path.get(start..)?.find(':')?;
    path.get(..start + at)
}

fn login_in(bytes: &[u8]) -> Result<ProxyLogin, String> {
    let wrong = |problem: &str| format!("{problem}; must be one line USER:PASSWORD");
    let line = line_in(bytes).map_err(wrong)?;
    let (user, password) = line
        .split_once(':')
        .ok_or_else(|| wrong("no colon in it"))?;
    Ok(ProxyLogin {
        user: user.to_owned(),
        password: password.into(),
    })
}

/// A login for a proxy.
#[derive(Clone, Debug)]
pub struct ProxyLogin {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

impl ProxyLogin {
    /// Returns what is unusual about the line, if anything.
    #[must_use]
    pub fn paste_mistake(&self) -> Option<PasteMistake> {
        let password = PasteMistake::of(self.password.expose_secret());
        // What precedes the login precedes the user's name.
        let begins = |mistake: &PasteMistake| {
            matches!(
                mistake,
                PasteMistake::Begins(_) | PasteMistake::Name(_) | PasteMistake::Quote
            )
        };
        PasteMistake::of(&self.user).filter(begins).or(password)
    }
}

impl PartialEq for ProxyLogin {
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Eq for ProxyLogin {}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> Result<(String, String), String> {
        let login = login_in(text.as_bytes())?;
        Ok((login.user, login.password.expose_secret().to_owned()))
    }

    #[test]
    fn login_of_one_line_is_used_unchanged() {
        let pair = |user: &str, password: &str| Ok((user.to_owned(), password.to_owned()));
        assert_eq!(login("ann:pass word \r\n"), pair("ann", "pass word "));
        assert_eq!(login("ann:a:b"), pair("ann", "a:b"));
        assert_eq!(login("CORP\\ann:100%25"), pair("CORP\\ann", "100%25"));
        assert_eq!(login("\u{feff}ann:b\n"), pair("ann", "b"));
    }

    #[test]
    fn invalid_login_is_an_error_that_names_the_cause() {
        for (text, problem) in [
            ("ann", "no colon in it"),
            ("", "empty"),
            ("ann:word\nnote\n", "has more than one line"),
            (
                "ann:\tword\n",
                "contains a tab or another control character",
            ),
            ("a\0n\0n\0:\0b\0", "in UTF-16"),
        ] {
            let error = login(text).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
            assert!(error.ends_with("must be one line USER:PASSWORD"), "{error}");
        }
    }

    #[test]
    fn login_with_quotes_or_a_blank_shows_its_mistake() {
        let mistake = |text: &str| {
            login_in(text.as_bytes())
                .unwrap()
                .paste_mistake()
                .map(|s| s.to_string())
        };
        assert_eq!(mistake("ann:word"), None);
        assert_eq!(mistake("ann:word ").as_deref(), Some("ends with a space"));
        assert_eq!(mistake(" ann:word").as_deref(), Some("begins with a space"));
        let quoted = mistake("\"ann:word\"");
        assert_eq!(quoted.as_deref(), Some("has a quotation mark at one end"));
    }
}
