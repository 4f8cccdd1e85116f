//! What the console says instead of signals, and what a file is known by.

use std::fs::{self, File};
use std::io;
use std::os::windows::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close};

use super::{News, in_the_background};
use crate::ask::pause;
use crate::problem::{Problem, SOFTWARE};

/// `STATUS_CONTROL_C_EXIT`, with which the console ends a program that doesn't listen to it.
const ENDED_BY_CONSOLE: u32 = 0xC000_013A;

/// `ERROR_ACCESS_DENIED` and `ERROR_SHARING_VIOLATION`: what a file in use is told by.
const IN_USE: [i32; 2] = [5, 32];

/// How often it is tried to replace a file in use: for a second, which is long for a reader.
const TRIES: u32 = 100;

/// How long between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// A file that we have put in place, by when it was last written. It isn't held open: then it
/// couldn't be replaced everywhere.
pub(super) struct Ours(u64);

impl Ours {
    pub(super) fn of(file: File) -> io::Result<Self> {
        let written = file.metadata()?.last_write_time();
        // Before it is renamed, which an open file may not be everywhere.
        drop(file);
        Ok(Self(written))
    }

    /// Whether it is what is there.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(self.0 == fs::symlink_metadata(path)?.last_write_time())
    }
}

pub(super) fn pass_on_signals(sender: Sender<News>) -> Result<(), Problem> {
    let failed = |error| Problem::new(SOFTWARE, format!("ctrl-c can't be caught: {error}"));
    let runtime = Builder::new_current_thread().build().map_err(failed)?;
    let listened = (|| Ok((ctrl_c()?, ctrl_break()?, ctrl_close()?)))();
    let (mut c, mut pause, mut close) = listened.map_err(failed)?;
    in_the_background(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = c.recv() => {}
                _ = pause.recv() => {}
                _ = close.recv() => {}
            }
        });
        let _nobody_listens = sender.send(News::Signal(ENDED_BY_CONSOLE.cast_signed()));
    })
}

pub(super) fn end_by(code: i32) -> ! {
    std::process::exit(code)
}

/// While somebody reads the old one it can't be replaced everywhere, so that is waited for.
pub(super) fn put_in_place(new: &Path, path: &Path) -> io::Result<()> {
    let mut left = TRIES;
    loop {
        let renamed = fs::rename(new, path);
        let code = renamed.as_ref().err().and_then(io::Error::raw_os_error);
        left -= 1;
        if left == 0 || !code.is_some_and(|code| IN_USE.contains(&code)) {
            return renamed;
        }
        pause(PAUSE);
    }
}

/// Files have no mode here: who may read it is the directory's to say, which they inherit.
#[expect(clippy::unnecessary_wraps, reason = "the same face everywhere")]
pub(super) fn give_mode(_: &File, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// A rename is the file system's to keep; directories can't be told to.
#[expect(clippy::unnecessary_wraps, reason = "the same face everywhere")]
pub(super) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
