//! Signals, and what a file is known by.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc::Sender;

use signal_hook::iterator::Signals;

use super::{News, in_the_background};
use crate::problem::{Problem, SOFTWARE};
use crate::signals;
pub(super) use crate::signals::end_by;

/// A file that we have put in place, open: its number can't become another's.
pub(super) struct Ours(File);

impl Ours {
    #[expect(clippy::unnecessary_wraps, reason = "the same face everywhere")]
    pub(super) fn of(file: File) -> io::Result<Self> {
        Ok(Self(file))
    }

    /// Whether it is what is there.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let number = |stat: Metadata| (stat.dev(), stat.ino());
        let ours = self.0.metadata().map(number)?;
        Ok(ours == fs::symlink_metadata(path).map(number)?)
    }
}

pub(super) fn pass_on_signals(sender: Sender<News>) -> Result<(), Problem> {
    let failed = |error| Problem::new(SOFTWARE, format!("signals can't be caught: {error}"));
    let mut signals = Signals::new(signals::ending()).map_err(failed)?;
    signals::take_over();
    in_the_background(move || {
        for signal in signals.forever() {
            if sender.send(News::Signal(signal)).is_err() {
                return;
            }
        }
    })
}

pub(super) fn put_in_place(new: &Path, path: &Path) -> io::Result<()> {
    fs::rename(new, path)
}

pub(super) fn give_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
