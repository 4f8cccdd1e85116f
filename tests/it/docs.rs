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

/// Returns the pages whose links are checked.
fn all_pages() -> Vec<String> {
    let crates = fs::read_dir(root().join("crates")).unwrap();
    let crates = crates.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let readmes = crates.map(|name| format!("crates/{name}/README.md"));
    let readmes = readmes.filter(|name| root().join(name).exists());
    let mut pages = pages_in("");
    pages.extend(pages_in("docs"));
    pages.extend(readmes);
    pages
}

fn parse(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for event in parse(text) {
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

/// Returns the code of the programs without their tests, with strings that take several lines as one.
fn program_code() -> String {
    let mut code = String::new();
    let mut directories = vec![root().join("src"), root().join("crates")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let is_test = path.file_stem().is_some_and(|name| name == "tests");
            if path.is_dir() && !is_test {
                directories.push(path);
            } else if !is_test && path.extension().is_some_and(|end| end == "rs") {
                code.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut lines = code.split("\\\n");
    let first = lines.next().unwrap().to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}

/// Returns the code spans in the columns of a page that quote messages.
fn quoted_messages(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut column, mut quoting, mut in_head) = (0, None, false);
    for event in parse(text) {
        if let Event::Start(Tag::Table(_)) = event {
            quoting = None;
        } else if let Event::Start(Tag::TableHead) = event {
            (column, in_head) = (0, true);
        } else if let Event::Start(Tag::TableRow) = event {
            (column, in_head) = (0, false);
        } else if let Event::End(TagEnd::TableCell) = event {
            column += 1;
        } else if let Event::Text(text) = event {
            if in_head && &*text == "message contains" {
                quoting = Some(column);
            }
        } else if let (Event::Code(code), false) = (event, in_head)
            && quoting == Some(column)
        {
            found.push(code.into_string());
        }
    }
    found
}

#[test]
fn quoted_messages_are_in_the_code() {
    let code = program_code();
    let (mut missing, mut count) = (Vec::new(), 0);
    for page in all_pages() {
        for message in quoted_messages(&read(&page)) {
            // Numbers and what an ellipsis stands for are arguments of the message.
            let parts = message.split(|c: char| c == '…' || c.is_ascii_digit());
            let parts = parts.map(|part| part.trim_matches(|c: char| !c.is_alphabetic()));
            for part in parts.filter(|part| part.len() > 7) {
                count += 1;
                if !code.contains(part) {
                    missing.push(format!("{page}: {message}: no message has {part:?}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 20, "{count} messages");
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
