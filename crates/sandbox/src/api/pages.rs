//! Pages and their collections.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Store;
use super::call::{Call, MAX_PAGE, Problem, Reply, Result, find, remove, to_json};

/// The most pages above a page when it is created or moved.
const MAX_LEVELS: usize = 8;

pub(super) struct Page {
    id: u64,
    name: String,
    /// 0 for a page at the top level.
    parent: u64,
    owner: i64,
    locked: bool,
    cards: Vec<i64>,
    visibility: Visibility,
    collections: Vec<Collection>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Visibility {
    user_ids: Vec<i64>,
    group_ids: Vec<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Collection {
    id: u64,
    title: String,
    description: String,
    card_ids: Vec<i64>,
}

/// The fields of a page; none of them is required in an update.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageFields {
    name: Option<String>,
    parent_id: Option<u64>,
    owner_id: Option<i64>,
    locked: Option<bool>,
    card_ids: Option<Vec<i64>>,
    collection_ids: Option<Vec<u64>>,
    visibility: Option<Visibility>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CollectionFields {
    title: Option<String>,
    description: Option<String>,
    card_ids: Option<Vec<i64>>,
}

fn set<T>(field: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *field = new;
    }
}

impl Page {
    fn json(&self) -> Value {
        let collections: Vec<u64> = self.collections.iter().map(|c| c.id).collect();
        json!({
            "id": self.id,
            "parentId": self.parent,
            "name": self.name,
            "ownerId": self.owner,
            "owners": [{"id": self.owner, "type": "USER"}],
            "locked": self.locked,
            "collectionIds": collections,
            "cardIds": self.cards,
            "visibility": self.visibility,
        })
    }

    fn update(&mut self, fields: PageFields) {
        set(&mut self.name, fields.name);
        set(&mut self.parent, fields.parent_id);
        set(&mut self.owner, fields.owner_id);
        set(&mut self.locked, fields.locked);
        set(&mut self.cards, fields.card_ids);
        set(&mut self.visibility, fields.visibility);
        if let Some(order) = fields.collection_ids {
            // As documented, it changes only the order.
            let position = |id| order.iter().position(|other| *other == id);
            let last = order.len();
            self.collections
                .sort_by_key(|collection| position(collection.id).unwrap_or(last));
        }
    }
}

impl Collection {
    fn update(&mut self, fields: CollectionFields) {
        set(&mut self.title, fields.title);
        set(&mut self.description, fields.description);
        set(&mut self.card_ids, fields.card_ids);
    }
}

pub(super) fn answer(store: &mut Store, call: &Call<'_>) -> Result {
    match (call.method, call.path) {
        ("GET", []) => {
            let top = store.pages.iter().filter(|page| page.parent == 0);
            let page = call.page(top.collect(), MAX_PAGE)?;
            let tree = page.into_iter().map(|page| tree(&store.pages, page));
            Reply::ok(tree.collect::<Vec<_>>())
        }
        ("POST", []) => create(store, call.json()?),
        ("GET", [id]) => Reply::ok(get(store, id)?.json()),
        ("PUT", [id]) => {
            let fields: PageFields = call.json()?;
            let id = get(store, id)?.id;
            check_parent(store, &fields, Some(id))?;
            get(store, &id.to_string())?.update(fields);
            // pydomo accepts only this status, and Domo's documentation shows 200.
            Reply::no_content()
        }
        ("DELETE", [id]) => {
            let id = get(store, id)?.id;
            if store.pages.iter().any(|page| page.parent == id) {
                return Err(Problem::bad_request("the page has subpages"));
            }
            remove(&mut store.pages, |page| page.id == id)
        }
        (_, [id, "collections", rest @ ..]) => collections(store, id, rest, call),
        (_, [] | [_]) => Err(Problem::method_not_allowed()),
        _ => Err(Problem::not_found()),
    }
}

fn get<'a>(store: &'a mut Store, id: &str) -> Result<&'a mut Page> {
    let id: Option<u64> = id.parse().ok();
    find(&mut store.pages, |page| Some(page.id) == id)
}

/// Returns a page with its subpages.
fn tree(pages: &[Page], page: &Page) -> Value {
    let children = pages.iter().filter(|other| other.parent == page.id);
    let children: Vec<Value> = children.map(|child| tree(pages, child)).collect();
    json!({"id": page.id, "name": page.name, "children": children})
}

/// Checks that the parent exists, and that it is neither the page itself nor below it.
fn check_parent(store: &Store, fields: &PageFields, id: Option<u64>) -> Result<()> {
    let mut next = fields.parent_id.unwrap_or_default();
    for _ in 0..MAX_LEVELS {
        if next == 0 {
            return Ok(());
        }
        let parent = store.pages.iter().find(|page| page.id == next);
        match parent.filter(|page| Some(page.id) != id) {
            Some(page) => next = page.parent,
            None => break,
        }
    }
    Err(Problem::bad_request(
        "parentId is not a page above this one",
    ))
}

fn create(store: &mut Store, fields: PageFields) -> Result {
    store.check_count(store.pages.len(), "pages")?;
    if fields.name.is_none() {
        return Err(Problem::bad_request(
            "the body is invalid: missing field `name`",
        ));
    }
    check_parent(store, &fields, None)?;
    let mut page = Page {
        id: store.next_id(),
        name: String::new(),
        parent: 0,
        owner: super::OWNER_ID,
        locked: false,
        cards: Vec::new(),
        visibility: Visibility {
            user_ids: vec![super::OWNER_ID],
            group_ids: Vec::new(),
        },
        collections: Vec::new(),
    };
    page.update(fields);
    let reply = page.json();
    store.pages.push(page);
    Reply::ok(reply)
}

fn collections(store: &mut Store, page: &str, path: &[&str], call: &Call<'_>) -> Result {
    let (limit, new_id) = (store.limits.objects, store.next_id());
    let collections = &mut get(store, page)?.collections;
    match (call.method, path) {
        ("GET", []) => Reply::ok(to_json(collections)),
        ("POST", []) => {
            if collections.len() >= limit {
                return Err(Problem::limit(&format!("at most {limit} collections")));
            }
            let fields: CollectionFields = call.json()?;
            if fields.title.is_none() {
                return Err(Problem::bad_request(
                    "the body is invalid: missing field `title`",
                ));
            }
            let mut collection = Collection {
                id: new_id,
                title: String::new(),
                description: String::new(),
                card_ids: Vec::new(),
            };
            collection.update(fields);
            let reply = to_json(&collection);
            collections.push(collection);
            Reply::ok(reply)
        }
        ("PUT", [id]) => {
            let id: Option<u64> = id.parse().ok();
            let collection = find(collections, |collection| Some(collection.id) == id)?;
            collection.update(call.json()?);
            Reply::no_content()
        }
        ("DELETE", [id]) => {
            let id: Option<u64> = id.parse().ok();
            remove(collections, |collection| Some(collection.id) == id)
        }
        (_, [] | [_]) => Err(Problem::method_not_allowed()),
        _ => Err(Problem::not_found()),
    }
}
