//! Domo's API for data, users and pages, in memory.
//!
//! It follows Domo's documentation (github.com/DomoApps/domo-documentation-hub, DataSet-API.yaml and others) and what
//! pydomo, domo-sdk and Domo's Java and R SDKs send and accept.
//!
//! - `call`: calls and replies.
//! - `table`: rows as CSV.
//! - `sql`, `query`: the subset of SQL, and its results.
//! - `policies`, `datasets`, `streams`, `groups`, `users`, `pages`: one family or part of it each.

mod call;
mod datasets;
mod groups;
mod pages;
mod policies;
mod query;
mod sql;
mod streams;
mod table;
mod users;

pub(crate) use call::{Call, Content, Problem, Reply};
use table::{Column, ColumnType};

use crate::limits::Limits;

/// The user that owns everything: the one of each token.
pub(crate) const OWNER_ID: i64 = 964_382_593;

const OWNER_NAME: &str = "DomoSupport";

/// The most bytes of a JSON body.
const MAX_JSON: usize = 256 * 1024;

/// Calls that need the same scope.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    Datasets,
    Streams,
    Users,
    Groups,
    Pages,
}

impl Family {
    /// Returns the family of a path, and the segments after its name.
    pub(crate) fn of_path(path: &str) -> Option<(Self, Vec<&str>)> {
        let mut segments = path.strip_prefix("/v1/")?.split('/');
        let family = match segments.next()? {
            "datasets" => Self::Datasets,
            "streams" => Self::Streams,
            "users" => Self::Users,
            "groups" => Self::Groups,
            "pages" => Self::Pages,
            _ => return None,
        };
        let mut rest: Vec<&str> = segments.collect();
        // pydomo lists users and streams with a slash at the end.
        if rest.last().is_some_and(|last| last.is_empty()) {
            rest.pop();
        }
        Some((family, rest))
    }

    pub(crate) fn scope(self) -> &'static str {
        match self {
            Self::Datasets | Self::Streams => "data",
            Self::Users | Self::Groups => "user",
            Self::Pages => "dashboard",
        }
    }

    /// Returns the most bytes of the body of a call.
    pub(crate) fn max_body(self, path: &[&str], limits: Limits) -> usize {
        match (self, path) {
            (Self::Datasets, [_, "data"]) | (Self::Streams, [_, "executions", _, "part", _]) => {
                limits.body_bytes
            }
            _ => MAX_JSON.min(limits.body_bytes),
        }
    }
}

/// What is stored.
pub(crate) struct Store {
    limits: Limits,
    datasets: Vec<datasets::Dataset>,
    streams: Vec<streams::Stream>,
    users: Vec<users::User>,
    groups: Vec<groups::Group>,
    pages: Vec<pages::Page>,
    last_id: u64,
}

impl Store {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            datasets: example_datasets(),
            streams: Vec::new(),
            users: vec![users::User::example(
                535_932_971,
                "Leonhard Euler",
                "leonhard.euler@example.com",
            )],
            groups: Vec::new(),
            pages: Vec::new(),
            last_id: 0,
        }
    }

    pub(crate) fn answer(&mut self, family: Family, call: &Call<'_>) -> call::Result {
        match family {
            Family::Datasets => datasets::answer(self, call),
            Family::Streams => streams::answer(self, call),
            Family::Users => users::answer(self, call),
            Family::Groups => groups::answer(self, call),
            Family::Pages => pages::answer(self, call),
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Checks that one more object is within the limit.
    fn check_count(&self, count: usize, what: &str) -> call::Result<()> {
        let limit = self.limits.objects;
        if count < limit {
            return Ok(());
        }
        Err(Problem::limit(&format!("at most {limit} {what}")))
    }

    fn data_bytes(&self) -> usize {
        let datasets = self.datasets.iter().map(|dataset| dataset.table.bytes());
        let streams = self.streams.iter().map(streams::Stream::data_bytes);
        datasets.chain(streams).sum()
    }
}

fn example_datasets() -> Vec<datasets::Dataset> {
    let column = |kind, name: &str| Column {
        kind,
        name: name.to_owned(),
    };
    let party = [
        column(ColumnType::String, "Friend"),
        column(ColumnType::String, "Attending"),
    ];
    let questions = [
        column(ColumnType::Long, "Book"),
        column(ColumnType::String, "Question"),
    ];
    vec![
        datasets::Dataset::example(
            "4405ff58-1957-45f0-82bd-914d989a3ea3",
            "Leonhard Euler Party",
            &party,
            "Carl Friedrich Gauss,TRUE\nIsaac Newton,FALSE\n",
        ),
        datasets::Dataset::example(
            "08a061e2-12a2-4646-b4bc-20beddb403e3",
            "Questions regarding Euclid",
            &questions,
            "1,Parallels\n1,Triangles\n2,Gnomons\n7,Primes\n9,Perfect numbers\n10,\n",
        ),
    ]
}
