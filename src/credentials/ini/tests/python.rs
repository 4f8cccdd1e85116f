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

/// The generator `SplitMix64`: the same files in each run.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// One time in `times`.
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

/// A value, simple ones more often.
fn value(chance: &mut Rng) -> String {
    let count = if chance.once_in(2) {
        1
    } else {
        chance.below(5)
    };
    let mut text = String::new();
    for _ in 0..count {
        let known = if chance.once_in(3) { PIECES.len() } else { 2 };
        text.push_str(chance.pick(&PIECES[..known]));
    }
    text
}

/// A file whose lines are in any order, indented in any way.
fn any_file(chance: &mut Rng) -> String {
    let mut text = String::new();
    if !chance.once_in(8) {
        text.push_str(chance.pick(&SECTIONS[..5]));
        text.push_str(chance.pick(&ENDS));
    }
    for _ in 0..chance.below(9) {
        text.push_str(chance.pick(&BLANKS));
        match chance.below(16) {
            0 | 1 => text.push_str(chance.pick(&SECTIONS)),
            2 => text.push_str("# comment = x"),
            3 => text.push_str("; [comment]"),
            4 => {}
            5 => text.push_str(&value(chance)),
            _ => {
                text.push_str(chance.pick(&KEYS));
                text.push_str(chance.pick(&SEPARATORS));
                text.push_str(&value(chance));
            }
        }
        text.push_str(chance.pick(&ENDS));
    }
    text
}

/// A file as people have it, in which something is unusual.
fn plausible_file(chance: &mut Rng) -> String {
    let mut lines = vec!["[client_auth]".to_owned()];
    if chance.once_in(4) {
        lines.insert(0, "[DEFAULT]".to_owned());
        lines.insert(
            1,
            format!("id{}{}", chance.pick(&SEPARATORS[..5]), value(chance)),
        );
    }
    for key in ["client", "secret", "api_host", "use_https", "note"] {
        if chance.once_in(12) {
            continue;
        }
        let separator = chance.pick(&SEPARATORS[..5]);
        lines.push(format!("{key}{separator}{}", value(chance)));
        if chance.once_in(6) {
            lines.push(format!(
                "{}{}",
                chance.pick(&[" ", "\t", "   "]),
                value(chance)
            ));
        }
        if chance.once_in(8) {
            lines.push(chance.pick(&["", "# c", "  ; c", "   "]).to_owned());
        }
    }
    let end = chance.pick(&ENDS);
    lines.join(end) + end
}

/// The same with some characters changed.
fn mutated(chance: &mut Rng, text: &str) -> String {
    const PUT: [&str; 12] = ["\n", "\r", " ", "[", "]", "=", ":", "%", "(", ")", "#", "x"];
    let mut characters: Vec<String> = text.chars().map(String::from).collect();
    for _ in 0..chance.below(4) {
        let at = chance.below(characters.len() + 1);
        match chance.below(3) {
            0 => characters.insert(at, chance.pick(&PUT).to_owned()),
            _ if at == characters.len() => {}
            1 => drop(characters.remove(at)),
            _ => characters[at] = chance.pick(&PUT).to_owned(),
        }
    }
    characters.concat()
}

fn files(count: usize) -> BTreeMap<String, String> {
    let mut chance = Rng(7);
    let mut file = |number: usize| {
        let text = match number % 3 {
            0 => any_file(&mut chance),
            1 => plausible_file(&mut chance),
            _ => {
                let text = plausible_file(&mut chance);
                mutated(&mut chance, &text)
            }
        };
        (format!("{number:05}.ini"), text)
    };
    (0..count).map(&mut file).collect()
}

/// How many files are compared; another number, such as 100 000, can be set for a longer search.
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
