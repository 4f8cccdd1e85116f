//! Datasets and streams as Domo documents them.

#![cfg(test)]

mod common;

use std::io::Write;

use common::{Api, schema};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

const GZIP: &str = "Content-Type: text/csv\r\nContent-Encoding: gzip\r\n";

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Returns the values of a field of each object.
fn field<'a>(list: &'a Value, name: &str) -> Vec<&'a Value> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| &item[name])
        .collect()
}

#[test]
fn two_datasets_with_data_exist_at_the_start() {
    let api = Api::new();
    let (status, list) = api.get("/v1/datasets");
    assert_eq!(status, 200);
    assert_eq!(field(&list, "rows"), [2, 6]);
    let id = list[0]["id"].as_str().unwrap();
    let path = format!("/v1/datasets/{id}/data?includeHeader=true");
    let export = api.call("GET", &path, "Accept: text/csv\r\n", "");
    assert_eq!(export.header("content-type"), Some("text/csv"));
    let expected = "Friend,Attending\nCarl Friedrich Gauss,TRUE\nIsaac Newton,FALSE\n";
    assert_eq!(export.text(), expected);
}

#[test]
fn dataset_has_the_documented_fields() {
    let api = Api::new();
    let new = json!({"name": "Guests", "rows": 0, "schema": schema(&["STRING Friend"])});
    let (status, mut created) = api.json("POST", "/v1/datasets", &new);
    assert_eq!(status, 201);
    let object = created.as_object_mut().unwrap();
    let id = object.remove("id").unwrap();
    let id = id.as_str().unwrap();
    assert_eq!(id.len(), 36);
    for time in ["createdAt", "updatedAt"] {
        let time = object.remove(time).unwrap();
        let time = time.as_str().unwrap();
        let shape = time.replace(|digit: char| digit.is_ascii_digit(), "0");
        assert_eq!(shape, "0000-00-00T00:00:00Z");
    }
    let expected = json!({
        "name": "Guests", "description": "", "rows": 0, "columns": 0, "pdpEnabled": false, "policies": [],
        "schema": {"columns": [{"type": "STRING", "name": "Friend"}]},
        "owner": {"id": 964_382_593, "name": "DomoSupport"},
    });
    assert_eq!(created, expected);

    let path = format!("/v1/datasets/{id}");
    let update = json!({"description": "VIP", "pdpEnabled": true});
    let (status, updated) = api.json("PUT", &path, &update);
    assert_eq!((status, &updated["description"]), (200, &json!("VIP")));
    assert_eq!(updated["name"], "Guests", "left out");
    assert_eq!(api.get(&path), (200, updated));
    assert_eq!(api.delete(&path), 204);
    assert_eq!(api.get(&path).0, 404);
}

#[test]
fn list_is_sorted_searched_and_paged() {
    let api = Api::new();
    for name in ["b", "a", "A"] {
        let new = json!({"name": name, "schema": schema(&["LONG n"])});
        assert_eq!(api.json("POST", "/v1/datasets", &new).0, 201);
    }
    let names = |query: &str| {
        let (status, list) = api.get(&format!("/v1/datasets?{query}"));
        assert_eq!(status, 200, "{list}");
        let names = field(&list, "name").into_iter();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let examples = ["Leonhard Euler Party", "Questions regarding Euclid"];
    assert_eq!(names("limit=2"), examples);
    assert_eq!(names("limit=2&offset=2"), ["b", "a"]);
    assert_eq!(names("sort=name&limit=1&offset=3"), ["a"]);
    assert_eq!(names("sort=nameDescending&limit=1"), ["b"]);
    assert_eq!(names("sort=createdAt&limit=1"), ["A"]);
    assert_eq!(names("nameLike=eU"), examples);
    assert_eq!(names("offset=9"), [""; 0]);
    for wrong in ["sort=size", "limit=x", "offset=-1"] {
        assert_eq!(api.get(&format!("/v1/datasets?{wrong}")).0, 400, "{wrong}");
    }

    for _ in 0..50 {
        api.dataset(&["LONG n"], "1\n");
    }
    assert_eq!(names("limit=1000").len(), 50, "the documented maximum");
    assert_eq!(names("").len(), 50);
}

#[test]
fn import_replaces_or_appends_rows() {
    let api = Api::new();
    let path = api.dataset(&["LONG n", "STRING s"], "n,s\n1,\"a,\"\"b\"\"\"\r\n2,\n");
    let data = format!("{path}/data");
    let export = || api.call("GET", &data, "", "").text().to_owned();
    assert_eq!(export(), "1,\"a,\"\"b\"\"\"\n2,\n");
    let put = |query: &str, csv: &str| {
        let answer = api.csv("PUT", &format!("{data}?updateMethod={query}"), csv);
        assert_eq!((answer.status(), answer.text()), (204, ""));
    };
    put("APPEND", "3,c\n");
    assert_eq!(api.get(&path).1["rows"], 3);
    put("append", "\\N,\"two\nlines\"\n");
    assert_eq!(
        export(),
        ",\"two\nlines\"\n",
        "case-sensitive, as documented"
    );
    put("REPLACE", "");
    assert_eq!(api.get(&path).1["rows"], 0);
    assert_eq!(api.get(&path).1["columns"], 2);

    let compressed = api.call("PUT", &data, GZIP, gzip("4,d\n"));
    assert_eq!(compressed.status(), 204);
    assert_eq!(export(), "4,d\n");
}

#[test]
fn invalid_imports_change_nothing() {
    let api = Api::new();
    let path = api.dataset(&["LONG n", "DOUBLE d"], "1,1.5\n");
    let data = format!("{path}/data");
    let cases: [(&[u8], &str); 5] = [
        (b"1,2,3\n", "row 1: 3 values, but the schema has 2 columns"),
        (b"1,2\nx,2\n", "row 2: \"x\" in column \"n\" is not a LONG"),
        (b"1.5,2\n", "row 1: \"1.5\" in column \"n\" is not a LONG"),
        (b"1,NaN\n", "row 1: \"NaN\" in column \"d\" is not a DOUBLE"),
        (b"\xff,1\n", "row 1: "),
    ];
    for (csv, expected) in cases {
        let answer = api.csv("PUT", &data, csv);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        let id = path.rsplit('/').next().unwrap();
        let failed = format!("Data import failed for dataset {id}: {expected}");
        assert!(message.starts_with(&failed), "{message}");
        assert_eq!(answer.status(), 400);
    }
    for (headers, status) in [
        ("Content-Type: application/json\r\n", 415),
        ("", 415),
        ("Content-Type: text/csv\r\nContent-Encoding: br\r\n", 415),
        (GZIP, 400),
    ] {
        let answer = api.call("PUT", &data, headers, "1,2\n");
        assert_eq!(answer.status(), status, "{headers:?}");
    }
    assert_eq!(api.call("GET", &data, "", "").text(), "1,1.5\n");
}

#[test]
fn rows_of_an_earlier_schema_fit_the_present_one() {
    let api = Api::new();
    let path = api.dataset(&["LONG n", "STRING s"], "1,a\n");
    for (columns, expected) in [
        (vec!["LONG n"], "1\n"),
        (vec!["LONG n", "STRING s", "DATE d"], "1,a,\n"),
    ] {
        let update = json!({"schema": schema(&columns)});
        assert_eq!(api.json("PUT", &path, &update).0, 200);
        let export = api.call("GET", &format!("{path}/data"), "", "");
        assert_eq!(export.text(), expected);
    }
}

#[test]
fn errors_are_in_domos_form() {
    let api = Api::new();
    let body = |method: &str, path: &str, body: &str| {
        let answer = api.call(method, path, "", body);
        let mut body = answer.json();
        assert!(body.as_object_mut().unwrap().remove("toe").is_some());
        assert_eq!(body["status"], answer.status());
        assert_eq!(body["path"], path);
        (
            answer.status(),
            body["message"].as_str().unwrap().to_owned(),
        )
    };
    let (status, message) = body("POST", "/v1/datasets", "{\"name\": \"x\"}");
    assert_eq!(status, 400);
    assert!(
        message.starts_with("the body is invalid: missing field `schema`"),
        "{message}"
    );
    assert_eq!(body("POST", "/v1/datasets", "").0, 400);
    let unknown =
        "{\"name\": \"x\", \"schema\": {\"columns\": [{\"type\": \"TEXT\", \"name\": \"a\"}]}}";
    assert_eq!(body("POST", "/v1/datasets", unknown).0, 400);
    let empty = "{\"name\": \"x\", \"schema\": {\"columns\": []}}";
    assert_eq!(body("POST", "/v1/datasets", empty).0, 400);
    assert_eq!(body("GET", "/v1/datasets/x/data", "").0, 404);
    assert_eq!(body("GET", "/v1/datasets/x/y/z", "").0, 404);
    assert_eq!(body("PATCH", "/v1/datasets", "").0, 405);
    assert_eq!(body("DELETE", "/v1/streams", "").0, 405);
    assert_eq!(body("GET", "/v1/streams/x", "").0, 404);
}

struct Upload<'a> {
    api: &'a Api,
    stream: String,
    /// The path of the dataset's data.
    data: String,
}

impl<'a> Upload<'a> {
    fn new(api: &'a Api, method: &str, keys: &[&str]) -> Self {
        let schema = schema(&["LONG n", "STRING s"]);
        let dataset = json!({"name": "Parts", "schema": schema});
        let new = json!({"dataSet": dataset, "updateMethod": method, "keyColumnNames": keys});
        let (status, stream) = api.json("POST", "/v1/streams/", &new);
        assert_eq!(status, 201, "{stream}");
        let dataset = stream["dataSet"]["id"].as_str().unwrap();
        Self {
            api,
            stream: format!("/v1/streams/{}", stream["id"]),
            data: format!("/v1/datasets/{dataset}/data"),
        }
    }

    /// Returns the path of a new execution.
    fn start(&self, body: &Value) -> String {
        let path = format!("{}/executions", self.stream);
        let (status, execution) = self.api.json("POST", &path, body);
        assert_eq!(
            (status, &execution["currentState"]),
            (201, &json!("ACTIVE"))
        );
        format!("{path}/{}", execution["id"])
    }

    fn part(&self, execution: &str, number: u64, csv: &str) -> u16 {
        let path = format!("{execution}/part/{number}");
        self.api.csv("PUT", &path, csv).status()
    }

    fn put(&self, path: &str) -> (u16, Value) {
        self.api.json("PUT", path, &json!(""))
    }

    /// Uploads one part and commits it.
    fn upload(&self, body: &Value, csv: &str) {
        let execution = self.start(body);
        assert_eq!(self.part(&execution, 1, csv), 200);
        let (status, committed) = self.put(&format!("{execution}/commit"));
        assert_eq!(
            (status, &committed["currentState"]),
            (200, &json!("SUCCESS"))
        );
    }

    fn rows(&self) -> String {
        self.api.call("GET", &self.data, "", "").text().to_owned()
    }
}

#[test]
fn parts_of_a_stream_are_committed_in_the_order_of_their_numbers() {
    let api = Api::new();
    let upload = Upload::new(&api, "REPLACE", &[]);
    let execution = upload.start(&json!(null));
    for (number, csv) in [(10, "3,c\n"), (0, "0,x\n"), (2, "2,b\n"), (0, "n,s\n1,a\n")] {
        assert_eq!(upload.part(&execution, number, csv), 200);
    }
    assert_eq!(upload.part(&execution, 11, "1\n"), 400);
    let compressed = "Content-Type: application/gzip\r\n";
    let path = format!("{execution}/part/11");
    assert_eq!(
        api.call("PUT", &path, compressed, gzip("4,d\n")).status(),
        200
    );
    assert_eq!(upload.rows(), "", "not before the commit");
    assert_eq!(upload.put(&format!("{execution}/commit")).0, 200);
    assert_eq!(upload.rows(), "1,a\n2,b\n3,c\n4,d\n");
    for action in ["commit", "abort"] {
        let (status, body) = upload.put(&format!("{execution}/{action}"));
        assert_eq!(
            (status, &body["message"]),
            (400, &json!("the execution is not ACTIVE"))
        );
    }
    upload.upload(&json!({}), "9,z\n");
    assert_eq!(upload.rows(), "9,z\n");
}

#[test]
fn stream_appends_replaces_or_upserts() {
    let api = Api::new();
    let append = Upload::new(&api, "APPEND", &[]);
    append.upload(&json!({}), "1,a\n");
    append.upload(&json!({"updateMethod": null}), "1,a\n");
    assert_eq!(append.rows(), "1,a\n1,a\n");
    append.upload(&json!({"updateMethod": "REPLACE"}), "2,b\n");
    assert_eq!(append.rows(), "2,b\n");

    for method in ["UPSERT", "APPEND"] {
        let upsert = Upload::new(&api, method, &["n"]);
        upsert.upload(&json!({}), "1,a\n2,b\n,c\n");
        upsert.upload(&json!({}), "2,B\n3,d\n3,D\n,C\n");
        assert_eq!(upsert.rows(), "1,a\n2,B\n3,D\n,C\n", "{method}");
        let path = upsert.data.trim_end_matches("/data");
        assert_eq!(api.get(path).1["rows"], 4);
    }
    let update = json!({"updateMethod": "APPEND"});
    let (status, updated) = api.json("PATCH", &append.stream, &update);
    assert_eq!((status, &updated["updateMethod"]), (200, &json!("APPEND")));
    let wrong = json!({"updateMethod": "UPSERT"});
    assert_eq!(api.json("PATCH", &append.stream, &wrong).0, 400);
    let no_key =
        json!({"dataSet": {"name": "x", "schema": schema(&["LONG n"])}, "keyColumnNames": ["m"]});
    assert_eq!(api.json("POST", "/v1/streams", &no_key).0, 400);
}

#[test]
fn aborted_execution_changes_no_data() {
    let api = Api::new();
    let upload = Upload::new(&api, "REPLACE", &[]);
    let first = upload.start(&json!({}));
    assert_eq!(upload.part(&first, 1, "1,a\n"), 200);
    let (status, aborted) = upload.put(&format!("{first}/abort"));
    assert_eq!((status, &aborted["currentState"]), (200, &json!("ABORTED")));
    assert_eq!(upload.part(&first, 2, "1,a\n"), 400);
    assert_eq!(upload.put(&format!("{first}/commit")).0, 400);

    let second = upload.start(&json!({}));
    let current = format!("{}/executions/abort", upload.stream);
    assert_eq!(upload.put(&current), (204, Value::Null));
    assert_eq!(api.get(&second).1["currentState"], "ABORTED");
    let (_, list) = api.get(&format!("{}/executions?limit=1&offset=1", upload.stream));
    assert_eq!(field(&list, "id"), [2]);
    assert_eq!(upload.rows(), "");
}

#[test]
fn streams_are_found_by_their_dataset_and_outlive_it() {
    let api = Api::new();
    let upload = Upload::new(&api, "APPEND", &[]);
    Upload::new(&api, "APPEND", &[]);
    let dataset = upload.data.split('/').nth(3).unwrap();
    let search = |q: &str| api.get(&format!("/v1/streams/search?q={q}"));
    let (status, found) = search(&format!("dataSource.id:{dataset}"));
    assert_eq!((status, field(&found, "id")), (200, vec![&json!(1)]));
    let subset = json!({"id": dataset, "pdpEnabled": false});
    assert_eq!(found[0]["dataSet"], subset);
    let (_, all) = search("dataSource.owner.id:964382593&fields=all");
    assert_eq!(field(&all, "id"), [1, 2]);
    assert_eq!(all[0]["dataSet"]["name"], "Parts");
    assert_eq!(search("name:Parts").0, 400);

    assert_eq!(api.delete(upload.data.trim_end_matches("/data")), 204);
    let (status, stream) = api.get(&upload.stream);
    assert_eq!((status, &stream["dataSet"]["deleted"]), (200, &json!(true)));
    let execution = upload.start(&json!({}));
    assert_eq!(upload.part(&execution, 1, "1,a\n"), 404);
    assert_eq!(api.delete(&upload.stream), 204);
    assert_eq!(api.get("/v1/streams").1.as_array().unwrap().len(), 1);
}
