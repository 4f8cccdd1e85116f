//! Groups of users.

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::call::{Call, MAX_PAGE, Problem, Reply, Result, find, remove};
use super::{Store, users};

pub(super) struct Group {
    pub(super) id: u64,
    pub(super) name: String,
    active: bool,
    users: Vec<u64>,
}

#[derive(Deserialize)]
struct NewGroup {
    name: String,
    #[serde(default, deserialize_with = "flag")]
    active: Option<bool>,
}

#[derive(Deserialize)]
struct Update {
    name: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    active: Option<bool>,
}

/// Reads a boolean, also as text, which pydomo and Domo's R package send.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<bool>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let text = value.as_str().map(str::to_ascii_lowercase);
    match (value.as_bool(), text.as_deref()) {
        (Some(flag), _) => Ok(Some(flag)),
        (None, Some("true")) => Ok(Some(true)),
        (None, Some("false")) => Ok(Some(false)),
        (None, None) if value.is_null() => Ok(None),
        _ => Err(serde::de::Error::custom("active is not a boolean")),
    }
}

impl Group {
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "active": self.active,
            "creatorId": super::OWNER_ID.to_string(),
            "default": false,
            "memberCount": self.users.len(),
        })
    }

    pub(super) fn has(&self, user: u64) -> bool {
        self.users.contains(&user)
    }

    pub(super) fn remove(&mut self, user: u64) {
        self.users.retain(|id| *id != user);
    }
}

pub(super) fn answer(store: &mut Store, call: &Call<'_>) -> Result {
    match (call.method, call.path) {
        ("GET", []) => {
            let page = call.page(store.groups.iter().collect(), MAX_PAGE)?;
            Reply::ok(page.into_iter().map(Group::json).collect::<Vec<_>>())
        }
        ("POST", []) => {
            store.check_count(store.groups.len(), "groups")?;
            let new: NewGroup = call.json()?;
            let group = Group {
                id: store.next_id(),
                name: new.name,
                active: new.active.unwrap_or(true),
                users: Vec::new(),
            };
            let reply = group.json();
            store.groups.push(group);
            Reply::ok(reply)
        }
        ("GET", [id]) => Reply::ok(get(store, id)?.json()),
        ("PUT", [id]) => {
            let update: Update = call.json()?;
            let group = get(store, id)?;
            group.name = update.name.unwrap_or_else(|| group.name.clone());
            group.active = update.active.unwrap_or(group.active);
            Reply::ok(group.json())
        }
        ("DELETE", [id]) => {
            let id = get(store, id)?.id;
            remove(&mut store.groups, |group| group.id == id)
        }
        ("GET", [id, "users"]) => {
            let users = get(store, id)?.users.clone();
            Reply::ok(call.page(users, MAX_PAGE)?)
        }
        ("PUT", [id, "users", user]) => {
            let user = users::get(store, user)?.id;
            let group = get(store, id)?;
            if !group.has(user) {
                group.users.push(user);
            }
            Reply::no_content()
        }
        ("DELETE", [id, "users", user]) => {
            let user = users::get(store, user)?.id;
            remove(&mut get(store, id)?.users, |id| *id == user)
        }
        (_, [] | [_] | [_, "users"] | [_, "users", _]) => Err(Problem::method_not_allowed()),
        _ => Err(Problem::not_found()),
    }
}

fn get<'a>(store: &'a mut Store, id: &str) -> Result<&'a mut Group> {
    let id: Option<u64> = id.parse().ok();
    find(&mut store.groups, |group| Some(group.id) == id)
}
