//! The rows, one file each.

pub(crate) mod trip;
