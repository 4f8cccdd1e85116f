use super::*;

#[cfg(unix)]
mod python;

/// Returns the value of a key in `[s]`, or the line and the problem.
fn value(text: &str, key: &str) -> Result<Option<String>, (usize, String)> {
    let shown = |error: IniError| (error.line, error.problem.to_owned());
    let ini = Ini::parse(text).map_err(shown)?;
    let value = ini.get("s", key).map_err(shown)?;
    Ok(value.map(|value| value.to_string()))
}

#[track_caller]
fn has(text: &str, expected: &str) {
    assert_eq!(value(text, "k"), Ok(Some(expected.to_owned())), "{text:?}");
}

#[track_caller]
fn fails(text: &str, line: usize, message: &str) {
    let (at, problem) = value(text, "k").unwrap_err();
    assert_eq!(at, line, "{problem}");
    assert!(problem.contains(message), "{problem}");
}

#[test]
fn value_is_what_follows_the_first_separator() {
    has("[s]\nk = v\n", "v");
    has("[s]\nk:v", "v");
    has("[s]\r\n  K \t=  a=b:c  \r\n", "a=b:c");
    has("[s]\rk=v\r", "v");
    has(
        "[s]\nk = \"v\" # no comment ; at all\n",
        "\"v\" # no comment ; at all",
    );
    has("[s]\nk =\n", "");
    assert_eq!(value("[s]\n", "k"), Ok(None));
    assert_eq!(value("[other]\nk = v\n", "k"), Ok(None));
    assert_eq!(value("[S]\nk = v\n", "k"), Ok(None));
}

#[test]
fn section_is_named_up_to_its_last_bracket() {
    has("[s] # prod\nk = v\n", "v");
    has("  [s]\nk = v\n", "v");
    assert_eq!(value("[ s ]\nk = v\n", "k"), Ok(None));
    assert_eq!(value("[s] ]\nk = v\n", "k"), Ok(None));
    has("[s]\n[] = no section\nk = v\n", "v");
}

#[test]
fn line_that_is_indented_more_continues_the_value() {
    has("[s]\nk = see\n  secret = old\n", "see\nsecret = old");
    has("[s]\nk =\n    v\n", "\nv");
    has("[s]\nk = a\n\n  b\n\n\n", "a\n\nb");
    has("[s]\nk = a\n  # comment\n  b\n", "a\nb");
    has("[s]\nk = a\n# comment\n\n  b\n", "a\n\nb");
    has("[s]\n  other = a\n  k = v\n", "v");
    has("[s]\nk = v\n = w\n", "v\n= w");
    // Characters count, not bytes.
    has("[s]\n\u{a0}\u{a0}k = a\n   b\n", "a\nb");
    has("[s]\n  k = a\n\u{3000}\u{3000}other = b\n", "a");
}

#[test]
fn value_of_the_default_section_applies_to_all_sections() {
    has("[DEFAULT]\nk = v\n[s]\nother = a\n", "v");
    has("[s]\nk = v\n[DEFAULT]\nk = w\n", "v");
    has("[DEFAULT]\nk = v\n[s]\n[DEFAULT]\nother = a\n", "v");
    assert_eq!(value("[default]\nk = v\n[s]\n", "k"), Ok(None));
}

#[test]
fn percent_sign_refers_to_another_key_or_is_doubled() {
    has("[s]\nk = ab%%cd\n", "ab%cd");
    has("[s]\nid = a%%b\nk = <%(ID)s>\n", "<a%b>");
    has("[DEFAULT]\nid = a\n[s]\nk = %(id)s%(id)s\n", "aa");
    fails("[s]\nid = a\n\nk = ab%cd\n", 4, "write %%");
    fails("[s]\nk = ab%\n", 2, "write %%");
    fails("[s]\nk = %(other)s\n", 2, "missing key");
    for broken in ["%()s", "%(k", "%(k)", "%(k)d"] {
        fails(&format!("[s]\nk = {broken}\n"), 2, "incomplete reference");
    }
}

/// Returns a chain of keys of that length, each of which refers to the next.
fn chain(depth: usize) -> String {
    let between = (1..depth).map(|level| format!("k{level} = %(k{})s\n", level + 1));
    let between: String = between.collect();
    format!("[s]\nk = %(k1)s\n{between}k{depth} = v%%\n")
}

#[test]
fn references_are_limited_to_ten_levels_without_cycles() {
    has(&chain(9), "v%");
    fails(&chain(10), 2, "more than ten");
    fails("[s]\nk = %(k)s\n", 2, "circular");
}

#[test]
fn multiplying_references_are_bounded() {
    let many = |level: usize| format!("%(k{level})s").repeat(30);
    let between = (1..9).map(|level| format!("k{level} = {}\n", many(level + 1)));
    let between: String = between.collect();
    let text = format!("[s]\nk = {}\n{between}", many(1));
    fails(&format!("{text}k9 =\n"), 2, "too many");
    let long = "v".repeat(2000);
    fails(&format!("{text}k9 = {long}\n"), 2, "too long");
}

#[test]
fn file_that_python_rejects_is_an_error_with_its_line() {
    fails("# comment\nk = v\n[s]\n", 2, "before the first section");
    fails("[s\nk = v\n", 1, "before the first section");
    fails("[s]\nk = v\nK = w\n", 3, "duplicate key");
    fails("[s]\nk = v\n[t]\n[s]\n", 4, "duplicate section");
    fails("[DEFAULT]\nk = v\n[DEFAULT]\nk = v\n", 4, "duplicate key");
    fails("[s]\nk = v\nverbose\n", 3, "neither a section");
    fails("[s]\nk = v\n= w\n", 3, "no key before");
}
