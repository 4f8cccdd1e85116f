//! Each new token, to standard output or into a file.

mod file;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use domo_token_client::{Broker, Error, Token};

use crate::args::Watch;
use crate::error::{CONFIG, CliError, TEMPORARY};
use crate::{connect, messages, output, reader};

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

use file::TokenFile;
use platform::{end_by, pass_on_signals};

/// How long a wait lasts at most: while the machine sleeps tokens die, and waits don't go on.
const LOOK: Duration = Duration::from_secs(30);

/// How long a token file may be missing: another process that keeps the same file removes it at its end.
const FILE_LOOK: Duration = Duration::from_secs(2);

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
pub(crate) fn run(wanted: &Watch) -> Result<u8, CliError> {
    // Before the broker is asked: a token that can't be written is of no use.
    let file = wanted.to.as_deref().map(|path| TokenFile::at(path, wanted));
    let file = file.transpose()?;
    if file.is_none() {
        reader::end_with_it();
    }
    let (broker, first) = connect::token(&wanted.get)?;
    messages::write_from_background().map_err(|error| no_thread(&error))?;
    let (sender, news) = channel();
    if file.is_some() {
        pass_on_signals(sender.clone())?;
    }
    let mut keeper = Keeper {
        wanted,
        broker,
        sender,
        held: None,
        asked: false,
        file,
    };
    let ended = keeper.take(first).and_then(|()| keeper.follow(&news));
    // Nobody would take it away when it dies.
    keeper.remove_file();
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
    file: Option<TokenFile<'a>>,
}

impl Keeper<'_> {
    fn follow(&mut self, news: &Receiver<News>) -> Result<u8, CliError> {
        let scopes = &self.wanted.get.scopes;
        let tokens = self.broker.watch(scopes);
        let tokens = tokens.map_err(|error| CliError::of(&error, scopes))?;
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
                    let problem = CliError::of(&error, scopes);
                    problem.tell();
                    last = Some(problem);
                }
                Ok(News::Unanswered(error)) => drop(CliError::of(&error, scopes).tell()),
                Ok(News::Signal(signal)) => {
                    self.remove_file();
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

    /// The time until there is something to do about the token held, or its file.
    fn rest(&self) -> Duration {
        let lead = if self.may_ask() { LEAD } else { Duration::ZERO };
        let rest = self.good().map_or(LOOK, |good| good.saturating_sub(lead));
        let file = self.file.as_ref();
        let wait = file.and_then(|file| file.wait(self.held.as_ref(), self.least()));
        let rest = wait.map_or(rest, |wait| wait.min(rest));
        if file.is_some() && self.held.is_some() {
            rest.min(FILE_LOOK)
        } else {
            rest
        }
    }

    /// Drops a token that isn't good any more, asks for another in time, and sees to the file.
    fn look_after(&mut self) -> Result<(), CliError> {
        let good = self.good();
        if good == Some(Duration::ZERO) {
            self.held = None;
        } else if good.is_some_and(|good| good <= LEAD) && self.may_ask() {
            self.ask_for_another();
        }
        self.update_file()
    }

    /// Whatever comes of it comes to all who watch, but what comes at once is taken at once. Signals
    /// are handled meanwhile.
    fn ask_for_another(&mut self) {
        self.asked = true;
        let scopes = self.wanted.get.scopes.clone();
        let broker = self.broker.with_timeout(LEAD);
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
    fn take(&mut self, token: Token) -> Result<(), CliError> {
        let known = |held: &Token| held.generation() == token.generation();
        if self.held.as_ref().is_some_and(known) || token.expires_in() <= self.least() {
            return Ok(());
        }
        if self.file.is_none() {
            let text = output::token(&token, &self.wanted.get);
            reader::print(text.as_bytes())?;
        }
        self.held = Some(token);
        self.asked = false;
        self.update_file()
    }

    fn update_file(&mut self) -> Result<(), CliError> {
        let least = self.least();
        let held = self.held.as_ref();
        self.file
            .as_mut()
            .map_or(Ok(()), |file| file.update(held, least))
    }

    fn remove_file(&mut self) {
        if let Some(file) = &mut self.file {
            file.remove_at_end();
        }
    }
}

fn in_the_background(job: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
    let started = thread::Builder::new().spawn(job);
    started.map(|_| ()).map_err(|error| no_thread(&error))
}

fn no_thread(error: &io::Error) -> CliError {
    CliError::new(TEMPORARY, format!("no thread can be started: {error}"))
}
