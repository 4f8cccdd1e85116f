//! The rows, one file each.

mod cold;
mod held;
mod helper;
mod http;
mod idle;
mod outage;
mod scale;
mod trip;
mod watchers;

use std::io;

use crate::Plan;
use crate::report::Row;

pub(crate) use held::ask;

type Measure = fn(&Plan) -> io::Result<Vec<Row>>;

/// The functions that measure each row.
pub(crate) const ALL: [(&str, Measure); 9] = [
    ("L1", helper::run),
    ("L2", held::run),
    ("L3", trip::run),
    ("L4", watchers::run),
    ("L5", cold::run),
    ("L8", idle::run),
    ("L9", outage::run),
    ("L10", scale::run),
    ("L11", http::run),
];
