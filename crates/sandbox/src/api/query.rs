//! Queries of a dataset.

use csv::StringRecord;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, Problem, Reply, Result};
use super::datasets::Dataset;
use super::sql::{self, Output, Plan};
use super::table::ColumnType;

/// The most cells of the matching rows, which are held in memory.
const MAX_CELLS: usize = 1_000_000;

#[derive(Deserialize)]
struct Request {
    sql: String,
}

pub(super) fn answer(dataset: &Dataset, call: &Call<'_>) -> Result {
    let request: Request = call.json()?;
    let plan = sql::plan(&request.sql, &dataset.columns).map_err(Problem::bad_request)?;
    let (columns, rows) = match &plan.output {
        Output::Count(name) => {
            let count = matching(dataset, &plan).count();
            let rows = page(vec![vec![json!(count)]], &plan);
            (vec![(name.as_str(), ColumnType::Long)], rows)
        }
        Output::Columns(selected) => {
            let columns = selected.iter().filter_map(|(name, index)| {
                let column = dataset.columns.get(*index)?;
                Some((name.as_str(), column.kind))
            });
            let columns: Vec<_> = columns.collect();
            let row = |record: StringRecord| {
                let cells = selected.iter().zip(&columns);
                let cells = cells.map(|((_, index), (_, kind))| cell(&record, *index, *kind));
                cells.collect::<Vec<Value>>()
            };
            let rows = sorted(dataset, &plan)?.into_iter().map(row).collect();
            (columns, rows)
        }
    };
    let metadata: Vec<Value> = columns
        .iter()
        .map(|(_, kind)| {
            json!({
                "type": kind,
                "dataSourceId": dataset.id,
                "maxLength": -1,
                "minLength": -1,
                "periodIndex": 0,
            })
        })
        .collect();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    Reply::ok(json!({
        "datasource": dataset.id,
        "columns": names,
        "metadata": metadata,
        "numRows": rows.len(),
        "numColumns": names.len(),
        "rows": rows,
        "fromcache": false,
    }))
}

fn matching(dataset: &Dataset, plan: &Plan) -> impl Iterator<Item = StringRecord> {
    let records = dataset.table.records();
    records.filter(|record| plan.matches(&dataset.columns, record))
}

/// Returns the rows of the result in their order.
fn sorted(dataset: &Dataset, plan: &Plan) -> Result<Vec<StringRecord>> {
    // Without an order, rows after the last one of the result are not needed.
    let needed = match plan.limit {
        Some(limit) if plan.order.is_empty() => plan.offset.saturating_add(limit),
        _ => usize::MAX,
    };
    let most = MAX_CELLS / dataset.columns.len().max(1);
    let mut rows: Vec<StringRecord> = matching(dataset, plan).take(needed.min(most + 1)).collect();
    if rows.len() > most {
        return Err(Problem::bad_request(format!(
            "the sandbox selects at most {MAX_CELLS} values, and more match; use WHERE or LIMIT"
        )));
    }
    rows.sort_by(|a, b| plan.compare(&dataset.columns, a, b));
    Ok(page(rows, plan))
}

fn page<T>(rows: Vec<T>, plan: &Plan) -> Vec<T> {
    let rows = rows.into_iter().skip(plan.offset);
    rows.take(plan.limit.unwrap_or(usize::MAX)).collect()
}

/// Returns a value as JSON; one of an earlier schema as text.
fn cell(record: &StringRecord, index: usize, kind: ColumnType) -> Value {
    let text = record.get(index).unwrap_or_default();
    kind.value(text).unwrap_or_else(|| text.into())
}
