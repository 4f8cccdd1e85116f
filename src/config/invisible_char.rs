//! Characters that an editor or a page does not show.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvisibleChar {
    /// A space, of whichever width.
    Blank,
    /// A space at which no line is broken, as pages on the web have it.
    NoBreak,
    /// A character without width.
    ZeroWidth,
    /// A character that steers how others are shown.
    Format,
}

impl fmt::Display for InvisibleChar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blank => "a space",
            Self::NoBreak => "a no-break space",
            Self::ZeroWidth => "a zero-width space",
            Self::Format => "an invisible character",
        })
    }
}

impl InvisibleChar {
    pub(crate) fn of(c: char) -> Option<Self> {
        match c {
            '\u{a0}' | '\u{2007}' | '\u{202f}' => Some(Self::NoBreak),
            '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => Some(Self::ZeroWidth),
            '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2061}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}' => Some(Self::Format),
            c if c.is_whitespace() => Some(Self::Blank),
            _ => None,
        }
    }
}
