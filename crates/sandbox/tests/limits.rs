//! What the sandbox rejects, so that its memory is limited.

#![cfg(test)]

mod common;

use std::io::Write;

use common::{Api, schema};
use domo_sandbox::{Limits, Sandbox};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

fn api(limits: Limits) -> Api {
    Api::with(Sandbox::builder().limits(limits))
}

/// Returns that many bytes of CSV, in rows of ten.
fn rows(bytes: usize) -> String {
    "123456789\n".repeat(bytes / 10)
}

#[test]
fn body_above_the_limit_gets_413_and_the_connection_continues() {
    let body_bytes = 100_000;
    let api = api(Limits {
        body_bytes,
        ..Limits::default()
    });
    let path = api.dataset(&["LONG n"], &rows(body_bytes));
    let data = format!("{path}/data");
    let answer = api.csv("PUT", &data, rows(body_bytes + 10));
    assert_eq!(answer.status(), 413);
    let message = "the body has more than 100000 bytes";
    assert_eq!(answer.json()["message"], message);

    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(rows(10_000_000).as_bytes()).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < body_bytes);
    let headers = "Content-Type: text/csv\r\nContent-Encoding: gzip\r\n";
    assert_eq!(api.call("PUT", &data, headers, bomb).status(), 413);
    assert_eq!(api.get(&path).1["rows"], 10_000, "unchanged");
}

#[test]
fn default_limits_allow_parts_of_50_megabytes_and_json_of_256_kilobytes() {
    let limits = Limits::default();
    assert!(limits.body_bytes > 50_000_000 && limits.data_bytes >= 4 * limits.body_bytes);
    let api = Api::new();
    let name = |bytes: usize| json!({"name": "n".repeat(bytes), "schema": schema(&["LONG n"])});
    assert_eq!(api.json("POST", "/v1/datasets", &name(260_000)).0, 201);
    assert_eq!(api.json("POST", "/v1/datasets", &name(270_000)).0, 413);
    assert_eq!(api.csv("PUT", "/v1/users", rows(1_000_000)).status(), 413);
    assert_eq!(api.get("/v1/datasets").0, 200);
}

#[test]
fn body_without_a_valid_token_is_read_and_discarded() {
    let api = Api::new();
    let path = "/v1/datasets/x/data";
    let url = api.sandbox.url("");
    let denied = common::call(&url, "PUT", path, "", rows(20_000_000));
    assert_eq!(denied.status(), 401);
}

#[test]
fn data_above_the_limit_gets_507() {
    let api = api(Limits {
        data_bytes: 100_000,
        ..Limits::default()
    });
    let path = api.dataset(&["LONG n"], &rows(60_000));
    let data = format!("{path}/data");
    let full = api.csv("PUT", &format!("{data}?updateMethod=APPEND"), rows(50_000));
    let message = "sandbox limit: at most 100000 bytes of data";
    assert_eq!(
        (full.status(), &full.json()["message"]),
        (507, &json!(message))
    );

    // Uploaded parts count until the execution ends.
    let new = json!({"dataSet": {"name": "s", "schema": schema(&["LONG n"])}});
    let (_, stream) = api.json("POST", "/v1/streams", &new);
    let executions = format!("/v1/streams/{}/executions", stream["id"]);
    let (_, execution) = api.json("POST", &executions, &json!({}));
    let execution = format!("{executions}/{}", execution["id"]);
    let part = |number| api.csv("PUT", &format!("{execution}/part/{number}"), rows(30_000));
    assert_eq!((part(1).status(), part(2).status()), (200, 507));
    assert_eq!(
        api.json("PUT", &format!("{execution}/abort"), &json!("")).0,
        200
    );
    assert_eq!(api.delete(&path), 204);
    api.dataset(&["LONG n"], &rows(90_000));
}

#[test]
fn objects_above_the_limit_get_507() {
    let api = api(Limits {
        objects: 3,
        ..Limits::default()
    });
    let dataset = json!({"name": "d", "schema": schema(&["LONG n"])});
    let stream = json!({"dataSet": dataset});
    let path = api.dataset(&["LONG n"], "");
    let create = |path: &str, body: &Value| api.json("POST", path, body).0;
    assert_eq!(create("/v1/datasets", &dataset), 507);
    assert_eq!(create("/v1/streams", &stream), 507, "it needs a dataset");
    assert!(api.get("/v1/streams").1.as_array().unwrap().is_empty());
    let statuses = |path: &str, body: &Value| [(); 4].map(|()| create(path, body));
    let policy = json!({"name": "p", "filters": []});
    assert_eq!(
        statuses(&format!("{path}/policies"), &policy),
        [201, 201, 201, 507]
    );
    assert_eq!(
        statuses("/v1/groups", &json!({"name": "g"})),
        [200, 200, 200, 507]
    );
    assert_eq!(
        statuses("/v1/pages", &json!({"name": "p"})),
        [200, 200, 200, 507]
    );
    let page = api.get("/v1/pages").1[0]["id"].to_string();
    let collections = format!("/v1/pages/{page}/collections");
    assert_eq!(
        statuses(&collections, &json!({"title": "c"})),
        [200, 200, 200, 507]
    );
    let user = |n: u32| json!({"name": "n", "email": format!("{n}@example.com"), "role": "Admin"});
    let users = [1, 2, 3].map(|n| create("/v1/users", &user(n)));
    assert_eq!(users, [201, 201, 507]);

    assert_eq!(api.delete(&path), 204);
    assert_eq!(create("/v1/streams", &stream), 201);
    let (_, streams) = api.get("/v1/streams");
    let executions = format!("/v1/streams/{}/executions", streams[0]["id"]);
    assert_eq!(statuses(&executions, &json!({})), [201, 201, 201, 507]);
}
