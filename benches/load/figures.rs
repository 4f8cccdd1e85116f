//! Figures: durations, and statistics of many rounds.

use std::time::{Duration, Instant};

/// Returns the duration of `job`.
pub(crate) fn timed<T>(job: impl FnOnce() -> T) -> (Duration, T) {
    let start = now();
    let result = job();
    (now() - start, result)
}

/// Returns the processor time of this thread during `job`.
pub(crate) fn worked<T>(job: impl FnOnce() -> T) -> (Duration, T) {
    let read = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
    };
    let start = read();
    let result = job();
    (read().saturating_sub(start), result)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only place that reads a clock for measurements"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the quantile `part` of the values; 0.5 is the median.
pub(crate) fn quantile(values: &mut [Duration], part: f64) -> Duration {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index between zero and the last"
    )]
    let at = (last as f64 * part).round() as usize;
    values.get(at).copied().unwrap_or_default()
}

/// One quantity in each round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Vec<f64>);

impl Rounds {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_unstable_by(f64::total_cmp);
    }

    /// Returns the ratio of `span` to `floor`.
    pub(crate) fn push_ratio(&mut self, span: Duration, floor: Duration) {
        self.push(span.as_secs_f64() / floor.as_secs_f64());
    }

    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN);
        if self.0.len().is_multiple_of(2) {
            let below = self.0.get((self.0.len() / 2).wrapping_sub(1));
            return f64::midpoint(middle, below.copied().unwrap_or(middle));
        }
        middle
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

impl From<f64> for Rounds {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}
