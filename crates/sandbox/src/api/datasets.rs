//! Datasets, and their import and export.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Store;
use super::call::{Call, Problem, Reply, Result, find, remove};
use super::policies::Policy;
use super::table::{Column, Table, decompress};
use super::{policies, query};
use crate::{clock, token};

/// The most datasets of a list.
const MAX_PAGE: usize = 50;

pub(super) struct Dataset {
    pub(super) id: String,
    name: String,
    description: String,
    pub(super) columns: Vec<Column>,
    pub(super) table: Table,
    pub(super) policies: Vec<Policy>,
    owner: Owner,
    pdp_enabled: bool,
    created_at: String,
    updated_at: String,
    /// The time of the last import.
    imported_at: Option<String>,
}

#[derive(Clone, Deserialize, Serialize)]
struct Owner {
    id: i64,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
pub(super) struct Schema {
    columns: Vec<Column>,
}

/// What creates a dataset, alone or with a stream.
#[derive(Deserialize)]
pub(super) struct NewDataset {
    name: String,
    description: Option<String>,
    schema: Schema,
}

impl NewDataset {
    pub(super) fn columns(&self) -> &[Column] {
        &self.schema.columns
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    name: Option<String>,
    description: Option<String>,
    schema: Option<Schema>,
    owner: Option<Owner>,
    pdp_enabled: Option<bool>,
}

impl Dataset {
    fn new(new: NewDataset) -> Self {
        let now = clock::timestamp();
        Self {
            id: token::uuid(),
            name: new.name,
            description: new.description.unwrap_or_default(),
            columns: new.schema.columns,
            table: Table::default(),
            policies: Vec::new(),
            owner: Owner {
                id: super::OWNER_ID,
                name: super::OWNER_NAME.to_owned(),
            },
            pdp_enabled: false,
            created_at: now.clone(),
            updated_at: now,
            imported_at: None,
        }
    }

    /// Returns a dataset that exists at the start.
    pub(super) fn example(id: &str, name: &str, columns: &[Column], csv: &str) -> Self {
        let mut dataset = Self::new(NewDataset {
            name: name.to_owned(),
            description: None,
            schema: Schema {
                columns: columns.to_vec(),
            },
        });
        id.clone_into(&mut dataset.id);
        dataset.table = Table::read(csv.as_bytes(), columns).unwrap_or_default();
        dataset.touch();
        dataset
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn owner_id(&self) -> i64 {
        self.owner.id
    }

    /// Records an import.
    pub(super) fn touch(&mut self) {
        let now = clock::timestamp();
        self.updated_at.clone_from(&now);
        self.imported_at = Some(now);
    }

    /// Returns the fields of lists and streams.
    pub(super) fn summary(&self) -> Value {
        // Domo's documentation shows no columns before the first import.
        let columns = self.imported_at.as_ref().map_or(0, |_| self.columns.len());
        let mut fields = json!({
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "rows": self.table.rows(),
            "columns": columns,
            "owner": self.owner,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
            "pdpEnabled": self.pdp_enabled,
        });
        if let (Some(time), Some(fields)) = (&self.imported_at, fields.as_object_mut()) {
            fields.insert("dataCurrentAt".to_owned(), json!(time));
        }
        fields
    }

    fn details(&self) -> Value {
        let mut fields = self.summary();
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("schema".to_owned(), json!({ "columns": self.columns }));
            fields.insert("policies".to_owned(), json!(self.policies));
        }
        fields
    }

    fn update(&mut self, update: Update) {
        fn set<T>(field: &mut T, new: Option<T>) {
            if let Some(new) = new {
                *field = new;
            }
        }
        set(&mut self.name, update.name);
        set(&mut self.description, update.description);
        set(
            &mut self.columns,
            update.schema.map(|schema| schema.columns),
        );
        set(&mut self.owner, update.owner);
        set(&mut self.pdp_enabled, update.pdp_enabled);
        self.updated_at = clock::timestamp();
    }
}

pub(super) fn answer(store: &mut Store, call: &Call<'_>) -> Result {
    match (call.method, call.path) {
        ("GET", []) => list(store, call),
        ("POST", []) => {
            let dataset = create(store, call.json()?)?;
            Reply::created(dataset.details())
        }
        ("POST", ["query", "execute", id]) => query::answer(get(store, id)?, call),
        ("GET", [id]) => Reply::ok(get(store, id)?.details()),
        ("PUT", [id]) => {
            let update = call.json()?;
            let dataset = get(store, id)?;
            dataset.update(update);
            Reply::ok(dataset.details())
        }
        ("DELETE", [id]) => remove(&mut store.datasets, |dataset| dataset.id == *id),
        ("GET", [id, "data"]) => {
            let header = call.parameter("includeHeader").unwrap_or_default();
            let dataset = get(store, id)?;
            let header = header.eq_ignore_ascii_case("true");
            Reply::csv(dataset.table.export(&dataset.columns, header))
        }
        ("PUT", [id, "data"]) => import(store, id, call),
        (_, [id, "policies", rest @ ..]) => {
            let limit = store.limits.objects;
            policies::answer(&mut get(store, id)?.policies, call, rest, limit)
        }
        (_, ["query", "execute", _] | [] | [_] | [_, "data"]) => Err(Problem::method_not_allowed()),
        _ => Err(Problem::not_found()),
    }
}

pub(super) fn get<'a>(store: &'a mut Store, id: &str) -> Result<&'a mut Dataset> {
    find(&mut store.datasets, |dataset| dataset.id == id)
}

pub(super) fn create(store: &mut Store, new: NewDataset) -> Result<&Dataset> {
    store.check_count(store.datasets.len(), "datasets")?;
    if new.schema.columns.is_empty() {
        return Err(Problem::bad_request("the schema has no columns"));
    }
    store.datasets.push(Dataset::new(new));
    store.datasets.last().ok_or_else(Problem::not_found)
}

fn list(store: &Store, call: &Call<'_>) -> Result {
    let part = call
        .parameter("nameLike")
        .unwrap_or_default()
        .to_lowercase();
    let mut datasets: Vec<&Dataset> = store.datasets.iter().collect();
    datasets.retain(|dataset| dataset.name.to_lowercase().contains(&part));
    match call.parameter("sort").unwrap_or_default().as_str() {
        // There are no cards and no failed imports, so these orders are the order of creation.
        ""
        | "createdAtAscending"
        | "cardCount"
        | "cardCountAscending"
        | "cardViewCount"
        | "cardViewCountAscending"
        | "errorState"
        | "errorStateDescending" => {}
        "createdAt" => datasets.reverse(),
        "name" => datasets.sort_by(|a, b| a.name.cmp(&b.name)),
        "nameDescending" => datasets.sort_by(|a, b| b.name.cmp(&a.name)),
        "lastTouched" | "lastUpdated" => {
            datasets.sort_by(|a, b| b.updated_at.cmp(&a.updated_at));
        }
        "lastTouchedAscending" | "lastUpdatedAscending" => {
            datasets.sort_by(|a, b| a.updated_at.cmp(&b.updated_at));
        }
        "dataSourceId" => datasets.sort_by(|a, b| a.id.cmp(&b.id)),
        other => return Err(Problem::bad_request(format!("unknown sort {other:?}"))),
    }
    let page = call.page(datasets, MAX_PAGE)?;
    Reply::ok(page.into_iter().map(Dataset::summary).collect::<Vec<_>>())
}

/// Reads the rows of an upload, within the limits.
pub(super) fn read(store: &Store, columns: &[Column], id: &str, call: &Call<'_>) -> Result<Table> {
    let decompressed;
    let csv = if call.is_compressed_csv()? {
        decompressed = decompress(call.body, store.limits.body_bytes)?;
        &decompressed
    } else {
        call.body
    };
    let table = Table::read(csv, columns).map_err(|error| {
        Problem::bad_request(format!("Data import failed for dataset {id}: {error}"))
    })?;
    let limit = store.limits.data_bytes;
    if store.data_bytes() + table.bytes() > limit {
        return Err(Problem::limit(&format!("at most {limit} bytes of data")));
    }
    Ok(table)
}

fn import(store: &mut Store, id: &str, call: &Call<'_>) -> Result {
    let columns = get(store, id)?.columns.clone();
    let table = read(store, &columns, id, call)?;
    let dataset = get(store, id)?;
    // As documented, every other method is REPLACE.
    if call.parameter("updateMethod").as_deref() == Some("APPEND") {
        dataset.table.append(&table);
    } else {
        dataset.table = table;
    }
    dataset.touch();
    Reply::no_content()
}
