//! The Redis protocol, version 2: encodes commands, and reads what servers answer. A server can make this host read only
//! so many bytes for one operation.
//!
//! It needs a command at a time and six kinds of answers, so a library with pipelines, pools and clusters would be many
//! times its size (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
    Take,
};
use zeroize::Zeroizing;

/// The most bytes that are read for one operation. Its answers have at most two records.
pub(super) const MAX_EXCHANGE: usize = 64 * 1024;

/// How deep arrays may be nested; no answer that is used has more than one.
const MAX_DEPTH: usize = 3;

/// Bytes that are read at once.
const BUFFER: usize = 4096;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Nil,
    Integer(i64),
    /// A simple string, such as `OK`.
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Self>),
    Error(ServerError),
}

/// An error that a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerError(pub(super) String);

impl ServerError {
    /// Returns its first word, such as `NOAUTH`.
    pub(super) fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// Returns what follows the code.
    pub(super) fn details(&self) -> &str {
        self.0.split_once(' ').map_or("", |(_, details)| details)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum End {
    /// The server sent more than it may.
    TooLong,
    Closed,
    Failed(io::Error),
    /// It is not the protocol.
    Invalid,
    /// The server sent more than the answers to the commands.
    Unsolicited,
}

/// Appends a command, whose first part is its name. The content can be a password.
pub(super) fn encode(parts: &[Zeroizing<Vec<u8>>], encoded: &mut Zeroizing<Vec<u8>>) {
    encoded.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        encoded.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        encoded.extend_from_slice(part);
        encoded.extend_from_slice(b"\r\n");
    }
}

/// The bytes of a connection.
pub(super) struct RespStream<S>(BufReader<Take<S>>);

/// The start of a value, or all of it.
enum Item {
    Value(Value),
    /// An array of so many values, which follow.
    Array(usize),
}

impl<S: AsyncRead + Unpin> RespStream<S> {
    pub(super) fn new(stream: S) -> Self {
        let mut bounded = Self(BufReader::with_capacity(BUFFER, stream.take(0)));
        bounded.start_operation();
        bounded
    }

    /// Permits the bytes of another operation.
    pub(super) fn start_operation(&mut self) {
        self.0.get_mut().set_limit(MAX_EXCHANGE as u64);
    }

    /// Returns an error if an answer has arrived after the last one that was read: the answers no longer belong to
    /// their commands.
    pub(super) fn check_end_of_answers(&self) -> Result<(), End> {
        if self.0.buffer().is_empty() {
            Ok(())
        } else {
            Err(End::Unsolicited)
        }
    }

    /// Returns whether another command may be sent: as far as is known, the server has not closed the connection, and
    /// has sent nothing.
    pub(super) async fn is_idle(&mut self) -> bool {
        poll_fn(|context| {
            let arrived = Pin::new(&mut self.0).poll_fill_buf(context);
            Poll::Ready(arrived.is_pending())
        })
        .await
    }

    /// Reads one value.
    pub(super) async fn read(&mut self) -> Result<Value, End> {
        let mut open: Vec<(usize, Vec<Value>)> = Vec::new();
        loop {
            let mut value = match self.item().await? {
                Item::Value(value) => value,
                Item::Array(0) => Value::Array(Vec::new()),
                Item::Array(_) if open.len() == MAX_DEPTH => return Err(End::Invalid),
                Item::Array(length) => {
                    open.push((length, Vec::new()));
                    continue;
                }
            };
            loop {
                let Some((left, mut values)) = open.pop() else {
                    return Ok(value);
                };
                values.push(value);
                if left > 1 {
                    open.push((left - 1, values));
                    break;
                }
                value = Value::Array(values);
            }
        }
    }

    async fn item(&mut self) -> Result<Item, End> {
        let buffered = self.0.fill_buf().await.map_err(End::Failed)?;
        let Some(kind) = buffered.first().copied() else {
            return Err(self.end());
        };
        // Before the line is complete: a server of another protocol may send no end of a line.
        if !b"+-:$*".contains(&kind) {
            return Err(End::Invalid);
        }
        self.0.consume(1);
        let line = self.line().await?;
        Ok(match kind {
            b'+' => Item::Value(Value::Text(text(line)?)),
            // Servers repeat arguments in errors, and records are no text.
            b'-' => Item::Value(Value::Error(ServerError(lossy(&line)))),
            b':' => Item::Value(Value::Integer(number(&line)?)),
            b'$' => Item::Value(match length(&line)? {
                Some(length) => Value::Bytes(self.bytes(length).await?),
                None => Value::Nil,
            }),
            _ => match length(&line)? {
                Some(length) => Item::Array(length),
                None => Item::Value(Value::Nil),
            },
        })
    }

    /// Reads a line, and returns it without its end.
    async fn line(&mut self) -> Result<Vec<u8>, End> {
        let mut line = Vec::new();
        let read = self.0.read_until(b'\n', &mut line).await;
        read.map_err(End::Failed)?;
        if line.last() != Some(&b'\n') {
            return Err(self.end());
        }
        if !line.ends_with(b"\r\n") {
            return Err(End::Invalid);
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }

    /// Reads that many bytes and the end of the line. A length that is announced reserves no memory.
    async fn bytes(&mut self, length: usize) -> Result<Vec<u8>, End> {
        let mut bytes = Vec::new();
        let length_and_end = length.saturating_add(2);
        let limit = u64::try_from(length_and_end).unwrap_or(u64::MAX);
        let mut part = (&mut self.0).take(limit);
        part.read_to_end(&mut bytes).await.map_err(End::Failed)?;
        if bytes.len() < length_and_end {
            return Err(self.end());
        }
        if !bytes.ends_with(b"\r\n") {
            return Err(End::Invalid);
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Returns why no more bytes were read.
    fn end(&self) -> End {
        if self.0.get_ref().limit() == 0 {
            End::TooLong
        } else {
            End::Closed
        }
    }
}

#[cfg(all(unix, any(test, fuzzing)))]
impl<S: AsyncRead> RespStream<S> {
    pub(super) fn source(&self) -> &S {
        self.0.get_ref().get_ref()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RespStream<S> {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        let stream = self.0.get_mut().get_mut();
        stream.write_all(bytes).await.map_err(End::Failed)?;
        stream.flush().await.map_err(End::Failed)
    }
}

fn text(line: Vec<u8>) -> Result<String, End> {
    String::from_utf8(line).map_err(|_| End::Invalid)
}

fn lossy(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

fn number(line: &[u8]) -> Result<i64, End> {
    let text = str::from_utf8(line).map_err(|_| End::Invalid)?;
    text.parse().map_err(|_| End::Invalid)
}

/// Returns a length; -1 is the absence of a value.
fn length(line: &[u8]) -> Result<Option<usize>, End> {
    match number(line)? {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| End::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads one value from bytes, after which the server closes the connection.
    fn read(bytes: &[u8]) -> Result<Value, End> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        runtime.block_on(RespStream::new(bytes).read())
    }

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn values_of_all_kinds_are_read() {
        let pair = Value::Array(vec![bytes("1"), bytes("")]);
        let nested = Value::Array(vec![Value::Array(vec![]), Value::Nil, Value::Integer(-7)]);
        let error = Value::Error(ServerError("NOPERM no permissions".to_owned()));
        for (answer, expected) in [
            ("+OK\r\n", Value::Text("OK".to_owned())),
            (":12\r\n", Value::Integer(12)),
            ("$3\r\na\r\n\r\n", bytes("a\r\n")),
            ("$-1\r\n", Value::Nil),
            ("*-1\r\n", Value::Nil),
            ("*2\r\n$1\r\n1\r\n$0\r\n\r\n", pair),
            ("*3\r\n*0\r\n$-1\r\n:-7\r\n", nested),
            ("-NOPERM no permissions\r\n", error),
        ] {
            assert_eq!(read(answer.as_bytes()).unwrap(), expected, "{answer:?}");
        }
        let binary = Value::Error(ServerError("ERR '\u{1}\u{fffd}'".to_owned()));
        assert_eq!(read(b"-ERR '\x01\xff'\r\n").unwrap(), binary);
    }

    #[test]
    fn answers_that_are_no_redis_protocol_are_invalid() {
        for answer in [
            "\r\n",
            "OK\r\n",
            "%1\r\n",
            "$x\r\n",
            "$-2\r\n",
            ":\r\n",
            "*-2\r\n",
            "+OK\n",
            "$1\r\n12\r\n",
            "*1\r\n*1\r\n*1\r\n*1\r\n",
        ] {
            let result = read(answer.as_bytes());
            assert!(
                matches!(result, Err(End::Invalid)),
                "{answer:?}: {result:?}"
            );
        }
        assert!(matches!(read(b"+\xff\r\n"), Err(End::Invalid)));
    }

    #[test]
    fn half_an_answer_is_the_end_and_a_long_one_is_too_long() {
        for answer in [
            "",
            "+O",
            "$3\r\nab",
            "*2\r\n:1\r\n",
            "$9223372036854775807\r\n",
        ] {
            let result = read(answer.as_bytes());
            assert!(matches!(result, Err(End::Closed)), "{answer:?}: {result:?}");
        }
        let longest = MAX_EXCHANGE - "$65526\r\n\r\n".len();
        let of =
            |length: usize| read(format!("${length}\r\n{}\r\n", "x".repeat(length)).as_bytes());
        assert!(of(longest).is_ok());
        assert!(matches!(of(longest + 1), Err(End::TooLong)));
    }

    #[test]
    fn error_has_a_code_and_details() {
        let error = |text: &str| ServerError(text.to_owned());
        let moved = error("MOVED 3999 10.0.0.7:6381");
        assert_eq!(
            (moved.code(), moved.details()),
            ("MOVED", "3999 10.0.0.7:6381")
        );
        let short = error("NOAUTH");
        assert_eq!((short.code(), short.details()), ("NOAUTH", ""));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn commands_are_read_as_arrays_of_their_parts(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..5),
        ) {
            let mut encoded = Zeroizing::default();
            let wiped: Vec<_> = parts.iter().cloned().map(Zeroizing::new).collect();
            encode(&wiped, &mut encoded);
            let expected = Value::Array(parts.into_iter().map(Value::Bytes).collect());
            prop_assert_eq!(read(&encoded).unwrap(), expected);
        }
    }
}
