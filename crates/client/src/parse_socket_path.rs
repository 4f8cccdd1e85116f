//! The path of a broker's socket, as flags, variables and configs name it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// An example of a path.
const EXAMPLE: &str = if cfg!(windows) {
    r"\\.\pipe\domo-token"
} else {
    "/run/domo-token/broker.sock"
};

/// The longest scheme that messages show: a longer one may be a secret.
const MAX_SCHEME: usize = 16;

/// A value that names a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketPath {
    /// A plain path.
    Plain(PathBuf),
    /// The path of a `unix:` URL.
    Url(PathBuf),
}

impl SocketPath {
    /// Parses a value: a plain path, `unix:///PATH` or `unix:/PATH`. `home` is the home directory of a tilde.
    ///
    /// # Errors
    ///
    /// What is wrong with the value and what to write instead, without the value itself.
    pub fn read(value: &OsStr, home: Option<&Path>) -> Result<Self, String> {
        let text = value.to_string_lossy();
        if is_tilde(&text) {
            let rest = Path::new(value).strip_prefix("~").ok();
            let full = home.zip(rest).map(|(home, rest)| home.join(rest));
            let full = full.map_or("the full path".to_owned(), |path| {
                path.display().to_string()
            });
            return Err(format!("the tilde is not expanded; write {full}"));
        }
        let plain = || Ok(Self::Plain(PathBuf::from(value)));
        let Some((scheme, rest)) = text.split_once(':') else {
            return plain();
        };
        let is_drive = cfg!(windows) && scheme.len() == 1;
        if scheme.contains(['/', '\\']) || is_drive {
            return plain();
        }
        if cfg!(unix) && scheme.eq_ignore_ascii_case("unix") {
            return url_path(rest, value.to_str().is_none()).map(Self::Url);
        }
        let shown = if scheme.len() <= MAX_SCHEME {
            format!("with \"{scheme}:\"")
        } else {
            "with a name and a colon".to_owned()
        };
        Err(format!(
            "the path of a socket does not start {shown}; write a path such as {EXAMPLE}"
        ))
    }

    /// Returns the path, however it was written.
    #[must_use]
    pub fn into_path(self) -> PathBuf {
        match self {
            Self::Plain(path) | Self::Url(path) => path,
        }
    }
}

/// Returns whether a shell would replace the start of the value by a home directory.
#[must_use]
pub fn is_tilde(text: &str) -> bool {
    let rest = text.strip_prefix('~');
    rest.is_some_and(|rest| rest.is_empty() || rest.contains('/'))
}

/// Returns the path of a URL, by what follows `unix:`.
fn url_path(rest: &str, is_not_text: bool) -> Result<PathBuf, String> {
    if is_not_text {
        return Err("not UTF-8; write the plain path, without \"unix:\"".to_owned());
    }
    if rest.contains('%') {
        let problem = "\"%\" is not decoded; write the plain path, without \"unix:\"";
        return Err(problem.to_owned());
    }
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    let path = path.strip_prefix("localhost/").unwrap_or(path);
    if path.is_empty() {
        return Err(format!(
            "\"unix:\" names no path; write a path such as {EXAMPLE}"
        ));
    }
    Err(format!(
        "in a \"unix:\" URL the path starts at the root; write unix:///{path}"
    ))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn read(value: &str) -> Result<SocketPath, String> {
        SocketPath::read(OsStr::new(value), Some(Path::new("/home/etl")))
    }

    #[test]
    fn plain_paths_stay_as_they_are() {
        let plain = [
            "/run/x.sock",
            "x.sock",
            "./a:b",
            "/a:b",
            "~x",
            "a/~/b",
            "/unix:/x",
        ];
        for path in plain {
            assert_eq!(read(path), Ok(SocketPath::Plain(path.into())));
        }
        let bytes = OsStr::from_bytes(b"/\xff.sock");
        let read = SocketPath::read(bytes, None);
        assert_eq!(read, Ok(SocketPath::Plain(bytes.into())));
    }

    #[test]
    fn unix_urls_with_two_more_slashes_or_none_name_a_path() {
        for url in ["unix:///run/x.sock", "unix:/run/x.sock", "UNIX:/run/x.sock"] {
            assert_eq!(read(url), Ok(SocketPath::Url("/run/x.sock".into())));
        }
    }

    #[test]
    fn wrong_values_name_what_to_write() {
        let example = "write a path such as /run/domo-token/broker.sock";
        for (value, advice) in [
            ("~/x.sock", "tilde is not expanded; write /home/etl/x.sock"),
            ("~", "tilde is not expanded; write /home/etl"),
            ("~ann/x.sock", "tilde is not expanded; write the full path"),
            ("unix://run/x.sock", "write unix:///run/x.sock"),
            ("unix://localhost/run/x.sock", "write unix:///run/x.sock"),
            ("unix:x.sock", "write unix:///x.sock"),
            ("unix:", example),
            ("unix://", example),
            ("unix:///run/a%20b", "\"%\" is not decoded"),
            ("http://localhost:1/", "start with \"http:\""),
            ("tcp:localhost:1", example),
            ("npipe:////./pipe/x", example),
            ("localhost:80", example),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(advice), "{value}: {error}");
        }
        let long = read("c4narys3cretc4narys3cret:x").unwrap_err();
        assert!(!long.contains("c4nary"), "{long}");
        let bytes = OsStr::from_bytes(b"unix:///\xff");
        let error = SocketPath::read(bytes, None).unwrap_err();
        assert!(error.contains("not UTF-8"), "{error}");
    }

    #[test]
    fn tilde_without_a_home_directory_advises_the_full_path() {
        let error = SocketPath::read(OsStr::new("~/x"), None).unwrap_err();
        assert!(error.ends_with("write the full path"), "{error}");
    }
}
