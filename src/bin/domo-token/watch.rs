//! Each new token, to standard output or into a file.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use domo_token_client::{Broker, Error, Token};

use crate::args::Watch;
use crate::problem::{CONFIG, IO_ERROR, Problem, TEMPORARY, say};
use crate::{ask, print, reader};

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

use platform::{Ours, end_by, pass_on_signals, put_in_place, sync_directory};

/// How long a wait lasts at most: while the machine sleeps tokens die, and waits don't go on.
const LOOK: Duration = Duration::from_secs(30);

/// How long before a token falls short of `--min-ttl` the broker is asked for another.
const LEAD: Duration = Duration::from_secs(1);

/// What there is to wait for.
enum News {
    Token(Box<Token>),
    Trouble(Error),
    /// A request for a token that is valid for longer than the one held has failed.
    Unanswered(Error),
    /// There is nothing to come any more.
    End,
    Signal(i32),
}

/// Runs until there is nothing to come any more.
pub(crate) fn run(wanted: &Watch) -> Result<u8, Problem> {
    if wanted.to.is_none() {
        reader::end_with_it();
    }
    let (broker, first) = ask::token(&wanted.get)?;
    let (sender, news) = channel();
    if wanted.to.is_some() {
        pass_on_signals(sender.clone())?;
    }
    let mut keeper = Keeper {
        wanted,
        broker,
        sender,
        held: None,
        asked: false,
        file: None,
    };
    let ended = keeper.take(first).and_then(|()| keeper.follow(&news));
    // Nobody would take it away when it dies.
    keeper.remove()?;
    ended
}

/// Keeps the last token where it is wanted.
struct Keeper<'a> {
    wanted: &'a Watch,
    broker: Broker,
    sender: Sender<News>,
    held: Option<Token>,
    /// Whether another was asked for in place of the one held.
    asked: bool,
    /// The file that is ours.
    file: Option<Ours>,
}

impl Keeper<'_> {
    fn follow(&mut self, news: &Receiver<News>) -> Result<u8, Problem> {
        let scopes = &self.wanted.get.scopes;
        let tokens = self.broker.watch(scopes);
        let tokens = tokens.map_err(|error| Problem::of(&error, scopes))?;
        let sender = self.sender.clone();
        in_the_background(move || {
            for item in tokens {
                let item = item.map_or_else(News::Trouble, |token| News::Token(Box::new(token)));
                if sender.send(item).is_err() {
                    return;
                }
            }
            let _nobody_listens = sender.send(News::End);
        })?;
        let mut last = None;
        loop {
            match news.recv_timeout(self.rest().min(LOOK)) {
                Ok(News::Token(token)) => self.take(*token)?,
                Ok(News::Trouble(error)) => {
                    let problem = Problem::of(&error, scopes);
                    problem.tell();
                    last = Some(problem);
                }
                Ok(News::Unanswered(error)) => say(&error.to_string()),
                Ok(News::Signal(signal)) => {
                    self.remove()?;
                    // As without a handler: whoever started it sees by what it ended.
                    end_by(signal);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // What ended it was told when it came.
                Ok(News::End) | Err(RecvTimeoutError::Disconnected) => {
                    return Ok(last.map_or(CONFIG, |problem| problem.code));
                }
            }
            self.look_after()?;
        }
    }

    /// How much of its life a token is not given out for.
    fn least(&self) -> Duration {
        self.wanted.get.min_ttl.unwrap_or_default()
    }

    /// How long the token held is good for; `None` if there is none.
    fn good(&self) -> Option<Duration> {
        let token = self.held.as_ref()?;
        Some(token.expires_in().saturating_sub(self.least()))
    }

    /// Whether another may still be asked for in place of the one held.
    fn may_ask(&self) -> bool {
        !self.asked && !self.least().is_zero()
    }

    /// The time until there is something to do about the token held.
    fn rest(&self) -> Duration {
        let lead = if self.may_ask() { LEAD } else { Duration::ZERO };
        self.good().map_or(LOOK, |good| good.saturating_sub(lead))
    }

    /// Removes a token that isn't good any more, and asks for another in time.
    fn look_after(&mut self) -> Result<(), Problem> {
        let Some(good) = self.good() else {
            return Ok(());
        };
        if good.is_zero() {
            self.held = None;
            return self.remove();
        }
        if good <= LEAD && self.may_ask() {
            self.ask_for_another();
        }
        Ok(())
    }

    /// Whatever comes of it comes to all who watch, but what comes at once is taken at once. Signals
    /// are handled meanwhile.
    fn ask_for_another(&mut self) {
        self.asked = true;
        let scopes = self.wanted.get.scopes.clone();
        let broker = self.broker.timeout(LEAD);
        let more_than_left = self.least() + LEAD + Duration::from_millis(1);
        let sender = self.sender.clone();
        let started = in_the_background(move || {
            let news = match broker.request(&scopes).min_ttl(more_than_left).send() {
                Ok(token) => News::Token(Box::new(token)),
                Err(error) => News::Unanswered(error),
            };
            let _nobody_listens = sender.send(news);
        });
        if let Err(problem) = started {
            problem.tell();
        }
    }

    /// Puts a token where it is wanted, unless it is there or is worth too little.
    fn take(&mut self, token: Token) -> Result<(), Problem> {
        let known = |held: &Token| held.generation() == token.generation();
        if self.held.as_ref().is_some_and(known) || token.expires_in() <= self.least() {
            return Ok(());
        }
        let text = print::token(&token, &self.wanted.get);
        match &self.wanted.to {
            None => {
                reader::print(text.as_bytes())?;
            }
            Some(path) => {
                let put = replace(path, text.as_bytes(), self.wanted.mode);
                self.file = Some(put.map_err(|error| failed(path, &error))?);
            }
        }
        self.held = Some(token);
        self.asked = false;
        Ok(())
    }

    /// Removes the file if it is still the one that we put there.
    fn remove(&mut self) -> Result<(), Problem> {
        let (Some(path), Some(file)) = (&self.wanted.to, self.file.take()) else {
            return Ok(());
        };
        let removed = match file.is_at(path) {
            Ok(true) => fs::remove_file(path).and_then(|()| sync_directory(path)),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn in_the_background(job: impl FnOnce() + Send + 'static) -> Result<(), Problem> {
    let failed = |error| Problem::new(TEMPORARY, format!("no thread can be started: {error}"));
    let started = thread::Builder::new().spawn(job);
    started.map(|_| ()).map_err(failed)
}

/// In one piece: whoever opens the path finds the old token or the new one, whole, even after a
/// power cut.
fn replace(path: &Path, text: &[u8], mode: u32) -> io::Result<Ours> {
    let next = beside(path)?;
    // One that a killed watcher of our process id left.
    let _none = fs::remove_file(&next);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&next)?;
    let written = file
        .write_all(text)
        .and_then(|()| platform::give_mode(&file, mode))
        .and_then(|()| file.sync_all())
        .and_then(|()| Ours::of(file))
        .and_then(|ours| put_in_place(&next, path).map(|()| ours));
    match written {
        Ok(ours) => sync_directory(path).map(|()| ours),
        Err(error) => {
            let _left = fs::remove_file(&next);
            Err(error)
        }
    }
}

/// A name that no pattern for the file's own takes in.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

fn failed(path: &Path, error: &io::Error) -> Problem {
    let shown = path.display();
    let hint = if error.kind() == io::ErrorKind::NotFound {
        "; make its directory first"
    } else {
        ""
    };
    Problem::new(IO_ERROR, format!("{shown} can't be written: {error}{hint}"))
}
