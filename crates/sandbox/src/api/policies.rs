//! Personalized data permissions (PDP) of a dataset. They are stored, and no data is filtered by them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::{Call, Problem, Reply, Result, find, remove, to_json};

#[derive(Deserialize, Serialize)]
pub(super) struct Policy {
    #[serde(default)]
    id: u64,
    #[serde(rename = "type", default = "user")]
    kind: String,
    name: String,
    filters: Vec<Filter>,
    #[serde(default)]
    users: Vec<i64>,
    #[serde(default)]
    groups: Vec<i64>,
}

#[derive(Deserialize, Serialize)]
struct Filter {
    column: String,
    values: Vec<Value>,
    operator: String,
    #[serde(default)]
    not: bool,
}

fn user() -> String {
    "user".to_owned()
}

pub(super) fn answer(
    policies: &mut Vec<Policy>,
    call: &Call<'_>,
    path: &[&str],
    limit: usize,
) -> Result {
    let is = |id: &str| {
        let id: Option<u64> = id.parse().ok();
        move |policy: &Policy| Some(policy.id) == id
    };
    match (call.method, path) {
        ("GET", []) => Reply::ok(json!(policies)),
        ("POST", []) => {
            if policies.len() >= limit {
                return Err(Problem::limit(&format!("at most {limit} policies")));
            }
            let mut policy: Policy = call.json()?;
            policy.id = policies.last().map_or(1, |last| last.id + 1);
            let reply = to_json(&policy);
            policies.push(policy);
            Reply::created(reply)
        }
        ("GET", [id]) => {
            let is = is(id);
            Reply::ok(to_json(find(policies, |policy| is(policy))?))
        }
        ("PUT", [id]) => {
            let is = is(id);
            let policy = find(policies, |policy| is(policy))?;
            let id = policy.id;
            *policy = call.json()?;
            policy.id = id;
            Reply::ok(to_json(policy))
        }
        ("DELETE", [id]) => remove(policies, is(id)),
        (_, [] | [_]) => Err(Problem::method_not_allowed()),
        _ => Err(Problem::not_found()),
    }
}
