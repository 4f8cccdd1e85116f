//! The rows of a dataset, as CSV (RFC 4180). Values are parsed when they are needed, because parsed ones take many times
//! the memory.

use std::collections::HashSet;
use std::io::Read;

use csv::{ByteRecord, Reader, ReaderBuilder, StringRecord, Writer};
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::call::{Problem, Result};

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Column {
    #[serde(rename = "type")]
    pub(super) kind: ColumnType,
    pub(super) name: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum ColumnType {
    String,
    Decimal,
    Long,
    Double,
    Date,
    #[serde(rename = "DATETIME")]
    DateTime,
}

/// Rows without a header; an empty value is null.
#[derive(Default)]
pub(super) struct Table {
    csv: Vec<u8>,
    rows: usize,
}

/// How Domo's R package writes null.
const NULL: &str = "\\N";

impl ColumnType {
    /// Returns a value as JSON, and `None` if it is not of this type.
    pub(super) fn value(self, text: &str) -> Option<Value> {
        if text.is_empty() {
            return Some(Value::Null);
        }
        match self {
            Self::Long => text.parse::<i64>().ok().map(Value::from),
            Self::Double | Self::Decimal => {
                let number: f64 = text.parse().ok()?;
                Number::from_f64(number).map(Value::Number)
            }
            Self::String | Self::Date | Self::DateTime => Some(text.into()),
        }
    }

    pub(super) fn is_numeric(self) -> bool {
        matches!(self, Self::Long | Self::Double | Self::Decimal)
    }
}

impl Table {
    /// Reads an upload. A first row with the names of the columns is the header.
    pub(super) fn read(input: &[u8], columns: &[Column]) -> std::result::Result<Self, String> {
        let mut writer = Writer::from_writer(Vec::with_capacity(input.len()));
        let mut rows = 0;
        for (number, record) in reader(input).into_records().enumerate() {
            let record = record.map_err(|error| format!("row {}: {error}", number + 1))?;
            let names = columns.iter().map(|column| column.name.as_str());
            if number == 0 && record.iter().eq(names) {
                continue;
            }
            check(&record, columns).map_err(|error| format!("row {}: {error}", number + 1))?;
            let values = record
                .iter()
                .map(|text| if text == NULL { "" } else { text });
            write(&mut writer, values)?;
            rows += 1;
        }
        let csv = writer.into_inner().map_err(|error| error.to_string())?;
        Ok(Self { csv, rows })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.csv.len()
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.csv.extend_from_slice(&other.csv);
        self.rows += other.rows;
    }

    /// Appends rows, and removes those before them with the same values in the key columns.
    pub(super) fn upsert(&mut self, other: &Self, keys: &[usize]) {
        self.append(other);
        let mut records: Vec<ByteRecord> = byte_records(&self.csv).collect();
        let mut seen = HashSet::new();
        records.reverse();
        records.retain(|record| {
            let key: Vec<Vec<u8>> = keys
                .iter()
                .map(|key| record.get(*key).unwrap_or_default().to_vec())
                .collect();
            seen.insert(key)
        });
        let mut writer = Writer::from_writer(Vec::with_capacity(self.csv.len()));
        for record in records.iter().rev() {
            // Writing to a vector can't fail.
            let _ = writer.write_byte_record(record);
        }
        self.rows = records.len();
        self.csv = writer.into_inner().unwrap_or_default();
    }

    /// Returns the rows, with one value for each of that many columns.
    pub(super) fn export(&self, columns: &[Column], header: bool) -> Vec<u8> {
        let mut writer = Writer::from_writer(Vec::with_capacity(self.csv.len()));
        // Writing to a vector can't fail.
        if header {
            let _ = write(
                &mut writer,
                columns.iter().map(|column| column.name.as_str()),
            );
        }
        for record in self.records() {
            // The schema may have been changed since the import.
            let values = (0..columns.len()).map(|index| record.get(index).unwrap_or_default());
            let _ = write(&mut writer, values);
        }
        writer.into_inner().unwrap_or_default()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = StringRecord> {
        // It was read once.
        reader(&self.csv)
            .into_records()
            .map_while(std::result::Result::ok)
    }
}

/// Decompresses a body of at most that many bytes.
pub(super) fn decompress(body: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut decoder = MultiGzDecoder::new(body).take(limit as u64 + 1);
    decoder
        .read_to_end(&mut bytes)
        .map_err(|error| Problem::bad_request(format!("the body is not gzip: {error}")))?;
    if bytes.len() > limit {
        return Err(Problem::too_large(limit));
    }
    Ok(bytes)
}

fn reader(csv: &[u8]) -> Reader<&[u8]> {
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).flexible(true).from_reader(csv)
}

fn byte_records(csv: &[u8]) -> impl Iterator<Item = ByteRecord> {
    reader(csv)
        .into_byte_records()
        .map_while(std::result::Result::ok)
}

fn write<'a>(
    writer: &mut Writer<Vec<u8>>,
    values: impl IntoIterator<Item = &'a str>,
) -> std::result::Result<(), String> {
    writer
        .write_record(values)
        .map_err(|error| error.to_string())
}

fn check(record: &StringRecord, columns: &[Column]) -> std::result::Result<(), String> {
    let (found, expected) = (record.len(), columns.len());
    if found != expected {
        return Err(format!(
            "{found} values, but the schema has {expected} columns"
        ));
    }
    for (text, column) in record.iter().zip(columns) {
        if text != NULL && column.kind.value(text).is_none() {
            let kind = super::call::to_json(&column.kind);
            let kind = kind.as_str().unwrap_or_default();
            return Err(format!(
                "{text:?} in column {:?} is not a {kind}",
                column.name
            ));
        }
    }
    Ok(())
}
