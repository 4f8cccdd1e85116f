//! Shows how two texts differ, by lines.

use std::fmt::Write;

/// Returns the lines in which `old` and `new` differ, under the last heading (`== …`) before each.
pub(super) fn lines(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let of_ends = old[start..].iter().rev().zip(new[start..].iter().rev());
    let end = of_ends.take_while(|(a, b)| a == b).count();
    let heading = old[..start].iter().rfind(|line| line.starts_with("== "));
    let mut shown = Shown {
        text: String::new(),
        heading: heading.copied(),
    };
    let (old, new) = (&old[start..old.len() - end], &new[start..new.len() - end]);
    // The length of the longest common subsequence of what follows each pair of lines.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for at in (0..old.len()).rev() {
        for to in (0..new.len()).rev() {
            common[at][to] = if old[at] == new[to] {
                common[at + 1][to + 1] + 1
            } else {
                common[at + 1][to].max(common[at][to + 1])
            };
        }
    }
    let (mut at, mut to) = (0, 0);
    while at < old.len() || to < new.len() {
        if at < old.len() && to < new.len() && old[at] == new[to] {
            shown.heading = Some(old[at])
                .filter(|line| line.starts_with("== "))
                .or(shown.heading);
            (at, to) = (at + 1, to + 1);
        } else if at < old.len() && (to == new.len() || common[at + 1][to] >= common[at][to + 1]) {
            shown.push('-', old[at]);
            at += 1;
        } else {
            shown.push('+', new[to]);
            to += 1;
        }
    }
    shown.text
}

struct Shown<'a> {
    text: String,
    heading: Option<&'a str>,
}

impl Shown<'_> {
    fn push(&mut self, sign: char, line: &str) {
        if let Some(heading) = self.heading.take() {
            writeln!(self.text, "  {heading}").unwrap();
        }
        writeln!(self.text, "{sign} {line}").unwrap();
    }
}

#[test]
fn diff_names_changed_lines_under_their_heading() {
    let old = "== a\n1\n2\n== b\n3\n4\n== c\n5\n";
    let new = "== a\n1\n2\n== b\n3\n4!\n== c\n5\n6\n";
    assert_eq!(lines(old, new), "  == b\n- 4\n+ 4!\n  == c\n+ 6\n");
    assert_eq!(lines(old, old), "");
    assert_eq!(lines("", "1\n"), "+ 1\n");
}
