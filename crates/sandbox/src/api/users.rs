//! Users.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Store;
use super::call::{Call, MAX_PAGE, Problem, Reply, Result, find, remove};
use crate::clock;

pub(super) struct User {
    pub(super) id: u64,
    fields: Fields,
    created_at: String,
    updated_at: String,
}

/// What callers set. As documented, time zone and locale are accepted and not returned.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    name: Option<String>,
    email: Option<String>,
    role: Option<String>,
    title: Option<String>,
    alternate_email: Option<String>,
    phone: Option<String>,
    location: Option<String>,
    employee_number: Option<Value>,
}

impl Fields {
    fn update(&mut self, new: Self) {
        fn set<T>(field: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *field = new;
            }
        }
        set(&mut self.name, new.name);
        set(&mut self.email, new.email);
        set(&mut self.role, new.role);
        set(&mut self.title, new.title);
        set(&mut self.alternate_email, new.alternate_email);
        set(&mut self.phone, new.phone);
        set(&mut self.location, new.location);
        set(&mut self.employee_number, new.employee_number);
    }

    /// Returns the name of a required field that is missing.
    fn missing(&self) -> Option<&'static str> {
        let required = [
            ("name", &self.name),
            ("email", &self.email),
            ("role", &self.role),
        ];
        let is_missing = |value: &Option<String>| value.as_deref().unwrap_or_default().is_empty();
        let mut missing = required.iter().filter(|(_, value)| is_missing(value));
        missing.next().map(|(name, _)| *name)
    }
}

impl User {
    fn new(id: u64, fields: Fields) -> Self {
        let now = clock::timestamp();
        Self {
            id,
            fields,
            created_at: now.clone(),
            updated_at: now,
        }
    }

    /// Returns the user that exists at the start.
    pub(super) fn example(id: u64, name: &str, email: &str) -> Self {
        let fields = Fields {
            name: Some(name.to_owned()),
            email: Some(email.to_owned()),
            role: Some("Admin".to_owned()),
            ..Fields::default()
        };
        Self::new(id, fields)
    }

    fn has_email(&self, email: Option<&String>) -> bool {
        self.fields.email.as_ref() == email
    }

    fn json(&self, store: &Store) -> Value {
        let groups = store.groups.iter().filter(|group| group.has(self.id));
        let groups: Vec<Value> = groups
            .map(|group| json!({"id": group.id, "name": group.name}))
            .collect();
        let fields = &self.fields;
        let optional = [
            ("title", json!(fields.title)),
            ("alternateEmail", json!(fields.alternate_email)),
            ("phone", json!(fields.phone)),
            ("location", json!(fields.location)),
            ("employeeNumber", json!(fields.employee_number)),
        ];
        let mut all: Map<String, Value> = optional
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let required = [
            ("id", json!(self.id)),
            ("name", json!(fields.name)),
            ("email", json!(fields.email)),
            ("role", json!(fields.role)),
            ("createdAt", json!(self.created_at)),
            ("updatedAt", json!(self.updated_at)),
            ("groups", json!(groups)),
        ];
        all.extend(required.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(all)
    }
}

pub(super) fn answer(store: &mut Store, call: &Call<'_>) -> Result {
    match (call.method, call.path) {
        ("GET", []) => {
            let page = call.page(store.users.iter().collect(), MAX_PAGE)?;
            let page = page.into_iter().map(|user: &User| user.json(store));
            Reply::ok(page.collect::<Vec<_>>())
        }
        ("POST", []) => create(store, call.json()?),
        ("GET", [id]) => {
            let id = get(store, id)?.id;
            reply(store, id)
        }
        ("PUT", [id]) => {
            let fields: Fields = call.json()?;
            let id = get(store, id)?.id;
            check_email(store, &fields, Some(id))?;
            let user = get(store, &id.to_string())?;
            user.fields.update(fields);
            user.updated_at = clock::timestamp();
            reply(store, id)
        }
        ("DELETE", [id]) => {
            let id = get(store, id)?.id;
            for group in &mut store.groups {
                group.remove(id);
            }
            remove(&mut store.users, |user| user.id == id)
        }
        (_, [] | [_]) => Err(Problem::method_not_allowed()),
        _ => Err(Problem::not_found()),
    }
}

pub(super) fn get<'a>(store: &'a mut Store, id: &str) -> Result<&'a mut User> {
    let id: Option<u64> = id.parse().ok();
    find(&mut store.users, |user| Some(user.id) == id)
}

fn reply(store: &Store, id: u64) -> Result {
    let user = store.users.iter().find(|user| user.id == id);
    Reply::ok(user.ok_or_else(Problem::not_found)?.json(store))
}

/// Checks that no other user has the address.
fn check_email(store: &Store, fields: &Fields, id: Option<u64>) -> Result<()> {
    let email = fields.email.as_ref();
    let mut others = store.users.iter().filter(|user| Some(user.id) != id);
    if email.is_some() && others.any(|user| user.has_email(email)) {
        return Err(Problem::new(409, "another user has this email"));
    }
    Ok(())
}

fn create(store: &mut Store, fields: Fields) -> Result {
    store.check_count(store.users.len(), "users")?;
    if let Some(name) = fields.missing() {
        return Err(Problem::bad_request(format!(
            "the body is invalid: missing field `{name}`"
        )));
    }
    check_email(store, &fields, None)?;
    let user = User::new(store.next_id(), fields);
    // Domo's R package expects 201, and its documentation shows 200.
    let body = user.json(store);
    store.users.push(user);
    Reply::created(body)
}
