//! The `OpenAPI` document, and checks of responses against it.

use std::collections::BTreeSet;
use std::fmt::Write;

use boon::{Compiler, Draft, Schemas};
use serde_json::{Value, json};

use super::exchange::Response;

pub(super) const TEXT: &str = include_str!("../../../src/server/http/openapi.json");

/// Where the schemas are, for references between them.
const LOCATION: &str = "http://localhost/v1/openapi.json";

/// A documented response: path, method and status.
pub(super) type Operation = (String, String, u16);

pub(super) struct Document(Value);

impl Document {
    /// Reads the document. A schema with properties then permits no others, so that an undocumented field is found.
    pub(super) fn read() -> Self {
        let mut document: Value = serde_json::from_str(TEXT).unwrap();
        let schemas = document["components"]["schemas"].as_object_mut().unwrap();
        for schema in schemas.values_mut() {
            if schema["properties"].is_object() {
                schema["unevaluatedProperties"] = json!(false);
            }
        }
        Self(document)
    }

    fn at(&self, pointer: &str) -> &Value {
        self.0
            .pointer(pointer)
            .unwrap_or_else(|| panic!("no {pointer}"))
    }

    pub(super) fn paths(&self) -> Vec<String> {
        let paths = self.at("/paths").as_object().unwrap();
        paths.keys().cloned().collect()
    }

    /// Returns the methods of a path, in upper case.
    pub(super) fn methods(&self, path: &str) -> Vec<String> {
        let item = self.at(&pointer(&["paths", path]));
        let keys = item.as_object().unwrap().keys();
        let methods = keys.filter(|key| *key != "parameters");
        methods.map(|key| key.to_uppercase()).collect()
    }

    /// Returns each documented response.
    pub(super) fn operations(&self) -> BTreeSet<Operation> {
        let mut found = BTreeSet::new();
        for path in self.paths() {
            for method in self.methods(&path) {
                let at = pointer(&["paths", &path, &method.to_lowercase(), "responses"]);
                for status in self.at(&at).as_object().unwrap().keys() {
                    found.insert((path.clone(), method.clone(), status.parse().unwrap()));
                }
            }
        }
        found
    }

    /// Returns the parameters of GET for a path that are of this kind, such as `query`.
    pub(super) fn parameters(&self, path: &str, kind: &str) -> Vec<&Value> {
        let item = self.at(&pointer(&["paths", path]));
        let listed = [&item["parameters"], &item["get"]["parameters"]];
        let listed = listed.into_iter().filter_map(Value::as_array).flatten();
        let parameters = listed.map(|parameter| self.at(&resolve(parameter, String::new())));
        parameters
            .filter(|parameter| parameter["in"] == kind)
            .collect()
    }

    /// Returns the kinds of problems.
    pub(super) fn kinds(&self) -> BTreeSet<String> {
        let kinds = self.at("/components/schemas/Problem/properties/type/enum");
        let kinds = kinds.as_array().unwrap().iter();
        let names = kinds.map(|kind| kind.as_str().unwrap().strip_prefix("urn:domo-token:"));
        names.map(|name| name.unwrap().to_owned()).collect()
    }

    /// Returns each kind of problem with its status and exit code.
    pub(super) fn problems(&self) -> Vec<(String, u64, u64)> {
        let problems = self.at("/components/schemas/Problem/dependentSchemas/type/oneOf");
        let problems: Vec<_> = problems.as_array().unwrap().iter().collect();
        assert_eq!(problems.len(), self.kinds().len());
        let constant = |problem: &Value, field| problem["properties"][field]["const"].clone();
        let kinds = problems.into_iter().map(|problem| {
            let kind = constant(problem, "type");
            let kind = kind.as_str().unwrap().strip_prefix("urn:domo-token:");
            let number = |field| constant(problem, field).as_u64().unwrap();
            (
                kind.unwrap().to_owned(),
                number("status"),
                number("exit_code"),
            )
        });
        kinds.collect()
    }

    /// Checks a value against a schema.
    #[track_caller]
    pub(super) fn check(&self, schema: &str, value: &Value) {
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.add_resource(LOCATION, self.0.clone()).unwrap();
        let mut schemas = Schemas::new();
        let schema = compiler.compile(&format!("{LOCATION}#{}", encode(schema)), &mut schemas);
        if let Err(error) = schemas.validate(value, schema.unwrap()) {
            panic!("{error:#}");
        }
    }

    /// Checks a response against what is documented for it: status, headers, media type and body.
    #[track_caller]
    pub(super) fn check_response(&self, path: &str, method: &str, response: &Response) {
        let status = response.status.to_string();
        let own = pointer(&["paths", path, &method.to_lowercase(), "responses", &status]);
        let documented = self.0.pointer(&own);
        let documented = documented.unwrap_or_else(|| panic!("{own} is not documented"));
        let own = resolve(documented, own);
        let documented = self.at(&own);
        for (name, header) in documented["headers"].as_object().into_iter().flatten() {
            let at = resolve(header, String::new());
            let is_required = self.at(&at)["required"] == true;
            match response.header(name) {
                Some(value) => self.check(&(at + "/schema"), &json!(value)),
                None => assert!(!is_required, "{path} {status}: no {name}"),
            }
        }
        let Some(content) = documented["content"].as_object() else {
            assert!(response.body.is_empty(), "{own}");
            return;
        };
        let media_type = response.header("Content-Type").unwrap();
        let media_type = media_type.split(';').next().unwrap();
        assert!(content.contains_key(media_type), "{own}: {media_type}");
        let body = if media_type.ends_with("json") {
            serde_json::from_slice(&response.body).unwrap()
        } else {
            json!(str::from_utf8(&response.body).unwrap())
        };
        let schema = own + &pointer(&["content", media_type, "schema"]);
        self.check(&schema, &body);
    }

    /// Returns the examples.
    pub(super) fn examples(&self) -> Vec<Value> {
        let mut found = Vec::new();
        find_examples(&self.0, "", &mut found);
        found.into_iter().map(|(_, value)| value).collect()
    }

    /// Checks each example of a schema or a media type against its schema, and returns their number.
    pub(super) fn check_examples(&self) -> usize {
        let mut found = Vec::new();
        find_examples(&self.0, "", &mut found);
        for (schema, value) in &found {
            self.check(schema, value);
        }
        found.len()
    }
}

/// Returns the pointer to what a value refers to, or its own.
fn resolve(value: &Value, own: String) -> String {
    match value["$ref"].as_str() {
        Some(reference) => reference.strip_prefix('#').unwrap().to_owned(),
        None => own,
    }
}

/// Finds examples, with the pointers to their schemas.
fn find_examples(value: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    // The body of the document itself has no example.
    if let Some(own) = value["examples"].as_array() {
        found.extend(own.iter().map(|example| (at.to_owned(), example.clone())));
    }
    if value["schema"].is_object() {
        let named = value["examples"].as_object().into_iter().flatten();
        let named = named.map(|(_, example)| &example["value"]);
        let examples = named.chain(value.get("example"));
        found.extend(examples.map(|example| (format!("{at}/schema"), example.clone())));
    }
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                find_examples(field, &(at.to_owned() + &pointer(&[key])), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_examples(item, &format!("{at}/{index}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns a JSON pointer (RFC 6901).
fn pointer(keys: &[&str]) -> String {
    let escaped = keys
        .iter()
        .map(|key| key.replace('~', "~0").replace('/', "~1"));
    escaped.flat_map(|key| ["/".to_owned(), key]).collect()
}

/// Encodes a pointer for the fragment of a URL.
fn encode(pointer: &str) -> String {
    pointer.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"/~-._".contains(&byte) {
            text.push(byte.into());
        } else {
            write!(text, "%{byte:02X}").unwrap();
        }
        text
    })
}
