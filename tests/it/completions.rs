//! `domo-token completions`, run in their shells.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common;
use crate::common::parts;

fn script(shell: &str) -> String {
    let socket = Path::new("/nowhere");
    let output = common::helper(socket, &["completions", shell]).output();
    let (code, stdout, stderr) = parts(&output.unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    stdout
}

/// Runs a script in a shell and returns its output; `None`, with a notice, where the shell is not installed.
fn run_in(shell: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(shell)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        println!("no {shell} here: its completions were not tried");
        return None;
    };
    let (code, stdout, stderr) = parts(&output);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{shell}: {stdout}");
    Some(stdout)
}

/// Command lines whose last word is incomplete, with its completions.
const UNFINISHED: [(&str, &str); 11] = [
    ("domo-token --format c", "curl"),
    ("domo-token --format=he", "header"),
    ("domo-token -o po", "powershell"),
    ("domo-token --color n", "never"),
    ("domo-token sta", "status"),
    ("domo-token -c acme --timeout 5s exec --e", "--env"),
    ("domo-token data --ti", "--timeout"),
    ("domo-token watch --mo", "--mode"),
    ("domo-token status --me", "--metrics"),
    ("domo-token completions fi", "fish"),
    ("domo-token exec data -- /bin/ech", "/bin/echo"),
];

#[test]
fn bash_completes() {
    let script = script("bash");
    for (line, expected) in UNFINISHED {
        // Split into words as readline does.
        let words = line.replace('=', " = ");
        let ask = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _domo_token; echo \"${{COMPREPLY[@]}}\""
        );
        let found = run_in("bash", &["-c", &ask]).unwrap();
        assert_eq!(found.split_whitespace().next(), Some(expected), "{line}");
    }
}

#[test]
fn fish_completes() {
    let script = script("fish");
    for (line, expected) in UNFINISHED {
        let ask = format!("{script}\ncomplete -C '{line}'");
        let Some(found) = run_in("fish", &["--no-config", "-c", &ask]) else {
            return;
        };
        let found = found.split_whitespace().next().unwrap_or_default();
        assert!(found.ends_with(expected), "{line}: {found}");
    }
}

/// Returns zsh's completion of each line, in its own terminal, after these commands.
fn completed_by_zsh(start: &str) -> Option<String> {
    let ask = format!(
        "zmodload zsh/zpty; zpty z zsh -f -i
        zpty -w z \"PS1=; {start}; \
         domo-token() {{ print -r -- GO''T:\\$*:EN''D }}; print REA''DY\"
        zpty -r -m z SEEN '*READY*'
        for line in \"$@\"; do
            zpty -w z \"$line\"$'\\t'
            zpty -r -m z SEEN '*GOT:*:END*' && print -r -- \"${{${{SEEN##*GOT:}}%%:END*}}\"
        done"
    );
    let lines = UNFINISHED.map(|(line, _)| line);
    let arguments = [&["-f", "-c", &ask, "zsh"][..], &lines].concat();
    run_in("zsh", &arguments)
}

#[test]
fn zsh_completes_whether_the_script_is_sourced_before_or_after_compinit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("completions.zsh");
    fs::write(&path, script("zsh")).unwrap();
    let source = format!("source {}", path.display());
    let compinit = "autoload -Uz compinit; compinit -u -D";
    let expected = UNFINISHED.map(|(line, word)| {
        let (start, last) = line.rsplit_once([' ', '=']).unwrap();
        let part = &line[start.len()..line.len() - last.len()];
        format!("{}{part}{word}", start.strip_prefix("domo-token").unwrap())
            .trim_start()
            .to_owned()
    });
    for (first, second) in [(compinit, &*source), (&source, compinit)] {
        let Some(found) = completed_by_zsh(&format!("{first}; {second}")) else {
            return;
        };
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{first} first");
    }
}

#[test]
fn zsh_without_compinit_sources_the_script_without_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("completions.zsh");
    fs::write(&path, script("zsh")).unwrap();
    for options in ["", "setopt nounset;"] {
        let source = format!("{options} source {}", path.display());
        if let Some(found) = run_in("zsh", &["-f", "-c", &source]) {
            assert_eq!(found, "", "{options}");
        }
    }
}

#[test]
fn powershell_completes() {
    let script = script("powershell");
    for word in [
        "'exec'",
        "'--format'",
        "'--min-ttl'",
        "'curl'",
        "'dashboard'",
    ] {
        assert!(script.contains(word), "{word}");
    }
    for (line, expected) in &UNFINISHED[..10] {
        let ask = format!(
            "{script}\n[System.Management.Automation.CommandCompletion]::CompleteInput(\
             '{line}', {}, $null).CompletionMatches[0].CompletionText",
            line.len()
        );
        let Some(found) = run_in("pwsh", &["-NoProfile", "-Command", &ask]) else {
            return;
        };
        assert!(found.trim().ends_with(expected), "{line}: {found}");
    }
}
