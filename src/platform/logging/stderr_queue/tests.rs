use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::platform::clock::boot_now;

/// Reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// A sink that writes one piece for each answer that it is given, and blocks without one.
struct Gate {
    answers: Mutex<Receiver<io::Result<usize>>>,
    written: Mutex<Sender<Vec<u8>>>,
    room: bool,
}

struct SinkControl {
    answers: Sender<io::Result<usize>>,
    written: Receiver<Vec<u8>>,
}

impl SinkControl {
    fn allow(&self, bytes: usize) {
        self.answers.send(Ok(bytes)).unwrap();
    }

    fn fail(&self, kind: io::ErrorKind) {
        self.answers.send(Err(kind.into())).unwrap();
    }

    fn next(&self) -> String {
        let piece = self.written.recv_timeout(PATIENCE).unwrap();
        String::from_utf8(piece).unwrap()
    }
}

impl Sink for Gate {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let answer = self.answers.lock().unwrap().recv();
        // The test is over.
        let most = answer.unwrap_or(Ok(usize::MAX))?.min(bytes.len());
        let _ = self.written.lock().unwrap().send(bytes[..most].to_vec());
        Ok(most)
    }

    fn wait(&self) -> io::Result<()> {
        Ok(())
    }

    fn has_room(&self, length: usize) -> bool {
        self.room && length <= PIPE_ROOM
    }
}

fn queue(dropped: &'static AtomicU64, report: fn(u64)) -> (LogQueue<Gate>, SinkControl) {
    let (answers, given) = channel();
    let (sender, written) = channel();
    let gate = Gate {
        answers: Mutex::new(given),
        written: Mutex::new(sender),
        room: true,
    };
    (
        LogQueue::new(gate, dropped, report),
        SinkControl { answers, written },
    )
}

fn dropped(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[test]
fn lines_of_a_sink_that_blocks_are_dropped_past_the_bound_and_reported_once() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    static REPORTED: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let (queue, outside) = queue(&DROPPED, |lines| REPORTED.lock().unwrap().push(lines));
    queue.push(b"first\n");
    outside.allow(99);
    assert_eq!(outside.next(), "first\n");
    // The thread may or may not have taken one of them.
    for _ in 0..=MAX_LINES {
        queue.push(b"x\n");
    }
    let before = dropped(&DROPPED);
    assert!(before <= 1, "{before}");
    for _ in 0..10 {
        queue.push(b"y\n");
    }
    assert!(dropped(&DROPPED) >= 10);
    assert!(REPORTED.lock().unwrap().is_empty());
    for _ in 0..=MAX_LINES {
        outside.allow(99);
    }
    queue.flush(PATIENCE);
    assert_eq!(*REPORTED.lock().unwrap(), [dropped(&DROPPED)]);
    queue.push(b"again\n");
    outside.allow(99);
    queue.flush(PATIENCE);
    let written: Vec<_> = outside.written.try_iter().collect();
    assert_eq!(written.last().unwrap(), b"again\n");
    assert!(!written.contains(&b"y\n".to_vec()));
}

#[test]
fn queue_stays_within_its_bound_except_for_final_lines() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let (queue, _outside) = queue(&DROPPED, |_| {});
    let long = vec![b'x'; MAX_BYTES / 4];
    for _ in 0..10 {
        queue.push(&long);
        assert!(queue.0.state().bytes <= MAX_BYTES);
    }
    assert_eq!(dropped(&DROPPED), 6);
    queue.push_last(b"last\n");
    assert_eq!(queue.0.state().lines.back().unwrap(), b"last\n");
}

#[test]
fn line_longer_than_the_queue_costs_no_later_line() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let (queue, outside) = queue(&DROPPED, |_| {});
    queue.push(&vec![b'x'; MAX_BYTES + 1]);
    assert_eq!(dropped(&DROPPED), 1);
    queue.push(b"next\n");
    outside.allow(99);
    assert_eq!(outside.next(), "next\n");
}

#[test]
fn line_that_cannot_be_written_is_counted_and_the_next_starts_a_new_line() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    static REPORTED: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let (queue, outside) = queue(&DROPPED, |lines| REPORTED.lock().unwrap().push(lines));
    queue.push(b"cut off\n");
    outside.allow(3);
    assert_eq!(outside.next(), "cut");
    outside.fail(io::ErrorKind::StorageFull);
    queue.flush(PATIENCE);
    assert_eq!(dropped(&DROPPED), 1);
    assert!(
        REPORTED.lock().unwrap().is_empty(),
        "nothing works again yet"
    );
    queue.push(b"whole\n");
    outside.allow(99);
    assert_eq!(outside.next(), "\n");
    outside.fail(io::ErrorKind::Interrupted);
    outside.fail(io::ErrorKind::WouldBlock);
    outside.allow(2);
    assert_eq!(outside.next(), "wh");
    outside.allow(99);
    assert_eq!(outside.next(), "ole\n");
    queue.flush(PATIENCE);
    assert_eq!(*REPORTED.lock().unwrap(), [1]);
    assert_eq!(dropped(&DROPPED), 1);
}

/// Waits until the thread has ended for lack of lines.
fn wait_for_idle(queue: &LogQueue<Gate>) {
    let end = boot_now() + PATIENCE;
    let mut state = queue.0.state();
    while state.writer != Writer::Absent {
        assert!(boot_now() < end, "the thread goes on");
        let waited = queue
            .0
            .changed
            .wait_timeout(state, Duration::from_millis(5));
        state = waited.unwrap().0;
    }
}

#[test]
fn line_after_an_incomplete_one_starts_a_new_line_without_the_thread() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let (queue, outside) = queue(&DROPPED, |_| {});
    let tear = || {
        queue.push(b"cut off\n");
        outside.allow(3);
        outside.fail(io::ErrorKind::StorageFull);
        queue.flush(PATIENCE);
        wait_for_idle(&queue);
    };
    tear();
    assert_eq!(outside.next(), "cut");
    queue.push(b"whole\n");
    outside.allow(99);
    outside.allow(99);
    assert_eq!([outside.next(), outside.next()], ["\n", "whole\n"]);
    tear();
    assert_eq!(outside.next(), "cut");
    outside.allow(99);
    queue.0.write_without_thread(&mut queue.0.state(), b"x\n");
    assert_eq!(outside.next(), "\nx\n");
}

#[test]
fn line_longer_than_the_free_space_is_cut_without_a_thread() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let (queue, outside) = queue(&DROPPED, |_| {});
    let line = "x".repeat(PIPE_ROOM) + "\n";
    outside.allow(usize::MAX);
    let write = || {
        let mut state = queue.0.state();
        queue.0.write_without_thread(&mut state, line.as_bytes());
    };
    write();
    assert_eq!(outside.next(), "x".repeat(PIPE_ROOM - 1) + "\n");
    assert_eq!(dropped(&DROPPED), 0);
    outside.allow(3);
    write();
    assert_eq!(outside.next(), "xxx");
    assert_eq!(dropped(&DROPPED), 1);
    outside.allow(usize::MAX);
    write();
    assert_eq!(outside.next(), format!("\n{}\n", "x".repeat(PIPE_ROOM - 2)));
}

#[test]
fn flush_ends_at_its_bound_while_the_sink_blocks() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let (queue, _outside) = queue(&DROPPED, |_| {});
    queue.push(b"x\n");
    queue.flush(Duration::from_millis(10));
    let state = queue.0.state();
    assert!(state.writer == Writer::Writing || !state.lines.is_empty());
}

#[test]
fn line_is_written_immediately_or_dropped_without_a_thread() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let (queue, outside) = queue(&DROPPED, |_| {});
    outside.allow(99);
    queue.0.write_without_thread(&mut queue.0.state(), b"x\n");
    assert_eq!(outside.next(), "x\n");
    assert_eq!(dropped(&DROPPED), 0);
    let (answers, given) = channel();
    let full = Gate {
        answers: Mutex::new(given),
        written: Mutex::new(channel().0),
        room: false,
    };
    drop(answers);
    let full = LogQueue::new(full, &DROPPED, |_| {});
    full.0.write_without_thread(&mut full.0.state(), b"y\n");
    assert_eq!(dropped(&DROPPED), 1);
}
