//! `watch`: prints each new token, or keeps the current one in a file.

#[cfg(unix)]
mod signals_unix;
#[cfg(windows)]
mod signals_windows;
mod token_file;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use domo_token_client::{Broker, Error, Token};

use crate::args::Watch;
use crate::error::CliError;
use crate::exit_code::{CONFIG, TEMPORARY};
use crate::{output, retry, stderr, stdout};

#[cfg(unix)]
use signals_unix as signals;
#[cfg(windows)]
use signals_windows as signals;

use signals::{end_by, forward_signals};
use token_file::TokenFile;

/// The longest wait: tokens also expire during suspend, which waits do not count.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How often the token file is checked: another process that keeps the same file removes it at its end.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How long before a token falls short of `--min-ttl` another one is requested.
const RENEWAL_LEAD: Duration = Duration::from_secs(1);

/// What a watch waits for.
enum Event {
    Token(Box<Token>),
    Error(Error),
    /// A request for a token that is valid for longer than the one held has failed.
    RenewalFailed(Error),
    /// There are no further tokens.
    End,
    Signal(i32),
}

/// Runs until there are no further tokens.
pub(crate) fn run(args: &Watch) -> Result<u8, CliError> {
    // Before the token request: without a file, the token would be useless.
    let file = args.to.as_deref().map(|path| TokenFile::at(path, args));
    let file = file.transpose()?;
    if file.is_none() {
        stdout::exit_when_closed();
    }
    let (broker, first) = retry::token(&args.get)?;
    stderr::write_from_background().map_err(|error| no_thread(&error))?;
    let (sender, events) = channel();
    if file.is_some() {
        forward_signals(sender.clone())?;
    }
    let mut watcher = TokenWatcher {
        args,
        broker,
        sender,
        token: None,
        renewal_requested: false,
        file,
    };
    let ended = watcher.accept(first).and_then(|()| watcher.follow(&events));
    // After this process, nothing would remove it when it expires.
    watcher.remove_file();
    ended
}

/// Prints each token, or keeps the last one in the file.
struct TokenWatcher<'a> {
    args: &'a Watch,
    broker: Broker,
    sender: Sender<Event>,
    token: Option<Token>,
    /// Whether a successor of `token` was requested.
    renewal_requested: bool,
    file: Option<TokenFile<'a>>,
}

impl TokenWatcher<'_> {
    fn follow(&mut self, events: &Receiver<Event>) -> Result<u8, CliError> {
        let scopes = &self.args.get.scopes;
        let tokens = self.broker.watch(scopes);
        let tokens = tokens.map_err(|error| CliError::of(&error, scopes))?;
        let sender = self.sender.clone();
        in_the_background(move || {
            for item in tokens {
                let item = item.map_or_else(Event::Error, |token| Event::Token(Box::new(token)));
                if sender.send(item).is_err() {
                    return;
                }
            }
            // Fails only if the watch has ended.
            let _ = sender.send(Event::End);
        })?;
        let mut last_code = None;
        loop {
            match events.recv_timeout(self.next_wait().min(MAX_WAIT)) {
                Ok(Event::Token(token)) => self.accept(*token)?,
                Ok(Event::Error(error)) => {
                    let error = CliError::of(&error, scopes);
                    error.report();
                    last_code = Some(error.code);
                }
                Ok(Event::RenewalFailed(error)) => drop(CliError::of(&error, scopes).report()),
                Ok(Event::Signal(signal)) => {
                    self.remove_file();
                    // The parent receives the signal as the cause.
                    end_by(signal);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The error that ended it has been reported.
                Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => {
                    return Ok(last_code.unwrap_or(CONFIG));
                }
            }
            self.refresh()?;
        }
    }

    /// Returns how long a token must be valid to be handed out.
    fn min_ttl(&self) -> Duration {
        self.args.get.min_ttl.unwrap_or_default()
    }

    /// Returns for how long the token can be handed out; `None` if there is none.
    fn usable_for(&self) -> Option<Duration> {
        let token = self.token.as_ref()?;
        Some(token.expires_in().saturating_sub(self.min_ttl()))
    }

    /// Returns whether another token is still to be requested before this one falls short of `--min-ttl`.
    fn may_renew(&self) -> bool {
        !self.renewal_requested && !self.min_ttl().is_zero()
    }

    /// Returns the time until the token, or its file, needs attention.
    fn next_wait(&self) -> Duration {
        let lead = if self.may_renew() {
            RENEWAL_LEAD
        } else {
            Duration::ZERO
        };
        let wait = self
            .usable_for()
            .map_or(MAX_WAIT, |usable| usable.saturating_sub(lead));
        let file = self.file.as_ref();
        let of_file = file.and_then(|file| file.wait(self.token.as_ref(), self.min_ttl()));
        let wait = of_file.map_or(wait, |of_file| of_file.min(wait));
        if file.is_some() && self.token.is_some() {
            wait.min(FILE_CHECK_INTERVAL)
        } else {
            wait
        }
    }

    /// Drops a token that is no longer usable, requests another in time, and updates the file.
    fn refresh(&mut self) -> Result<(), CliError> {
        let usable = self.usable_for();
        if usable == Some(Duration::ZERO) {
            self.token = None;
        } else if usable.is_some_and(|usable| usable <= RENEWAL_LEAD) && self.may_renew() {
            self.request_renewal();
        }
        self.update_file()
    }

    /// Requests another token in the background. The watch receives a later token too; an immediate answer
    /// is used immediately.
    fn request_renewal(&mut self) {
        self.renewal_requested = true;
        let scopes = self.args.get.scopes.clone();
        let broker = self.broker.with_timeout(RENEWAL_LEAD);
        let more_than_left = self.min_ttl() + RENEWAL_LEAD + Duration::from_millis(1);
        let sender = self.sender.clone();
        let started = in_the_background(move || {
            let event = match broker.request(&scopes).min_ttl(more_than_left).send() {
                Ok(token) => Event::Token(Box::new(token)),
                Err(error) => Event::RenewalFailed(error),
            };
            // Fails only if the watch has ended.
            let _ = sender.send(event);
        });
        if let Err(error) = started {
            error.report();
        }
    }

    /// Prints a token or writes it to the file, unless it is known or expires too early.
    fn accept(&mut self, token: Token) -> Result<(), CliError> {
        let is_known = |known: &Token| known.generation() == token.generation();
        if self.token.as_ref().is_some_and(is_known) || token.expires_in() <= self.min_ttl() {
            return Ok(());
        }
        if self.file.is_none() {
            let text = output::token(&token, &self.args.get);
            stdout::print_or_exit(text.as_bytes())?;
        }
        self.token = Some(token);
        self.renewal_requested = false;
        self.update_file()
    }

    fn update_file(&mut self) -> Result<(), CliError> {
        let min_ttl = self.min_ttl();
        let token = self.token.as_ref();
        self.file
            .as_mut()
            .map_or(Ok(()), |file| file.update(token, min_ttl))
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
    CliError::new(TEMPORARY, format!("cannot start a thread: {error}"))
}
