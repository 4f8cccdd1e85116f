//! Finds the program of a secret command as `execvp(3)` does, and checks its file.

use std::env::split_paths;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::permission_advice::on_unstartable;
use super::{CredentialsError, checked_file};

/// The search path if `$PATH` is not set, as in the C library.
#[cfg(unix)]
const USUAL: &str = "/bin:/usr/bin";
#[cfg(windows)]
const USUAL: &str = "";

/// Why a program is not run.
#[derive(Debug)]
pub(super) enum ProgramError {
    Missing(io::Error),
    /// Other users could replace it.
    Unsafe(CredentialsError),
}

/// Returns the file of the program called `name`, which only root and the daemon's user can change.
pub(super) fn find(name: &str, path: Option<OsString>) -> Result<PathBuf, ProgramError> {
    let with = |error: &io::Error, message: String| {
        ProgramError::Missing(io::Error::new(error.kind(), message))
    };
    let found = look_up(name, path).map_err(|error| match name_hint(name) {
        Some(hint) => with(&error, format!("no such program; {hint}")),
        None => ProgramError::Missing(error),
    })?;
    let stat = found.metadata().map_err(|error| {
        let hint = name_hint(name).filter(|_| error.kind() == io::ErrorKind::NotFound);
        let message = hint.map(|hint| format!("no such program; {hint}"));
        let advised = || format!("{error}{}", on_unstartable(&found, &error));
        with(&error, message.unwrap_or_else(advised))
    })?;
    checked_file::check_program(&stat, &found).map_err(ProgramError::Unsafe)?;
    Ok(found)
}

/// Returns what to do about a command that was written for a shell, if that is why it fails.
pub(super) fn shell_hint(argv: &[String]) -> Option<&'static str> {
    const OPERATORS: [&str; 9] = ["|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1"];
    let (program, arguments) = argv.split_first()?;
    let is_expanded = |word: &str| word.starts_with(['~', '$']);
    let file = Path::new(program).file_name()?.to_str()?;
    if ["sh", "bash", "dash", "ksh", "zsh", "fish"].contains(&file) {
        return None;
    }
    let is_operator = |word: &String| {
        OPERATORS.contains(&word.as_str()) || word.starts_with("2>") || word.starts_with("$(")
    };
    if arguments.iter().any(is_operator) {
        return Some(
            "; its arguments are not read by a shell: for a pipe or the like write [\"sh\", \"-c\", \
             \"…\"]",
        );
    }
    let is_expanded = arguments.iter().any(|word| is_expanded(word));
    is_expanded.then_some(
        "; \"~\" and \"$\" in its arguments are not expanded by a shell: write out \
                           the values",
    )
}

/// Returns what is probably a mistake in a command that works.
pub(crate) fn paste_mistake(argv: &[String]) -> Option<&'static str> {
    let (program, arguments) = argv.split_first()?;
    if is_relative(program) {
        return Some(
            "the program is looked up in the daemon's working directory; write the full path",
        );
    }
    let is_certain = |word: &String| !word.starts_with('$') || is_variable(word);
    let hint = shell_hint(argv).filter(|_| arguments.iter().all(is_certain));
    hint.map(|hint| hint.trim_start_matches("; "))
}

/// Returns whether a word is a variable of a shell: `$NAME` or `${NAME}`.
fn is_variable(word: &str) -> bool {
    let name = word.strip_prefix('$').map(|rest| {
        let braced = rest
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        braced.unwrap_or(rest)
    });
    name.is_some_and(|name| {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !name.is_empty()
            && name.chars().all(is_of_name)
            && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// Returns whether a program is named by a relative path.
fn is_relative(name: &str) -> bool {
    let is_path = name.contains(std::path::is_separator) && !name.starts_with(['~', '$']);
    is_path && Path::new(name).is_relative()
}

/// Returns the same for a program's name that is not found.
fn name_hint(name: &str) -> Option<&'static str> {
    // Many paths have blanks on Windows.
    let is_path = cfg!(windows) && name.contains(std::path::is_separator);
    if name.contains(char::is_whitespace) && !is_path {
        let hint = "it is not split into words by a shell: write each word as a separate element, like \
                    [\"pass\", \"show\", \"domo\"]";
        return Some(hint);
    }
    if is_relative(name) {
        return Some("it is looked up in the daemon's working directory: write the full path");
    }
    name.starts_with(['~', '$'])
        .then_some("\"~\" and \"$\" are not expanded by a shell: write the full path")
}

fn look_up(name: &str, path: Option<OsString>) -> io::Result<PathBuf> {
    if name.contains(std::path::is_separator) {
        return Ok(PathBuf::from(name));
    }
    let path = path.unwrap_or_else(|| USUAL.into());
    let places = split_paths(&path).map(|directory| {
        // An empty entry is the working directory. The path must have a separator, so that it is not looked up again.
        let is_empty = directory.as_os_str().is_empty();
        let directory = if is_empty {
            PathBuf::from(".")
        } else {
            directory
        };
        directory.join(file_name(name))
    });
    let mut places = places.filter(|place| is_program(place));
    places.next().ok_or_else(|| {
        let problem = "no such program in $PATH; write the full path";
        io::Error::new(io::ErrorKind::NotFound, problem)
    })
}

#[cfg(unix)]
fn file_name(name: &str) -> PathBuf {
    name.into()
}

#[cfg(windows)]
fn file_name(name: &str) -> PathBuf {
    let path = PathBuf::from(name);
    if path.extension().is_some() {
        return path;
    }
    path.with_extension("exe")
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

#[cfg(windows)]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use tempfile::TempDir;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Returns a folder with the directories `a` and `b`, and the program `b/tool`.
    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for directory in ["a", "b"] {
            fs::create_dir(folder.path().join(directory)).unwrap();
            set_mode(&folder.path().join(directory), 0o755);
        }
        let tool = folder.path().join("b/tool");
        fs::write(&tool, "#!/bin/sh\n").unwrap();
        set_mode(&tool, 0o755);
        folder
    }

    fn search(folder: &TempDir) -> OsString {
        let places = ["a", "b"].map(|directory| folder.path().join(directory));
        std::env::join_paths(places).unwrap()
    }

    #[test]
    fn name_written_for_a_shell_is_reported_with_what_to_write() {
        for (name, hint) in [
            ("pass show domo", "write each word as a separate element"),
            ("/usr/bin/pass show domo", "write each word as a separate"),
            ("~/bin/x", "not expanded by a shell"),
            ("$HOME/bin/x", "not expanded by a shell"),
            ("no-such-program", "no such program in $PATH; write"),
            (
                "/nowhere/pass",
                "(os error 2); create it, or change the path in the config",
            ),
            ("./pass", "working directory: write the full path"),
        ] {
            let ProgramError::Missing(error) = find(name, None).unwrap_err() else {
                panic!("{name}");
            };
            let error = error.to_string();
            assert!(error.contains(hint), "{name}: {error}");
        }
    }

    #[test]
    fn arguments_written_for_a_shell_are_reported_unless_a_shell_reads_them() {
        let hint =
            |argv: &[&str]| shell_hint(&argv.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        for word in ["|", "&&", ">", "2>&1", "2>/dev/null", "$(id)"] {
            let hint = hint(&["pass", "show", "domo", word, "x"]);
            assert!(
                hint.is_some_and(|hint| hint.contains("\"sh\", \"-c\"")),
                "{word}"
            );
        }
        for word in ["~/secret", "$HOME/secret"] {
            let hint = hint(&["cat", word]);
            assert!(hint.is_some_and(|hint| hint.contains("expanded")), "{word}");
        }
        assert_eq!(hint(&["sh", "-c", "pass show domo | head -1"]), None);
        assert_eq!(hint(&["/bin/bash", "-c", "$0", "|"]), None);
        assert_eq!(hint(&["pass", "show", "a|b", "--x=$y", "a~"]), None);
        assert_eq!(hint(&["pass"]), None);
        assert_eq!(hint(&[]), None);
    }

    #[test]
    fn command_that_works_and_was_written_for_a_shell_is_a_mistake() {
        let mistake = |argv: &[&str]| {
            paste_mistake(&argv.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
        };
        for argv in [
            &["/bin/echo", "$SECRET"][..],
            &["echo", "${SECRET}"],
            &["cat", "~/secret"],
            &["cat", "s", "|", "head"],
            &["./pass"],
            &["bin/pass", "x"],
        ] {
            assert!(mistake(argv).is_some(), "{argv:?}");
        }
        for argv in [
            &["awk", "$1 == 2", "f"][..],
            &["awk", "$2"],
            &["printf", "$"],
            &["sh", "-c", "$SECRET"],
            &["pass", "show", "domo"],
            &["/bin/pass"],
            &[],
        ] {
            assert_eq!(mistake(argv), None, "{argv:?}");
        }
    }

    fn unsafe_program(name: &Path) -> String {
        let error = find(name.to_str().unwrap(), None).unwrap_err();
        let ProgramError::Unsafe(error) = error else {
            panic!("{error:?}");
        };
        error.to_string()
    }

    #[test]
    fn program_is_found_in_path_after_entries_that_cannot_be_run() {
        let folder = folder();
        let decoy = folder.path().join("a/tool");
        fs::write(&decoy, "").unwrap();
        set_mode(&decoy, 0o644);
        let found = find("tool", Some(search(&folder))).unwrap();
        assert_eq!(found, folder.path().join("b/tool"));
        fs::remove_file(&decoy).unwrap();
        fs::create_dir(&decoy).unwrap();
        let found = find("tool", Some(search(&folder))).unwrap();
        assert_eq!(found, folder.path().join("b/tool"));
        let missing = find("no-such-tool", Some(search(&folder))).unwrap_err();
        assert!(matches!(missing, ProgramError::Missing(_)), "{missing:?}");
        assert_eq!(find("sh", None).unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn program_that_others_can_write_or_replace_is_an_error() {
        let folder = folder();
        let tool = folder.path().join("b/tool");
        for mode in [0o775, 0o757, 0o777] {
            set_mode(&tool, mode);
            assert!(unsafe_program(&tool).contains("chmod go-w"), "{mode:o}");
        }
        set_mode(&tool, 0o755);
        set_mode(&folder.path().join("b"), 0o757);
        assert!(unsafe_program(&tool).contains("lets others replace files in it"));
        set_mode(&folder.path().join("b"), 0o755);
        // A symlink is checked with the directories in its path.
        let link = folder.path().join("a/link");
        symlink(&tool, &link).unwrap();
        find(link.to_str().unwrap(), None).unwrap();
        set_mode(&folder.path().join("a"), 0o777);
        assert!(unsafe_program(&link).contains("lets others replace files in it"));
    }

    #[test]
    fn only_directories_of_root_may_be_group_writable() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = folder();
        let tool = folder.path().join("b/tool");
        set_mode(&folder.path().join("b"), 0o2775);
        find(tool.to_str().unwrap(), None).unwrap();
        chown(&tool, Some(4242), None).unwrap();
        assert!(unsafe_program(&tool).contains("belongs to user 4242"));
        chown(&tool, Some(0), None).unwrap();
        chown(folder.path().join("b"), Some(4242), None).unwrap();
        assert!(unsafe_program(&tool).contains("belongs to user 4242"));
    }
}
