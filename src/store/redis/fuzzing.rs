//! Entry point for fuzzers: what a server sends, in pieces of any length.

#![allow(clippy::expect_used, reason = "a panic is how a finding is reported")]

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use zeroize::Zeroizing;

use super::command::{self, Command};
use super::error::{self, Role, Subject};
use super::resp::{self, End, MAX_EXCHANGE, RespStream, ServerError, Value};
use super::settings::{Address, Login};

/// The most memory that the answers of an operation have: short arrays in short arrays have the most per byte.
const MAX_MEMORY: usize = 32 * MAX_EXCHANGE;

/// How many of the answers are used: each takes a while, and many are equal.
const MAX_USED: usize = 64;

const PASSWORD: &str = "c4nary-password";
const NAME: &str = "0123456789abcdef0123456789abcdef";

/// Reads bytes as answers. The first two bytes are the lengths of the pieces in which they arrive alternately. If the
/// third is 255, the same bytes arrive until the limit of an operation.
pub(crate) fn answers(bytes: &[u8]) {
    let Some(([first, second, repeat], bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let enough = 2 * MAX_EXCHANGE / bytes.len().max(1);
    let repeated = bytes.repeat(if *repeat == u8::MAX { enough } else { 1 });
    let lengths = [*first, *second].map(|length| usize::from(length).max(1));
    let read = Read::of(Pieces::new(&repeated, [usize::MAX; 2]));
    assert_eq!(
        read,
        Read::of(Pieces::new(&repeated, lengths)),
        "answers depend on how bytes arrive"
    );
    for value in read.values.iter().take(MAX_USED) {
        written_again(value);
        used(value);
    }
    command_is_read(bytes, lengths);
}

/// What was read until the end.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    values: Vec<Value>,
    end: &'static str,
}

impl Read {
    /// Reads as one operation.
    fn of(pieces: Pieces<'_>) -> Self {
        let mut stream = RespStream::new(pieces);
        let mut values = Vec::new();
        loop {
            match poll_until_ready(stream.read()) {
                Ok(value) => values.push(value),
                Err(end) => {
                    let memory: usize = values.iter().map(memory).sum();
                    assert!(memory <= MAX_MEMORY, "{memory} bytes of memory");
                    assert!(
                        stream.source().taken <= MAX_EXCHANGE,
                        "too many bytes were read"
                    );
                    return Self {
                        values,
                        end: name(&end),
                    };
                }
            }
        }
    }
}

fn name(end: &End) -> &'static str {
    match end {
        End::TooLong => "too long",
        End::Closed => "closed",
        End::Invalid => "invalid",
        End::Unsolicited => "unsolicited",
        End::Failed(_) => "failed",
    }
}

/// The memory of a value and its parts.
fn memory(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Nil | Value::Integer(_) => 0,
            Value::Text(text) => text.capacity(),
            Value::Bytes(bytes) => bytes.capacity(),
            Value::Error(error) => error.0.capacity(),
            Value::Array(values) => {
                let unused = values.capacity() - values.len();
                unused * size_of::<Value>() + values.iter().map(memory).sum::<usize>()
            }
        }
}

/// A value is the same after it was written and read again.
fn written_again(value: &Value) {
    let mut written = Vec::new();
    write(value, &mut written);
    // What replaces invalid characters is longer than they are.
    if written.len() <= MAX_EXCHANGE {
        let read = poll_until_ready(RespStream::new(written.as_slice()).read());
        assert_eq!(&read.expect("it is a value"), value);
    }
}

fn write(value: &Value, written: &mut Vec<u8>) {
    let line = match value {
        Value::Nil => "$-1".to_owned(),
        Value::Integer(number) => format!(":{number}"),
        Value::Text(text) => format!("+{text}"),
        Value::Error(error) => format!("-{}", error.0),
        Value::Bytes(bytes) => format!("${}", bytes.len()),
        Value::Array(values) => format!("*{}", values.len()),
    };
    written.extend_from_slice(line.as_bytes());
    written.extend_from_slice(b"\r\n");
    match value {
        Value::Bytes(bytes) => {
            written.extend_from_slice(bytes);
            written.extend_from_slice(b"\r\n");
        }
        Value::Array(values) => values.iter().for_each(|value| write(value, written)),
        Value::Nil | Value::Integer(_) | Value::Text(_) | Value::Error(_) => {}
    }
}

/// Uses a value as the answer to each command: what it means is within bounds, and messages are one line without the
/// password and the name.
fn used(value: &Value) {
    let _any = command::server_time(value);
    let _any = command::was_set(value);
    if let Ok(Some(address)) = command::master_address(value) {
        one_line(&address.to_string());
    }
    if let Some(rejected) = error::server_error(value) {
        rejected_by_all(rejected);
    }
    if let Ok(Some(record)) = command::record(value.clone()) {
        assert!(record.len() <= crate::store::MAX_RECORD);
    }
}

fn rejected_by_all(rejected: &ServerError) {
    let node = Address {
        host: url::Host::Ipv4([127, 0, 0, 1].into()),
        port: 6379,
    };
    let login = Login {
        username: None,
        password: PASSWORD.into(),
    };
    for role in [
        Role::Sentinel,
        Role::Store {
            prefix: "domo-token",
            name: NAME,
            login_keys: "password_file",
        },
    ] {
        let subject = Subject {
            server: "127.0.0.1:6379",
            login: Some(&login),
            role,
        };
        if let Some(address) = command::moved_to(rejected.details(), &node)
            && subject.may_show(&address)
        {
            message_is_safe(&address.to_string());
        }
        for message in [
            error::of_login(rejected, &subject).message,
            error::of_command(rejected, "GET", &subject).message,
        ] {
            message_is_safe(&message);
        }
    }
}

fn message_is_safe(message: &str) {
    one_line(message);
    assert!(!message.contains(PASSWORD), "{message}");
}

fn one_line(message: &str) {
    let is_short = message.len() < 2000;
    assert!(
        is_short && !message.contains(char::is_control),
        "{message:?}"
    );
}

/// A command with these bytes in its parts is read as an array of them.
fn command_is_read(bytes: &[u8], lengths: [usize; 2]) {
    let (first, second) = bytes.split_at(lengths[0].min(bytes.len()));
    let command = Command::new("SET").arg(first).arg(second);
    let mut encoded = Zeroizing::default();
    resp::encode(&command.parts, &mut encoded);
    if encoded.len() <= MAX_EXCHANGE {
        let read = poll_until_ready(RespStream::new(Pieces::new(&encoded, lengths)).read());
        let parts = [b"SET", first, second].map(|part| Value::Bytes(part.to_vec()));
        assert_eq!(
            read.expect("a command is an array"),
            Value::Array(parts.into())
        );
    }
}

/// Bytes that arrive in pieces of two alternating lengths, each after a wait.
struct Pieces<'a> {
    rest: &'a [u8],
    lengths: [usize; 2],
    is_due: bool,
    taken: usize,
}

impl<'a> Pieces<'a> {
    fn new(rest: &'a [u8], lengths: [usize; 2]) -> Self {
        Self {
            rest,
            lengths,
            is_due: false,
            taken: 0,
        }
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_due = !self.is_due;
        if self.is_due {
            return Poll::Pending;
        }
        let [length, _] = self.lengths;
        let length = length.min(buffer.remaining()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(length);
        buffer.put_slice(piece);
        self.rest = rest;
        self.taken += length;
        self.lengths.reverse();
        Poll::Ready(Ok(()))
    }
}

fn poll_until_ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return result;
        }
    }
}
