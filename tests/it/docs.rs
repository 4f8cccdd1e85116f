//! The documentation as a whole: links resolve, each page is in the book and near its front page, quoted messages exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the names of the Markdown files in a directory, with the directory.
fn pages_in(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(directory)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<String> = names
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"))
        .map(|name| Path::new(directory).join(name).to_str().unwrap().to_owned())
        .collect();
    pages.sort();
    pages
}

/// Returns the pages that are checked.
pub(crate) fn all_pages() -> Vec<String> {
    let crates = fs::read_dir(root().join("crates")).unwrap();
    let crates = crates.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let readmes = crates.map(|name| format!("crates/{name}/README.md"));
    let readmes = readmes.filter(|name| root().join(name).exists());
    let mut pages = pages_in("");
    pages.extend(pages_in("docs"));
    pages.extend(readmes);
    let others = ["python", "js", "deploy/kubernetes"];
    pages.extend(others.map(|folder| format!("{folder}/README.md")));
    pages
}

fn parse(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for event in parse(text) {
        if let Event::Html(html) | Event::InlineHtml(html) = &event {
            let links = html.split("href=\"").skip(1);
            found.extend(links.filter_map(|link| Some(link.split_once('"')?.0.to_owned())));
        }
        if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event {
            found.push(dest_url.into_string());
        }
    }
    found
}

/// Returns the headings of a page with their level, as text.
fn headings(text: &str) -> Vec<(HeadingLevel, String)> {
    let mut found = Vec::new();
    let mut current = None;
    for event in parse(text) {
        if let Event::Start(Tag::Heading { level, .. }) = event {
            current = Some((level, String::new()));
        } else if let Event::End(TagEnd::Heading(_)) = event {
            found.extend(current.take());
        } else if let (Event::Text(part) | Event::Code(part), Some((_, heading))) =
            (event, &mut current)
        {
            heading.push_str(&part);
        }
    }
    found
}

/// Returns the anchor that GitHub and mdBook both make of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Returns a path of the repository without `..`; a link that leaves the repository returns none.
fn resolve(page: &str, link: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(page).parent().unwrap().join(link).components() {
        if part == Component::ParentDir {
            path.pop().then_some(())?;
        } else {
            path.push(part);
        }
    }
    Some(path)
}

/// Returns whether a link leads to a file of the repository.
fn is_relative(link: &str) -> bool {
    !link.contains("://") && !link.starts_with("mailto:")
}

/// Returns what is wrong with a link of a page.
fn fault(page: &str, link: &str) -> Option<&'static str> {
    let (path, fragment) = link
        .split_once('#')
        .map_or((link, None), |(path, fragment)| (path, Some(fragment)));
    let target = if path.is_empty() {
        Some(PathBuf::from(page))
    } else {
        resolve(page, path)
    };
    let Some(target) = target.filter(|target| root().join(target).exists()) else {
        return Some("no such file");
    };
    let fragment = fragment?;
    let text = read(target.to_str().unwrap());
    let known = headings(&text)
        .iter()
        .any(|(_, heading)| anchor(heading) == fragment);
    (!known).then_some("no such heading")
}

#[test]
fn relative_links_and_anchors_resolve() {
    let mut faults = Vec::new();
    let mut count = 0;
    for page in all_pages() {
        for link in links(&read(&page)) {
            if is_relative(&link) {
                count += 1;
                let fault = fault(&page, &link);
                faults.extend(fault.map(|fault| format!("{page}: {link}: {fault}")));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(count > 100, "{count} links");
}

#[test]
fn links_without_a_target_are_found() {
    for (link, expected) in [
        ("config.md", None),
        ("../README.md", None),
        ("nosuch.md", Some("no such file")),
        ("../../README.md", Some("no such file")),
        ("config.md#windows", None),
        ("config.md#nosuch", Some("no such heading")),
        ("#nosuch", Some("no such heading")),
    ] {
        assert_eq!(fault("docs/config.md", link), expected, "{link}");
    }
}

/// Returns the pages of `docs/` that a page links to.
fn linked_pages(page: &str) -> BTreeSet<PathBuf> {
    links(&read(page))
        .iter()
        .filter(|link| is_relative(link))
        .filter_map(|link| resolve(page, link.split('#').next().unwrap()))
        .filter(|path| path.starts_with("docs") && path.extension().is_some_and(|end| end == "md"))
        .collect()
}

fn chapters() -> BTreeSet<PathBuf> {
    let pages = pages_in("docs").into_iter().map(PathBuf::from);
    pages
        .filter(|page| page != Path::new("docs/SUMMARY.md"))
        .collect()
}

#[test]
fn book_has_every_page() {
    assert_eq!(linked_pages("docs/SUMMARY.md"), chapters());
}

#[test]
fn every_page_is_within_two_clicks_of_the_front_page() {
    let first = linked_pages("docs/README.md");
    let second = first
        .iter()
        .flat_map(|page| linked_pages(page.to_str().unwrap()));
    let mut reached: BTreeSet<PathBuf> = first.iter().cloned().chain(second).collect();
    reached.insert(PathBuf::from("docs/README.md"));
    let missing: Vec<_> = chapters().difference(&reached).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn pages_have_one_title_and_unique_headings() {
    for page in all_pages() {
        let headings = headings(&read(&page));
        let titles = headings
            .iter()
            .filter(|(level, _)| *level == HeadingLevel::H1)
            .count();
        // The parts of the book are headings of the first level there.
        assert!(titles == 1 || page == "docs/SUMMARY.md", "{page}: {titles}");
        let mut anchors = BTreeMap::new();
        for (_, heading) in &headings {
            *anchors.entry(anchor(heading)).or_insert(0) += 1;
        }
        // The changelog repeats its headings for each version.
        let repeated: Vec<_> = anchors.iter().filter(|(_, count)| **count > 1).collect();
        assert!(
            repeated.is_empty() || page == "CHANGELOG.md",
            "{page}: {repeated:?}"
        );
    }
}

#[test]
fn readme_has_at_most_130_lines() {
    let count = read("README.md").lines().count();
    assert!(count <= 130, "{count}");
}

/// Returns the messages of the programs.
fn messages() -> String {
    read("tests/messages.txt")
}

/// Messages of other programs, and what else is in the columns with messages.
const NOT_OURS: [&str; 9] = [
    "domo-token: not found",
    "ModuleNotFoundError",
    "Cannot find package",
    "Illegal header value",
    "Invalid header",
    "domo_token_config_last_reload_successful",
    "session-….scope",
    "invalid_scope",
    // A function that docs/fleet-records.md defines.
    "enc(",
];

/// Returns whether a code span outside of these columns is a message: three words or more, and no command, expression or
/// option.
fn is_message(code: &str) -> bool {
    let commands = [
        "cargo ",
        "docker ",
        "kubectl ",
        "just ",
        "npm ",
        "pip ",
        ".venv/bin/pip ",
        "openssl ",
        "sudo ",
        "systemctl ",
        "domo-token ",
        "domo-tokend ",
    ];
    let is_command = commands.iter().any(|command| code.starts_with(command));
    let is_text = |c: char| c.is_alphanumeric() || " …:;,.'()/_-".contains(c);
    code.split_whitespace().count() > 2
        && code.chars().all(is_text)
        && !code.contains(" -")
        && !is_command
}

/// Returns the code spans of a page that quote messages: those in columns of messages, and others that look like one.
fn quoted_messages(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut column, mut quoting, mut in_head) = (0, None, false);
    for event in parse(text) {
        if let Event::Start(Tag::Table(_)) = event {
            quoting = None;
        } else if let Event::End(TagEnd::Table) = event {
            quoting = None;
        } else if let Event::Start(Tag::TableHead) = event {
            (column, in_head) = (0, true);
        } else if let Event::Start(Tag::TableRow) = event {
            (column, in_head) = (0, false);
        } else if let Event::End(TagEnd::TableCell) = event {
            column += 1;
        } else if let Event::Text(text) = event {
            if in_head && ["message contains", "you see"].contains(&&*text) {
                quoting = Some(column);
            }
        } else if let (Event::Code(code), false) = (event, in_head)
            && (quoting == Some(column) || is_message(&code))
        {
            found.push(code.into_string());
        }
    }
    found
}

#[test]
fn quoted_messages_are_in_the_list_of_messages() {
    let messages = messages();
    let (mut missing, mut count) = (Vec::new(), 0);
    for page in all_pages().iter().filter(|page| *page != "CHANGELOG.md") {
        for message in quoted_messages(&read(page)) {
            if NOT_OURS.iter().any(|other| message.starts_with(other)) {
                continue;
            }
            // Numbers and what an ellipsis stands for are arguments of the message.
            let parts = message.split(|c: char| c == '…' || c.is_ascii_digit());
            let parts = parts.map(|part| part.trim_matches(|c: char| !c.is_alphabetic()));
            for part in parts.filter(|part| part.len() > 7) {
                count += 1;
                if !messages.contains(part) {
                    missing.push(format!("{page}: {message}: no message has {part:?}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 50, "{count} messages");
}

/// Returns what is wrong with a line of output of the helper: a label, a state or a next step that it does not print.
fn fault_of_output(line: &str, messages: &str) -> Option<String> {
    let is_printed = |word: &str| messages.lines().any(|message| message == word);
    let columns: Vec<&str> = line.split("  ").map(str::trim).collect();
    let columns: Vec<&str> = columns
        .into_iter()
        .filter(|cell| !cell.is_empty())
        .collect();
    if let [_client, _scopes, state, _obtained, _expires, next, ..] = columns[..] {
        let next = next.split(' ').next().unwrap();
        let mut words = [state, next].into_iter();
        return words
            .find(|word| *word != "-" && !is_printed(word))
            .map(|word| format!("{line:?}: the table of status has no {word:?}"));
    }
    let (label, _) = line.split_once(": ")?;
    let is_label = label.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
    let is_known = messages.contains(&format!("{label}: {{"));
    (is_label && !is_known).then(|| format!("{line:?}: no output has {label:?}"))
}

/// Returns the output of the helper in the examples of a page, which follows a line with a prompt.
fn example_output(text: &str) -> Vec<String> {
    let (mut found, mut is_output) = (Vec::new(), false);
    for line in text.lines() {
        let example = line.strip_prefix("    ").unwrap_or_default();
        if let Some(command) = example.strip_prefix("$ ") {
            is_output = command.contains("domo-token ");
        } else if !line.is_empty() && example.is_empty() {
            is_output = false;
        } else if is_output && !example.starts_with("CLIENT ") {
            found.push(example.to_owned());
        }
    }
    found
}

#[test]
fn example_output_of_the_helper_is_what_it_prints() {
    let messages = messages();
    let (mut faults, mut count) = (Vec::new(), 0);
    for page in all_pages() {
        let output = example_output(&read(&page));
        count += output.len();
        let found = output
            .iter()
            .filter_map(|line| fault_of_output(line, &messages));
        faults.extend(found.map(|fault| format!("{page}: {fault}")));
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(count > 20, "{count} lines");
}

#[test]
fn outdated_example_output_is_found() {
    let messages = messages();
    for (line, is_right) in [
        ("decision: allowed", true),
        ("seen as: uid 0", false),
        (
            "acme  data  fresh  1 s ago  in 59 min  renews in 31 min",
            true,
        ),
        ("acme  data  queued  -  no token  -", true),
        (
            "acme  data  ready  1 s ago  in 59 min  renews in 31 min",
            false,
        ),
        (
            "acme  data  failing  -  no token  tries again in 3 s",
            false,
        ),
    ] {
        assert_eq!(
            fault_of_output(line, &messages).is_none(),
            is_right,
            "{line}"
        );
    }
}

/// Returns the features that commands `cargo add domo-token-client` on a page name.
fn added_features(text: &str) -> Vec<&str> {
    let commands = text
        .lines()
        .filter(|line| line.contains("cargo add domo-token-client"));
    let named = commands.filter_map(|line| line.split_once("--features "));
    named
        .flat_map(|(_, rest)| rest.split_whitespace().next().unwrap_or("").split(','))
        .collect()
}

#[test]
fn features_of_the_client_crate_that_pages_add_exist() {
    let manifest = read("crates/client/Cargo.toml");
    let (_, features) = manifest.split_once("[features]").unwrap();
    let (features, _) = features.split_once("\n[").unwrap();
    let mut added = 0;
    for page in all_pages() {
        for feature in added_features(&read(&page)) {
            let declared = format!("\n{feature} = ");
            assert!(features.contains(&declared), "{page}: {feature}");
            added += 1;
        }
    }
    assert!(added > 0, "no page adds a feature");
}
