//! Updates a text in place on a terminal.

use std::fmt::Write;

use terminal_size::{Height, Width, terminal_size};

use crate::error::CliError;
use crate::stdout;

/// The size of a terminal that does not report its own.
const USUAL: (Width, Height) = (Width(80), Height(24));

/// The number of lines shown.
#[derive(Default)]
pub(super) struct Screen {
    lines: usize,
}

impl Screen {
    /// Replaces the previous text.
    pub(super) fn show(&mut self, text: &str) -> Result<(), CliError> {
        let (Width(columns), Height(rows)) = terminal_size().unwrap_or(USUAL);
        let frame = self.frame(text, columns.into(), rows.into());
        stdout::print_or_exit(frame.as_bytes())
    }

    /// Returns the bytes that replace the previous text. Too long lines and texts are cut: a wrapped line
    /// would count as two.
    // Writing to a string can't fail.
    fn frame(&mut self, text: &str, columns: usize, rows: usize) -> String {
        let mut frame = String::new();
        if self.lines > 0 {
            let _ = write!(frame, "\x1b[{}A\r", self.lines);
        }
        let all = text.lines().count();
        let room = rows.saturating_sub(1).max(1);
        let shown = if all > room { room - 1 } else { all };
        for line in text.lines().take(shown) {
            let _ = writeln!(frame, "{}\x1b[K", cut(line, columns));
        }
        if all > shown {
            let _ = writeln!(frame, "… {} more lines\x1b[K", all - shown);
        }
        frame.push_str("\x1b[J");
        self.lines = shown + usize::from(all > shown);
        frame
    }
}

/// Cuts a line at that width; colours have no width.
fn cut(line: &str, columns: usize) -> String {
    let mut kept = String::new();
    let mut width = 0;
    let mut in_escape = false;
    for c in line.chars() {
        in_escape |= c == '\x1b';
        if !in_escape {
            width += 1;
        }
        if width > columns {
            kept.push_str("\x1b[0m");
            break;
        }
        kept.push(c);
        in_escape &= c != 'm';
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_replaces_the_previous_one() {
        let mut screen = Screen::default();
        assert_eq!(screen.frame("a\nb\n", 80, 24), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(screen.frame("c\n", 80, 24), "\x1b[2A\rc\x1b[K\n\x1b[J");
        assert_eq!(screen.frame("", 80, 24), "\x1b[1A\r\x1b[J");
        assert_eq!(screen.frame("d\n", 80, 24), "d\x1b[K\n\x1b[J");
    }

    #[test]
    fn text_larger_than_the_screen_is_cut_with_a_note() {
        let mut screen = Screen::default();
        let frame = screen.frame("1\n2\n3\n4\n5\n", 80, 4);
        assert_eq!(frame, "1\x1b[K\n2\x1b[K\n… 3 more lines\x1b[K\n\x1b[J");
        assert_eq!(screen.lines, 3);
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc\x1b[0m");
        assert_eq!(cut("\x1b[31mab\x1b[0mc", 3), "\x1b[31mab\x1b[0mc");
        assert_eq!(cut("\x1b[31mabc\x1b[0m", 2), "\x1b[31mab\x1b[0m");
    }
}
