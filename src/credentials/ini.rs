//! INI files as Python's `configparser.ConfigParser()` reads them with its defaults
//! (<https://docs.python.org/3/library/configparser.html>; compared with Python 3.11).
//!
//! A key is separated from its value by the first `=` or `:`; `#` and `;` begin a comment only at the
//! start of a line; a line that is indented more than its key continues the value; `[DEFAULT]` holds
//! values of all sections; `%(key)s` refers to another key and `%%` is a percent sign. A key or a
//! section that stands twice is an error.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// The section whose values count in all others.
const DEFAULTS: &str = "DEFAULT";

/// The longest chain of references from one value to the next.
const MAX_DEPTH: usize = 10;

/// The most references of one value. Python has no limit, and a few lines could keep it busy for hours.
const MAX_REFERENCES: usize = 10_000;

/// The longest value with references, in bytes. Python has no limit.
const MAX_EXPANDED: usize = 64 * 1024;

/// Why a file or a value in it cannot be read. Contains nothing of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IniError {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is wrong, and what to do.
    pub(super) problem: &'static str,
}

/// A parsed file.
#[derive(Default)]
pub(super) struct Ini<'a> {
    defaults: Section<'a>,
    sections: BTreeMap<&'a str, Section<'a>>,
}

/// Values by their keys in lower case.
type Section<'a> = BTreeMap<String, Entry<'a>>;

struct Entry<'a> {
    line: usize,
    /// The value's lines.
    parts: Vec<&'a str>,
}

impl Entry<'_> {
    /// Returns the value with unresolved references.
    fn raw(&self) -> Zeroizing<String> {
        let length = self.parts.iter().map(|part| part.len() + 1).sum();
        // Allocated at its final size: growing would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(length));
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text.push_str(part);
        }
        let end = text.trim_end_matches(is_space).len();
        text.truncate(end);
        text
    }
}

impl<'a> Ini<'a> {
    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// The first [`IniError`], where Python raises an exception.
    pub(super) fn parse(text: &'a str) -> Result<Self, IniError> {
        let mut reader = Reader::default();
        for (index, line) in lines(text).enumerate() {
            reader.line(index + 1, line)?;
        }
        Ok(reader.ini)
    }

    /// Returns the sections' names, without `DEFAULT`.
    pub(super) fn sections(&self) -> impl Iterator<Item = &'a str> {
        self.sections.keys().copied()
    }

    /// Returns whether a section, or `DEFAULT`, has a key, which is in lower case.
    pub(super) fn has(&self, section: &str, key: &str) -> bool {
        self.entry(section, key).is_some()
    }

    /// Returns the line of a key, from 1.
    pub(super) fn line_of(&self, section: &str, key: &str) -> Option<usize> {
        self.entry(section, key).map(|entry| entry.line)
    }

    /// Returns the value of a key, which is in lower case, with all references in it resolved.
    ///
    /// # Errors
    ///
    /// [`IniError`] where Python raises an exception, or if a limit of this parser is exceeded.
    pub(super) fn get(
        &self,
        section: &str,
        key: &str,
    ) -> Result<Option<Zeroizing<String>>, IniError> {
        let Some(entry) = self.entry(section, key) else {
            return Ok(None);
        };
        let raw = entry.raw();
        if !raw.contains('%') {
            return Ok(Some(raw));
        }
        let mut expansion = Expansion {
            ini: self,
            section,
            line: entry.line,
            references: 0,
            text: Zeroizing::new(String::with_capacity(MAX_EXPANDED)),
        };
        expansion.add(&raw, 1)?;
        Ok(Some(expansion.text))
    }

    /// Returns whether a line that looks like this key, which is in lower case, continues the value
    /// of another, because it is indented more.
    pub(super) fn continues_another(&self, section: &str, key: &str) -> bool {
        let own = self
            .sections
            .get(section)
            .into_iter()
            .flat_map(BTreeMap::values);
        let mut lines = own.flat_map(|entry| entry.parts.iter().skip(1));
        lines.any(|line| {
            let name = line.split(['=', ':']).next().unwrap_or_default();
            name.len() < line.len() && name.trim_end_matches(is_space).eq_ignore_ascii_case(key)
        })
    }

    fn entry(&self, section: &str, key: &str) -> Option<&Entry<'a>> {
        let own = self.sections.get(section)?;
        own.get(key).or_else(|| self.defaults.get(key))
    }
}

/// Parses line by line.
#[derive(Default)]
struct Reader<'a> {
    ini: Ini<'a>,
    section: Option<&'a str>,
    /// The key whose value the next line may continue.
    key: Option<String>,
    /// How far that key, or the last section, is indented, in characters.
    indent: usize,
}

impl<'a> Reader<'a> {
    fn line(&mut self, number: usize, line: &'a str) -> Result<(), IniError> {
        let text = line.trim_matches(is_space);
        if text.starts_with(['#', ';']) {
            return Ok(());
        }
        if text.is_empty() {
            if let Some(entry) = self.continued() {
                entry.parts.push("");
            }
            return Ok(());
        }
        let indent = line.chars().take_while(|c| is_space(*c)).count();
        if indent > self.indent
            && let Some(entry) = self.continued()
        {
            entry.parts.push(text);
            return Ok(());
        }
        self.indent = indent;
        match header(text) {
            Some(name) => self.begin_section(number, name),
            None => self.begin_value(number, text),
        }
    }

    fn begin_section(&mut self, line: usize, name: &'a str) -> Result<(), IniError> {
        let is_new = name == DEFAULTS || (self.ini.sections.insert(name, Section::new())).is_none();
        self.section = Some(name);
        self.key = None;
        let problem = "duplicate section; merge it with the first one";
        is_new.then_some(()).ok_or(IniError { line, problem })
    }

    fn begin_value(&mut self, line: usize, text: &'a str) -> Result<(), IniError> {
        let wrong = |problem| Err(IniError { line, problem });
        if self.section.is_none() {
            return wrong("text before the first section; begin the file with [client_auth]");
        }
        let Some(at) = text.find(['=', ':']) else {
            return wrong("neither a section, a comment nor KEY = VALUE; begin comments with #");
        };
        let (key, rest) = text.split_at(at);
        let key = key.trim_end_matches(is_space).to_lowercase();
        if key.is_empty() {
            return wrong("no key before the = or :; write KEY = VALUE");
        }
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
        let parts = vec![value.trim_matches(is_space)];
        let entry = Entry { line, parts };
        let section = self.section_here();
        let is_new = section.is_some_and(|section| section.insert(key.clone(), entry).is_none());
        self.key = Some(key);
        if is_new {
            return Ok(());
        }
        wrong("duplicate key in this section; remove one of the two")
    }

    fn section_here(&mut self) -> Option<&mut Section<'a>> {
        match self.section? {
            DEFAULTS => Some(&mut self.ini.defaults),
            name => self.ini.sections.get_mut(name),
        }
    }

    /// Returns the value that a line may continue.
    fn continued(&mut self) -> Option<&mut Entry<'a>> {
        let key = self.key.take()?;
        self.key = Some(key.clone());
        self.section_here()?.get_mut(&key)
    }
}

/// Resolves the references in a value.
struct Expansion<'a> {
    ini: &'a Ini<'a>,
    section: &'a str,
    line: usize,
    references: usize,
    text: Zeroizing<String>,
}

impl Expansion<'_> {
    fn add(&mut self, value: &str, depth: usize) -> Result<(), IniError> {
        if depth > MAX_DEPTH {
            return self
                .wrong("circular references, or more than ten in a row; write the value itself");
        }
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('%') {
            self.push(before)?;
            rest = match after.chars().next() {
                Some('%') => {
                    self.push("%")?;
                    after.get(1..).unwrap_or_default()
                }
                Some('(') => self.reference(after, depth)?,
                Some(_) | None => {
                    return self.wrong("a single %; write %% for a percent sign");
                }
            };
        }
        self.push(rest)
    }

    /// Adds what `(key)s` refers to, and returns what follows it.
    fn reference<'t>(&mut self, text: &'t str, depth: usize) -> Result<&'t str, IniError> {
        let inside = text.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let found = inside.and_then(|(key, rest)| Some((key, rest.strip_prefix('s')?)));
        let Some((key, rest)) = found.filter(|(key, _)| !key.is_empty()) else {
            return self.wrong("an incomplete reference %(key)s; write %% for a percent sign");
        };
        self.references += 1;
        let Some(entry) = self.ini.entry(self.section, &key.to_lowercase()) else {
            return self.wrong("a reference to a missing key; write %% for a percent sign");
        };
        if self.references > MAX_REFERENCES {
            return self.wrong("too many references; write the value itself");
        }
        let value = entry.raw();
        if value.contains('%') {
            self.add(&value, depth + 1)?;
        } else {
            self.push(&value)?;
        }
        Ok(rest)
    }

    fn push(&mut self, text: &str) -> Result<(), IniError> {
        if self.text.len() + text.len() > MAX_EXPANDED {
            return self.wrong("too long with its references; write the value itself");
        }
        self.text.push_str(text);
        Ok(())
    }

    fn wrong<T>(&self, problem: &'static str) -> Result<T, IniError> {
        let line = self.line;
        Err(IniError { line, problem })
    }
}

/// Returns the lines of a text, which end with `\n`, `\r` or `\r\n`, as in a file that Python opens as text.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.find(['\n', '\r']);
        let (line, after) = match end {
            Some(end) => rest.split_at(end),
            None if rest.is_empty() => return None,
            None => (rest, ""),
        };
        let after = after
            .strip_prefix("\r\n")
            .or_else(|| after.strip_prefix(['\n', '\r']));
        rest = after.unwrap_or_default();
        Some(line)
    })
}

/// Returns the name in a section's line, up to the last `]`.
fn header(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

/// Returns whether Python's `str.isspace` and `\s` accept the character: also the four separators of ASCII, which
/// Unicode's property lacks.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}
