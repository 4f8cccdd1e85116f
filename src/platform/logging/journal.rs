//! Log lines for systemd's journal, with their fields (`systemd.journal-fields(7)`, the native
//! protocol).
//!
//! The message contains the fields, too, because `journalctl` without options shows only the message.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::text::{ForEachField, push_field};

const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Journal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: UnixDatagram,
    /// Lines dropped since the process started.
    dropped: &'static AtomicU64,
    /// Lines dropped since the last report.
    unreported: AtomicU64,
}

impl Journal {
    /// Connects to the journal, if standard error is connected to it by `stream`, the value of
    /// `$JOURNAL_STREAM`. Lines that it does not take are counted in `dropped`.
    pub(super) fn open(stream: &str, dropped: &'static AtomicU64) -> Option<Self> {
        is_stderr(stream)
            .then(|| Self::connect(SOCKET, dropped).ok())
            .flatten()
    }

    fn connect(path: &str, dropped: &'static AtomicU64) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // While the journal does not read, lines are dropped: the daemon must not block.
        socket.set_nonblocking(true)?;
        Ok(Self(Arc::new(Shared {
            socket,
            dropped,
            unreported: AtomicU64::new(0),
        })))
    }

    /// Logs how many lines were dropped, now that the journal takes lines again.
    fn report(&self) {
        let lines = self.0.unreported.swap(0, Ordering::Relaxed);
        if lines == 0 {
            return;
        }
        let priority = priority(Level::WARN);
        let report = format!(
            "PRIORITY={priority}\nSYSLOG_IDENTIFIER=domo-tokend\nMESSAGE=log lines dropped: the \
             journal did not accept them lines={lines}\nLINES={lines}\n"
        );
        if self.0.socket.send(report.as_bytes()).is_err() {
            self.0.unreported.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

/// Returns whether `stream`, the value of `$JOURNAL_STREAM`, identifies what standard error is connected to.
pub(super) fn is_stderr(stream: &str) -> bool {
    let (Some((device, inode)), Ok(stderr)) = (stream.split_once(':'), fstat(io::stderr())) else {
        return false;
    };
    device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino)
}

impl Write for Journal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let sent = self.0.socket.send(line);
        if sent.is_ok() {
            self.report();
        } else {
            self.0.unreported.fetch_add(1, Ordering::Relaxed);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Journal {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Formats an event as one datagram of the native protocol.
pub(super) struct JournalFormat;

impl<S, N> FormatEvent<S, N> for JournalFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // The suffix repeats the fields after the message.
        let (mut message, mut suffix, mut fields) = (String::new(), String::new(), String::new());
        event.record(&mut ForEachField(|name: &str, value: &str| {
            let line = one_line(value);
            if name == "message" {
                message = line;
                return;
            }
            push_field(&mut suffix, name, value);
            // Writing to a string can't fail.
            let _ = writeln!(fields, "{}={line}", name.to_ascii_uppercase());
        }));
        let priority = priority(*event.metadata().level());
        writeln!(writer, "PRIORITY={priority}")?;
        writeln!(writer, "SYSLOG_IDENTIFIER=domo-tokend")?;
        writeln!(writer, "MESSAGE={message}{suffix}")?;
        writer.write_str(&fields)
    }
}

/// Returns the priority of `syslog(3)`.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Returns the text on one line: a line break would begin another field.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing_subscriber::fmt::Subscriber;

    use super::*;

    static DROPPED: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn journal_entry_has_its_fields_and_no_value_adds_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let listening = UnixDatagram::bind(&path).unwrap();
        let patience = Duration::from_secs(10);
        listening.set_read_timeout(Some(patience)).unwrap();
        let journal = Journal::connect(path.to_str().unwrap(), &DROPPED).unwrap();
        let subscriber = Subscriber::builder()
            .event_format(JournalFormat)
            .with_writer(journal)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let scope = format_args!("data user").to_string();
            tracing::warn!(client = "a\nPRIORITY=0", %scope, attempts = 3, "no token: {}", "x\ny");
        });
        let mut buffer = [0; 4096];
        let length = listening.recv(&mut buffer).unwrap();
        let datagram = str::from_utf8(&buffer[..length]).unwrap();
        let expected = "PRIORITY=4\nSYSLOG_IDENTIFIER=domo-tokend\n\
                        MESSAGE=no token: x\\ny client=\"a\\nPRIORITY=0\" scope=\"data user\" attempts=3\n\
                        CLIENT=a\\nPRIORITY=0\nSCOPE=data user\nATTEMPTS=3\n";
        assert_eq!(datagram, expected);
    }

    #[test]
    fn stopped_journal_drops_lines_and_is_sent_their_count_later() {
        static STOPPED: AtomicU64 = AtomicU64::new(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let listening = UnixDatagram::bind(&path).unwrap();
        listening.set_nonblocking(true).unwrap();
        let mut journal = Journal::connect(path.to_str().unwrap(), &STOPPED).unwrap();
        let mut taken = 0;
        while journal.write_all(b"MESSAGE=x\n").is_ok() {
            taken += 1;
        }
        journal.write_all(b"MESSAGE=x\n").unwrap_err();
        assert_eq!(STOPPED.load(Ordering::Relaxed), 2);
        let mut buffer = [0; 4096];
        for _ in 0..taken {
            listening.recv(&mut buffer).unwrap();
        }
        journal.write_all(b"MESSAGE=again\n").unwrap();
        let mut next = || {
            let length = listening.recv(&mut buffer).unwrap();
            str::from_utf8(&buffer[..length]).unwrap().to_owned()
        };
        assert_eq!(next(), "MESSAGE=again\n");
        let report = next();
        assert!(
            report.contains("log lines dropped") && report.ends_with("LINES=2\n"),
            "{report}"
        );
        assert_eq!(STOPPED.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn redirected_standard_error_is_not_the_journal() {
        for stream in ["", "1", "a:b", "0:0"] {
            assert!(Journal::open(stream, &DROPPED).is_none(), "{stream}");
        }
    }
}
