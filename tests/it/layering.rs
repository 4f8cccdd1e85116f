//! Each file imports only from modules above its own in `lib.rs`, and stays within the size limit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The maximum number of lines before a file's tests.
const MAX_LINES: usize = 500;

/// The modules of a crate in the order of its `lib.rs`.
fn order(lib: &Path) -> Vec<String> {
    let text = fs::read_to_string(lib).unwrap();
    let modules = text.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?
            .strip_suffix(';')
            .map(str::to_owned)
    });
    modules.collect()
}

/// Returns all files of a module: `name.rs`, its Windows counterpart, and those below `name/`.
fn files(source: &Path, name: &str) -> Vec<PathBuf> {
    let mut files = ["", "_windows"]
        .map(|end| source.join(format!("{name}{end}.rs")))
        .to_vec();
    files.retain(|file| file.exists());
    files.extend(below(&source.join(name)));
    files
}

/// Returns all Rust files below a folder, if it exists.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.flat_map(|path| {
        if path.is_dir() {
            below(&path)
        } else {
            vec![path]
        }
    });
    files
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// Returns the crate's modules that code without comments names.
fn imports(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let group = rest
            .strip_prefix('{')
            .map_or(rest, |rest| rest.split('}').next().unwrap_or(rest));
        let names = if group == rest {
            rest.split(';').next().unwrap_or(rest)
        } else {
            group
        };
        for name in names
            .split(", ")
            .take(if group == rest { 1 } else { usize::MAX })
        {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            found.push(&name[..end.unwrap_or(name.len())]);
        }
    }
    found
}

/// Returns a crate's imports against the order, as `file: module`.
fn imports_against_the_order(source: &Path) -> Vec<String> {
    let order = order(&source.join("lib.rs"));
    assert!(order.len() > 3, "no map in {}", source.display());
    let ranks: BTreeMap<&str, usize> = order.iter().map(String::as_str).zip(0..).collect();
    let mut wrong = Vec::new();
    for (rank, name) in order.iter().enumerate() {
        for file in files(source, name) {
            let text = fs::read_to_string(&file).unwrap();
            let lines = text
                .lines()
                .map(|line| line.split("//").next().unwrap_or(""));
            // An import may take several lines.
            let code: String = lines.flat_map(|line| [line.trim(), " "]).collect();
            for import in imports(&code) {
                if ranks.get(import).is_some_and(|other| *other > rank) {
                    wrong.push(format!("{}: {import}", file.display()));
                }
            }
        }
    }
    wrong
}

const SOURCES: [&str; 6] = [
    "src",
    "crates/cli/src",
    "crates/client/src",
    "crates/core/src",
    "crates/protocol/src",
    "crates/sandbox/src",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn files_import_only_from_those_above_them() {
    for source in SOURCES {
        assert_eq!(imports_against_the_order(&root().join(source)), [""; 0]);
    }
}

#[test]
fn import_against_the_order_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("lib.rs", "pub mod a;\nmod b;\npub mod c;\nmod d;\n");
    write("a.rs", "use crate::b::Thing;\n");
    write(
        "b.rs",
        "use crate::a::Thing; // crate::d is only talked of\n",
    );
    write("c.rs", "use crate::{\n    a,\n    d::Thing,\n};\n");
    write("d.rs", "fn f() { crate::a::f(crate::c::g()) }\n");
    let wrong = imports_against_the_order(folder.path());
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(
        wrong[0].ends_with("a.rs: b") && wrong[1].ends_with("c.rs: d"),
        "{wrong:?}"
    );
}

/// Returns the number of lines before a file's tests, which is 0 for a file of tests.
fn code_lines(file: &Path) -> usize {
    if file.file_name().is_some_and(|name| name == "tests.rs") {
        return 0;
    }
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count()
}

#[test]
fn files_stay_within_the_size_limit() {
    let sources = SOURCES.map(|source| root().join(source));
    let all: Vec<PathBuf> = sources.iter().flat_map(|source| below(source)).collect();
    assert!(all.len() > 40, "{}", all.len());
    let long: Vec<_> = all
        .iter()
        .filter(|file| code_lines(file) > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

/// Returns whether a file's code, without comments and tests, reads the wall clock.
fn reads_wall_clock(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap();
    let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
    let mut code = code.map(|line| line.split("//").next().unwrap_or(""));
    code.any(|line| line.contains("wall_now") || line.contains("SystemTime::now"))
}

#[test]
fn wall_clock_is_read_only_for_display_and_retry_after_dates() {
    let all = [
        "src",
        "crates/cli/src",
        "crates/client/src",
        "crates/core/src",
    ]
    .map(|source| below(&root().join(source)));
    let mut readers: Vec<String> = all
        .iter()
        .flatten()
        .filter(|file| reads_wall_clock(file))
        .map(|file| file.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    readers.sort();
    let expected = [
        "crates/cli/src/status.rs",
        "crates/client/src/clock.rs",
        "crates/client/src/status.rs",
        "crates/client/src/token.rs",
        "src/audit.rs",
        "src/broker/metrics.rs",
        "src/platform/clock.rs",
        "src/server/http/body.rs",
        "src/source/domo.rs",
        "src/source/domo/transport.rs",
        "src/store/redis/probe.rs",
    ];
    assert_eq!(
        readers, expected,
        "a clock that jumps must change nothing else"
    );
}
