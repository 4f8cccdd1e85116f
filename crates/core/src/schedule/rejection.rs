//! What callers say of tokens that Domo refuses in use.

/// Counts rejections, and notices when a renewed token is refused too.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    pub(super) count: u64,
    pub(super) last_by: Option<String>,
    /// The token that callers are given now.
    current: Option<u64>,
    /// The newest token that was refused while it was the current one.
    refused: Option<u64>,
    /// Tokens refused one after the other.
    in_a_row: u32,
}

impl Rejections {
    /// Takes down that `who` was refused with the token of `generation`. True once in a row: when
    /// renewing has not helped.
    pub(super) fn note(&mut self, generation: u64, who: String) -> bool {
        self.count += 1;
        self.last_by = Some(who);
        if self.current != Some(generation) || self.refused == Some(generation) {
            return false;
        }
        self.refused = Some(generation);
        self.in_a_row += 1;
        self.in_a_row == 2
    }

    /// A token nobody complained of ends the row.
    pub(super) fn replaced_by(&mut self, generation: u64) {
        if self.current != self.refused {
            self.in_a_row = 0;
        }
        self.current = Some(generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_token_that_is_refused_too_is_noticed_once() {
        let mut rejections = Rejections::default();
        let mut told = Vec::new();
        for generation in [7, 8, 9] {
            rejections.replaced_by(generation);
            for _caller in 0..3 {
                told.push(rejections.note(generation, "uid 1".to_owned()));
            }
        }
        let expected = [
            [false, false, false],
            [true, false, false],
            [false, false, false],
        ];
        assert_eq!(told, expected.concat());
        assert_eq!(rejections.count, 9);
    }

    #[test]
    fn a_token_that_worked_ends_the_row_and_a_late_complaint_starts_none() {
        let mut rejections = Rejections::default();
        rejections.replaced_by(1);
        assert!(!rejections.note(1, "uid 1".to_owned()));
        rejections.replaced_by(2);
        assert!(!rejections.note(1, "uid 2".to_owned()), "not the current");
        rejections.replaced_by(3);
        assert!(!rejections.note(3, "uid 1".to_owned()));
        assert_eq!(rejections.last_by.as_deref(), Some("uid 1"));
    }
}
