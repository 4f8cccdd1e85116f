//! What each side sends first: the caller's hello with the protocol version that it speaks, and the
//! broker's greeting with its boot clock.

use crate::BootTime;
use crate::frame::FrameError;

/// The bytes of a hello.
pub const HELLO: usize = 4;

/// The bytes of the longest greeting: a hello and a clock.
pub const GREETING: usize = HELLO + 8;

/// The first protocol version whose greeting carries the broker's boot clock.
const VERSION_WITH_CLOCK: u8 = 2;

const MAGIC: [u8; 3] = *b"DTK";

/// Returns the four bytes that each side sends first: `DTK` and a protocol version.
#[must_use]
pub const fn hello(version: u8) -> [u8; HELLO] {
    [MAGIC[0], MAGIC[1], MAGIC[2], version]
}

/// Returns the version of a hello.
///
/// # Errors
///
/// [`FrameError::NotHello`] if the bytes don't start with `DTK`.
pub fn hello_version(bytes: [u8; HELLO]) -> Result<u8, FrameError> {
    let [a, b, c, version] = bytes;
    if [a, b, c] == MAGIC {
        Ok(version)
    } else {
        Err(FrameError::NotHello)
    }
}

/// What a broker sends before its first answer: its hello and, from version 2 on, its boot clock at the start of the
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    version: u8,
    clock: Option<BootTime>,
}

impl Greeting {
    /// Returns the greeting of that version; version 1 has no clock.
    #[must_use]
    pub fn new(version: u8, clock: BootTime) -> Self {
        let clock = (version >= VERSION_WITH_CLOCK).then_some(clock);
        Self { version, clock }
    }

    /// Returns the protocol version that the broker speaks on this connection.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Returns the broker's boot clock at the start of the connection; `None` in version 1.
    #[must_use]
    pub fn clock(&self) -> Option<BootTime> {
        self.clock
    }

    /// Returns its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.clock.map_or(HELLO, |_| GREETING)
    }

    /// Writes it at the start of `buffer`, and returns the bytes written.
    pub fn encode<'a>(&self, buffer: &'a mut [u8; GREETING]) -> &'a [u8] {
        let (start, rest) = buffer.split_at_mut(HELLO);
        start.copy_from_slice(&hello(self.version));
        let clock = self.clock.unwrap_or_default();
        rest.copy_from_slice(&clock.as_millis().to_le_bytes());
        buffer.get(..self.length()).unwrap_or_default()
    }

    /// Decodes the greeting at the start of `bytes`; `None` while more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`FrameError::NotHello`] if the bytes don't start with `DTK`.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((start, rest)) = bytes.split_first_chunk::<HELLO>() else {
            return Ok(None);
        };
        let version = hello_version(*start)?;
        if version < VERSION_WITH_CLOCK {
            return Ok(Some(Self {
                version,
                clock: None,
            }));
        }
        let clock = rest.first_chunk().copied().map(u64::from_le_bytes);
        Ok(clock.map(|millis| Self::new(version, BootTime::from_millis(millis))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greeting_of_version_2_carries_the_clock_and_of_version_1_does_not() {
        let clock = BootTime::from_millis(0x0102_0304_0506_0708);
        let mut buffer = [0; GREETING];
        let first = Greeting::new(1, clock);
        assert_eq!(first.encode(&mut buffer), b"DTK\x01");
        assert_eq!(first.clock(), None);
        let second = Greeting::new(2, clock);
        let bytes = second.encode(&mut buffer);
        assert_eq!(bytes, b"DTK\x02\x08\x07\x06\x05\x04\x03\x02\x01");
        assert_eq!(second.clock(), Some(clock));
        for greeting in [first, second] {
            let whole = greeting.encode(&mut buffer);
            for cut in 0..whole.len() {
                assert_eq!(Greeting::decode(&whole[..cut]), Ok(None), "cut at {cut}");
            }
            assert_eq!(Greeting::decode(whole), Ok(Some(greeting)));
        }
        assert_eq!(Greeting::decode(b"GET "), Err(FrameError::NotHello));
    }

    #[test]
    fn hello_carries_its_version() {
        assert_eq!(hello_version(hello(9)), Ok(9));
        assert_eq!(hello_version(*b"GET "), Err(FrameError::NotHello));
    }
}
