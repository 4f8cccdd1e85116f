//! Streams: uploads of a dataset in parts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Store;
use super::call::{Call, MAX_PAGE, Problem, Reply, Result, find, remove, to_json};
use super::datasets::{self, Dataset, NewDataset};
use super::table::{Column, Table};
use crate::clock;

pub(super) struct Stream {
    id: u64,
    dataset: String,
    method: UpdateMethod,
    /// Rows with the same values in these columns replace each other.
    keys: Vec<String>,
    executions: Vec<Execution>,
    created_at: String,
    modified_at: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum UpdateMethod {
    Append,
    Replace,
    Upsert,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Execution {
    id: u64,
    started_at: String,
    current_state: ExecutionState,
    created_at: String,
    modified_at: String,
    update_method: UpdateMethod,
    /// The uploaded parts by their numbers.
    #[serde(skip)]
    parts: BTreeMap<u64, Table>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum ExecutionState {
    Active,
    Success,
    Aborted,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewStream {
    data_set: NewDataset,
    update_method: Option<UpdateMethod>,
    #[serde(default)]
    key_column_names: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    update_method: Option<UpdateMethod>,
    key_column_names: Option<Vec<String>>,
}

impl Stream {
    fn json(&self, datasets: &[Dataset], all: bool) -> Value {
        let dataset = datasets.iter().find(|dataset| dataset.id == self.dataset);
        let dataset = match dataset.map(Dataset::summary) {
            None => json!({"id": self.dataset, "deleted": true}),
            Some(fields) if all => fields,
            Some(fields) => json!({"id": self.dataset, "pdpEnabled": fields.get("pdpEnabled")}),
        };
        json!({
            "id": self.id,
            "dataSet": dataset,
            "updateMethod": self.method,
            "keyColumnNames": self.keys,
            "createdAt": self.created_at,
            "modifiedAt": self.modified_at,
        })
    }

    pub(super) fn data_bytes(&self) -> usize {
        let parts = self.executions.iter().flat_map(|e| e.parts.values());
        parts.map(Table::bytes).sum()
    }
}

impl Execution {
    fn end(&mut self, state: ExecutionState) {
        self.current_state = state;
        self.modified_at = clock::timestamp();
        self.parts.clear();
    }

    fn check_active(&self) -> Result<()> {
        if self.current_state == ExecutionState::Active {
            return Ok(());
        }
        Err(Problem::bad_request("the execution is not ACTIVE"))
    }
}

pub(super) fn answer(store: &mut Store, call: &Call<'_>) -> Result {
    match (call.method, call.path) {
        ("GET", []) => {
            let streams = call.page(store.streams.iter().collect(), MAX_PAGE)?;
            Reply::ok(list(&streams, &store.datasets, call))
        }
        ("POST", []) => create(store, call.json()?),
        ("GET", ["search"]) => search(store, call),
        ("GET", [id]) => {
            let stream = get(&mut store.streams, id)?;
            Reply::ok(stream.json(&store.datasets, true))
        }
        ("PATCH", [id]) => update(store, id, call),
        ("DELETE", [id]) => {
            let id = number(id)?;
            remove(&mut store.streams, |stream| stream.id == id)
        }
        ("PUT", [id, "executions", "abort"]) => {
            for execution in &mut get(&mut store.streams, id)?.executions {
                if execution.current_state == ExecutionState::Active {
                    execution.end(ExecutionState::Aborted);
                }
            }
            Reply::no_content()
        }
        (_, [id, "executions", rest @ ..]) => executions(store, id, rest, call),
        (_, [] | [_]) => Err(Problem::method_not_allowed()),
        _ => Err(Problem::not_found()),
    }
}

fn executions(store: &mut Store, stream: &str, path: &[&str], call: &Call<'_>) -> Result {
    match (call.method, path) {
        ("GET", []) => {
            let executions = get(&mut store.streams, stream)?.executions.iter();
            let page = call.page(executions.collect(), MAX_PAGE)?;
            Reply::ok(to_json(&page))
        }
        ("POST", []) => start(store, stream, call),
        ("GET", [id]) => Reply::ok(to_json(execution(store, stream, id)?)),
        ("PUT", [id, "part", part]) => upload(store, stream, id, part, call),
        ("PUT", [id, "commit"]) => commit(store, stream, id),
        ("PUT", [id, "abort"]) => {
            let execution = execution(store, stream, id)?;
            execution.check_active()?;
            execution.end(ExecutionState::Aborted);
            Reply::ok(to_json(execution))
        }
        (_, [] | [_] | [_, "part", _] | [_, "commit" | "abort"]) => {
            Err(Problem::method_not_allowed())
        }
        _ => Err(Problem::not_found()),
    }
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Problem::not_found())
}

fn get<'a>(streams: &'a mut [Stream], id: &str) -> Result<&'a mut Stream> {
    let id = number(id)?;
    find(streams, |stream| stream.id == id)
}

fn execution<'a>(store: &'a mut Store, stream: &str, id: &str) -> Result<&'a mut Execution> {
    let id = number(id)?;
    let stream = get(&mut store.streams, stream)?;
    find(&mut stream.executions, |execution| execution.id == id)
}

/// Returns the positions of the key columns; without any, rows are not replaced.
fn key_positions(columns: &[Column], keys: &[String]) -> Result<Vec<usize>> {
    let position = |key: &String| {
        let found = columns.iter().position(|column| column.name == *key);
        found.ok_or_else(|| Problem::bad_request(format!("no key column {key:?}")))
    };
    keys.iter().map(position).collect()
}

fn check_keys(method: UpdateMethod, keys: &[String]) -> Result<()> {
    if method == UpdateMethod::Upsert && keys.is_empty() {
        return Err(Problem::bad_request("UPSERT requires keyColumnNames"));
    }
    Ok(())
}

fn create(store: &mut Store, new: NewStream) -> Result {
    store.check_count(store.streams.len(), "streams")?;
    let method = new.update_method.unwrap_or(UpdateMethod::Replace);
    check_keys(method, &new.key_column_names)?;
    key_positions(new.data_set.columns(), &new.key_column_names)?;
    let dataset = datasets::create(store, new.data_set)?.id.clone();
    let now = clock::timestamp();
    let stream = Stream {
        id: store.next_id(),
        dataset,
        method,
        keys: new.key_column_names,
        executions: Vec::new(),
        created_at: now.clone(),
        modified_at: now,
    };
    let reply = stream.json(&store.datasets, true);
    store.streams.push(stream);
    Reply::created(reply)
}

fn list(streams: &[&Stream], datasets: &[Dataset], call: &Call<'_>) -> Value {
    let fields = call.parameter("fields").unwrap_or_default();
    let streams = streams
        .iter()
        .map(|stream| stream.json(datasets, fields == "all"));
    streams.collect()
}

fn search(store: &Store, call: &Call<'_>) -> Result {
    let query = call.parameter("q").unwrap_or_default();
    let (qualifier, value) = query.split_once(':').unwrap_or((&query, ""));
    let matches = |dataset: &Dataset| match qualifier {
        "dataSource.id" => Ok(dataset.id == value),
        "dataSource.owner.id" => Ok(dataset.owner_id().to_string() == value),
        "dataSource.name" => Ok(dataset.name() == value),
        _ => Err(Problem::bad_request(format!(
            "unknown qualifier {qualifier:?}"
        ))),
    };
    let mut found = Vec::new();
    for stream in &store.streams {
        let dataset = store.datasets.iter().find(|d| d.id == stream.dataset);
        if dataset.map(matches).transpose()? == Some(true) {
            found.push(stream);
        }
    }
    Reply::ok(list(&found, &store.datasets, call))
}

fn update(store: &mut Store, id: &str, call: &Call<'_>) -> Result {
    let update: Update = call.json()?;
    let stream = get(&mut store.streams, id)?;
    let keys = update
        .key_column_names
        .unwrap_or_else(|| stream.keys.clone());
    let method = update.update_method.unwrap_or(stream.method);
    check_keys(method, &keys)?;
    (stream.method, stream.keys) = (method, keys);
    stream.modified_at = clock::timestamp();
    Reply::ok(stream.json(&store.datasets, true))
}

fn start(store: &mut Store, id: &str, call: &Call<'_>) -> Result {
    // Some SDKs send no body, others `null`.
    let update: Option<Update> = if call.body.is_empty() {
        None
    } else {
        call.json()?
    };
    let count = get(&mut store.streams, id)?.executions.len();
    store.check_count(count, "executions of a stream")?;
    let stream = get(&mut store.streams, id)?;
    let method = update.and_then(|update| update.update_method);
    let method = method.unwrap_or(stream.method);
    check_keys(method, &stream.keys)?;
    let now = clock::timestamp();
    let execution = Execution {
        id: count as u64 + 1,
        started_at: now.clone(),
        current_state: ExecutionState::Active,
        created_at: now.clone(),
        modified_at: now,
        update_method: method,
        parts: BTreeMap::new(),
    };
    let reply = to_json(&execution);
    stream.executions.push(execution);
    Reply::created(reply)
}

fn upload(store: &mut Store, stream: &str, id: &str, part: &str, call: &Call<'_>) -> Result {
    let part = number(part)?;
    execution(store, stream, id)?.check_active()?;
    let dataset = get(&mut store.streams, stream)?.dataset.clone();
    let columns = datasets::get(store, &dataset)?.columns.clone();
    let table = datasets::read(store, &columns, &dataset, call)?;
    let execution = execution(store, stream, id)?;
    execution.parts.insert(part, table);
    execution.modified_at = clock::timestamp();
    Reply::ok(to_json(execution))
}

fn commit(store: &mut Store, stream: &str, id: &str) -> Result {
    execution(store, stream, id)?.check_active()?;
    let Stream { dataset, keys, .. } = get(&mut store.streams, stream)?;
    let (dataset, keys) = (dataset.clone(), keys.clone());
    let keys = key_positions(&datasets::get(store, &dataset)?.columns, &keys)?;
    let execution = execution(store, stream, id)?;
    let mut rows = Table::default();
    for part in execution.parts.values() {
        rows.append(part);
    }
    let method = execution.update_method;
    execution.end(ExecutionState::Success);
    let reply = to_json(execution);

    let dataset = datasets::get(store, &dataset)?;
    if method == UpdateMethod::Replace {
        dataset.table = rows;
    } else if keys.is_empty() {
        dataset.table.append(&rows);
    } else {
        dataset.table.upsert(&rows, &keys);
    }
    dataset.touch();
    Reply::ok(reply)
}
