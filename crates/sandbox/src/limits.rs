//! How much a sandbox stores.

/// Limits of what a sandbox stores in memory. It rejects requests beyond them, and continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of datasets, streams, users, groups and pages, each; also the number of executions of a stream,
    /// policies of a dataset and collections of a page [default: 1000].
    pub objects: usize,
    /// The bytes of the data of all datasets and of uploaded parts, as CSV [default: 256 MiB].
    pub data_bytes: usize,
    /// The bytes of a CSV body, before and after decompression [default: 64 MiB].
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            objects: 1000,
            data_bytes: 256 << 20,
            body_bytes: 64 << 20,
        }
    }
}
