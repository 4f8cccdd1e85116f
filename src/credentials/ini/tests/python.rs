//! Generated connection files, each read here and by Python's own `configparser`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::Deserialize;

use super::super::*;

/// As pydomo 0.3.0.16 reads a file.
const READ: &str = r#"
import configparser, json, os, sys
found = {}
for name in sorted(os.listdir(sys.argv[1])):
    config = configparser.ConfigParser()
    try:
        with open(os.path.join(sys.argv[1], name), encoding="utf-8") as file:
            config.read_file(file)
        auth = config["client_auth"]
        pair = [auth.get("client"), auth.get("secret")]
        host = auth.get("api_host")
        auth.get("use_https")
        found[name] = {"pair": pair, "host": host}
    except Exception as error:
        found[name] = {"error": type(error).__name__}
json.dump(found, sys.stdout)
"#;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Found {
    Read {
        pair: [Option<String>; 2],
        host: Option<String>,
    },
    Error {
        error: String,
    },
}

fn found_here(text: &str) -> Result<Found, IniError> {
    let ini = Ini::parse(text)?;
    let value = |key: &str| {
        let value = ini.get("client_auth", key)?;
        Ok(value.map(|value| value.to_string()))
    };
    if !ini.sections().any(|name| name == "client_auth") {
        let error = "KeyError".to_owned();
        return Ok(Found::Error { error });
    }
    let pair = [value("client")?, value("secret")?];
    let host = value("api_host")?;
    value("use_https")?;
    Ok(Found::Read { pair, host })
}

/// The same files in each run.
struct Random(fastrand::Rng);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0.usize(..bound)
    }

    /// Returns true one time in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const KEYS: [&str; 12] = [
    "client",
    "secret",
    "Client",
    "SECRET",
    "api_host",
    "use_https",
    "id",
    "note",
    "secret ",
    "se cret",
    "clıent",
    "İd",
];
const SECTIONS: [&str; 10] = [
    "[client_auth]",
    "[client_auth]",
    "[client_auth]",
    "[client_auth] # prod",
    "[DEFAULT]",
    "[ client_auth ]",
    "[Client_Auth]",
    "[other]",
    "[]",
    "[client_auth",
];
const SEPARATORS: [&str; 8] = ["=", " = ", ":", " : ", "\t=\t", "==", " \u{a0}= ", " "];
const PIECES: [&str; 24] = [
    "5f3c0c9d8e7b",
    "441e307a-b2a1",
    "%%",
    "%(id)s",
    "%(ID)s",
    "%(note)s",
    "%(secret)s",
    "%",
    "%(",
    ")s",
    "%(none)s",
    "=",
    ":",
    " # c",
    " ; c",
    "\"",
    "'",
    " ",
    "\u{a0}",
    "\u{2028}",
    "\u{1c}",
    "\u{b}",
    "é",
    "\u{feff}",
];
const BLANKS: [&str; 12] = [
    "",
    "",
    "",
    "",
    " ",
    "  ",
    "\t",
    "    ",
    "\u{a0}",
    "\u{3000} ",
    "\u{1d}",
    "\u{200b}",
];
const ENDS: [&str; 8] = ["\n", "\n", "\n", "\n", "\r\n", "\r", "\n\n", " \n"];

/// Returns a value, more often a simple one.
fn value(random: &mut Random) -> String {
    let count = if random.once_in(2) {
        1
    } else {
        random.below(5)
    };
    let mut text = String::new();
    for _ in 0..count {
        let known = if random.once_in(3) { PIECES.len() } else { 2 };
        text.push_str(random.pick(&PIECES[..known]));
    }
    text
}

/// Returns a file with lines in any order, indented in any way.
fn any_file(random: &mut Random) -> String {
    let mut text = String::new();
    if !random.once_in(8) {
        text.push_str(random.pick(&SECTIONS[..5]));
        text.push_str(random.pick(&ENDS));
    }
    for _ in 0..random.below(9) {
        text.push_str(random.pick(&BLANKS));
        match random.below(16) {
            0 | 1 => text.push_str(random.pick(&SECTIONS)),
            2 => text.push_str("# comment = x"),
            3 => text.push_str("; [comment]"),
            4 => {}
            5 => text.push_str(&value(random)),
            _ => {
                text.push_str(random.pick(&KEYS));
                text.push_str(random.pick(&SEPARATORS));
                text.push_str(&value(random));
            }
        }
        text.push_str(random.pick(&ENDS));
    }
    text
}

/// Returns a plausible file with something unusual in it.
fn plausible_file(random: &mut Random) -> String {
    let mut lines = vec!["[client_auth]".to_owned()];
    if random.once_in(4) {
        lines.insert(0, "[DEFAULT]".to_owned());
        lines.insert(
            1,
            format!("id{}{}", random.pick(&SEPARATORS[..5]), value(random)),
        );
    }
    for key in ["client", "secret", "api_host", "use_https", "note"] {
        if random.once_in(12) {
            continue;
        }
        let separator = random.pick(&SEPARATORS[..5]);
        lines.push(format!("{key}{separator}{}", value(random)));
        if random.once_in(6) {
            lines.push(format!(
                "{}{}",
                random.pick(&[" ", "\t", "   "]),
                value(random)
            ));
        }
        if random.once_in(8) {
            lines.push(random.pick(&["", "# c", "  ; c", "   "]).to_owned());
        }
    }
    let end = random.pick(&ENDS);
    lines.join(end) + end
}

/// Returns the text with some characters changed.
fn mutated(random: &mut Random, text: &str) -> String {
    const PUT: [&str; 12] = ["\n", "\r", " ", "[", "]", "=", ":", "%", "(", ")", "#", "x"];
    let mut characters: Vec<String> = text.chars().map(String::from).collect();
    for _ in 0..random.below(4) {
        let at = random.below(characters.len() + 1);
        match random.below(3) {
            0 => characters.insert(at, random.pick(&PUT).to_owned()),
            _ if at == characters.len() => {}
            1 => drop(characters.remove(at)),
            _ => characters[at] = random.pick(&PUT).to_owned(),
        }
    }
    characters.concat()
}

fn files(count: usize) -> BTreeMap<String, String> {
    let mut random = Random(fastrand::Rng::with_seed(7));
    let mut file = |number: usize| {
        let text = match number % 3 {
            0 => any_file(&mut random),
            1 => plausible_file(&mut random),
            _ => {
                let text = plausible_file(&mut random);
                mutated(&mut random, &text)
            }
        };
        (format!("{number:05}.ini"), text)
    };
    (0..count).map(&mut file).collect()
}

/// Returns how many files are compared; another number, such as 100 000, can be set for a longer search.
fn count() -> usize {
    let set = std::env::var("CONNECTION_FILES").ok();
    set.map_or(3000, |text| text.parse().unwrap())
}

#[test]
fn generated_file_has_the_id_and_secret_that_python_reads() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(count());
    for (name, text) in &files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut python = Command::new("python3");
    let python = python.args(["-I", "-c", READ]).arg(folder.path()).output();
    let Ok(python) = python else {
        println!("not compared: there is no python3 here");
        return;
    };
    let stderr = String::from_utf8_lossy(&python.stderr);
    assert!(python.status.success(), "{stderr}");
    let theirs: BTreeMap<String, Found> = serde_json::from_slice(&python.stdout).unwrap();
    assert_eq!(theirs.len(), files.len());
    let (mut with_secret, mut errors) = (0, BTreeMap::<&str, usize>::new());
    for (name, text) in &files {
        match (&theirs[name], found_here(text)) {
            (Found::Error { error }, Err(ours)) => {
                let lines = lines(text).count();
                assert!((1..=lines).contains(&ours.line), "{ours:?}\n{text:?}");
                *errors.entry(error).or_default() += 1;
            }
            (theirs, Ok(ours)) => {
                assert_eq!(&ours, theirs, "{text:?}");
                if let Found::Read {
                    pair: [Some(_), Some(_)],
                    ..
                } = theirs
                {
                    with_secret += 1;
                }
            }
            (theirs, Err(ours)) => panic!("{theirs:?}, here {ours:?}\n{text:?}"),
        }
    }
    println!(
        "{} files: {with_secret} with id and secret, {errors:?}",
        files.len()
    );
    // The generator reaches all of the grammar.
    assert!(with_secret * 4 > files.len(), "{with_secret}");
    for error in [
        "DuplicateOptionError",
        "DuplicateSectionError",
        "InterpolationDepthError",
        "InterpolationMissingOptionError",
        "InterpolationSyntaxError",
        "MissingSectionHeaderError",
        "ParsingError",
    ] {
        assert!(errors.contains_key(error), "no {error}: {errors:?}");
    }
}
