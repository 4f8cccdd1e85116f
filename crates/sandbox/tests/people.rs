//! Users, groups and pages as Domo documents them.

#![cfg(test)]

mod common;

use common::Api;
use serde_json::{Value, json};

fn user(email: &str) -> Value {
    json!({"name": "Ada", "email": email, "role": "Admin", "timezone": "UTC", "employeeNumber": 7})
}

/// Creates an object and returns its id as text.
fn create(api: &Api, path: &str, body: &Value) -> String {
    let (status, created) = api.json("POST", path, body);
    assert!(status == 200 || status == 201, "{created}");
    created["id"].to_string()
}

#[test]
fn users_are_created_changed_and_deleted() {
    let api = Api::new();
    let (status, mut created) = api.json(
        "POST",
        "/v1/users?sendInvite=true",
        &user("ada@example.com"),
    );
    assert_eq!(status, 201);
    let fields = created.as_object_mut().unwrap();
    let id = fields.remove("id").unwrap();
    assert_eq!(fields.remove("createdAt"), fields.remove("updatedAt"));
    let expected = json!({
        "name": "Ada", "email": "ada@example.com", "role": "Admin", "employeeNumber": 7, "groups": [],
    });
    assert_eq!(created, expected);

    let path = format!("/v1/users/{id}");
    let (status, updated) = api.json("PUT", &path, &json!({"title": "Countess"}));
    assert_eq!((status, &updated["title"]), (200, &json!("Countess")));
    assert_eq!(updated["name"], "Ada");
    assert_eq!(api.get(&path), (200, updated));
    let (_, list) = api.get("/v1/users/?limit=1&offset=1");
    assert_eq!(list[0]["id"], id);

    let again = api.json("POST", "/v1/users", &user("ada@example.com"));
    assert_eq!(again.0, 409);
    let taken = json!({"email": "leonhard.euler@example.com"});
    assert_eq!(api.json("PUT", &path, &taken).0, 409);
    let same = json!({"email": "ada@example.com"});
    assert_eq!(api.json("PUT", &path, &same).0, 200);
    for missing in ["name", "email", "role"] {
        let mut user = user("b@example.com");
        user.as_object_mut().unwrap().remove(missing);
        let (status, body) = api.json("POST", "/v1/users", &user);
        let message = format!("the body is invalid: missing field `{missing}`");
        assert_eq!((status, &body["message"]), (400, &json!(message)));
    }
    assert_eq!(api.delete(&path), 204);
    assert_eq!((api.delete(&path), api.get(&path).0), (404, 404));
    assert_eq!(api.get("/v1/users/x").0, 404);
}

#[test]
fn groups_have_members() {
    let api = Api::new();
    let ada = create(&api, "/v1/users", &user("ada@example.com"));
    let group = create(
        &api,
        "/v1/groups",
        &json!({"name": "Programmers", "active": "true"}),
    );
    let path = format!("/v1/groups/{group}");
    let member = format!("{path}/users/{ada}");
    for _ in 0..2 {
        assert_eq!(api.json("PUT", &member, &json!("")), (204, Value::Null));
    }
    let (_, members) = api.get(&format!("{path}/users"));
    assert_eq!(members.to_string(), format!("[{ada}]"));
    let expected = json!({
        "id": members_id(&group), "name": "Programmers", "active": true, "creatorId": "964382593", "default": false,
        "memberCount": 1,
    });
    assert_eq!(api.get(&path), (200, expected.clone()));
    assert_eq!(api.get("/v1/groups").1, json!([expected]));
    let (_, user) = api.get(&format!("/v1/users/{ada}"));
    assert_eq!(user["groups"][0]["name"], "Programmers");

    assert_eq!(
        api.json("PUT", &format!("{path}/users/0"), &json!({})).0,
        404
    );
    let (_, updated) = api.json("PUT", &path, &json!({"active": false}));
    assert_eq!(
        (&updated["active"], &updated["name"]),
        (&json!(false), &json!("Programmers"))
    );
    assert_eq!(api.json("PUT", &path, &json!({"active": 1})).0, 400);
    assert_eq!(api.delete(&member), 204);
    assert_eq!(api.delete(&member), 404);
    assert_eq!(api.json("PUT", &member, &json!({})).0, 204);
    assert_eq!(api.delete(&format!("/v1/users/{ada}")), 204);
    assert_eq!(api.get(&format!("{path}/users")).1, json!([]));
    assert_eq!(api.delete(&path), 204);
    assert_eq!(api.get(&path).0, 404);
}

fn members_id(id: &str) -> u64 {
    id.parse().unwrap()
}

#[test]
fn pages_form_a_tree_with_collections() {
    let api = Api::new();
    let top = create(&api, "/v1/pages", &json!({"name": "Top"}));
    let parent: u64 = top.parse().unwrap();
    let new = json!({"name": "Below", "parentId": parent, "cardIds": [1, 2], "visibility": {"groupIds": [3]}});
    let child = create(&api, "/v1/pages", &new);
    let id: u64 = child.parse().unwrap();
    let expected = json!([{"id": parent, "name": "Top", "children": [
        {"id": id, "name": "Below", "children": []},
    ]}]);
    assert_eq!(api.get("/v1/pages"), (200, expected));

    let path = format!("/v1/pages/{child}");
    assert_eq!(
        api.json("PUT", &path, &json!({"locked": true})),
        (204, Value::Null)
    );
    let expected = json!({
        "id": id, "parentId": parent, "name": "Below", "ownerId": 964_382_593, "locked": true,
        "owners": [{"id": 964_382_593, "type": "USER"}], "collectionIds": [], "cardIds": [1, 2],
        "visibility": {"userIds": [], "groupIds": [3]},
    });
    assert_eq!(api.get(&path), (200, expected));

    let collections = format!("{path}/collections");
    let first = create(
        &api,
        &collections,
        &json!({"title": "First", "cardIds": [1]}),
    );
    let second = create(&api, &collections, &json!({"title": "Second"}));
    let order: Vec<u64> = [&second, &first].map(|id| id.parse().unwrap()).into();
    assert_eq!(
        api.json("PUT", &path, &json!({"collectionIds": order})).0,
        204
    );
    assert_eq!(api.get(&path).1["collectionIds"], json!(order));
    let update = json!({"description": "text"});
    assert_eq!(
        api.json("PUT", &format!("{collections}/{first}"), &update)
            .0,
        204
    );
    assert_eq!(api.delete(&format!("{collections}/{second}")), 204);
    let expected =
        json!([{"id": order[1], "title": "First", "description": "text", "cardIds": [1]}]);
    assert_eq!(api.get(&collections), (200, expected));
    assert_eq!(api.json("POST", &collections, &update).0, 400);

    assert_eq!(
        api.delete(&format!("/v1/pages/{top}")),
        400,
        "it has a subpage"
    );
    assert_eq!(api.delete(&path), 204);
    assert_eq!(api.delete(&format!("/v1/pages/{top}")), 204);
    assert_eq!(api.get("/v1/pages").1, json!([]));
}

#[test]
fn page_is_never_below_itself() {
    let api = Api::new();
    let top = create(&api, "/v1/pages", &json!({"name": "Top"}));
    let parent: u64 = top.parse().unwrap();
    let child = create(
        &api,
        "/v1/pages",
        &json!({"name": "Below", "parentId": parent}),
    );
    let child: u64 = child.parse().unwrap();
    for wrong in [parent, child, 99] {
        let update = json!({"parentId": wrong});
        let (status, _) = api.json("PUT", &format!("/v1/pages/{top}"), &update);
        assert_eq!(status, 400, "{wrong}");
    }
    let moved = json!({"parentId": 0});
    assert_eq!(
        api.json("PUT", &format!("/v1/pages/{child}"), &moved).0,
        204
    );
    assert_eq!(api.get("/v1/pages").1.as_array().unwrap().len(), 2);
    let unnamed = api.json("POST", "/v1/pages", &json!({"parentId": parent}));
    assert_eq!(unnamed.0, 400);
}

#[test]
fn each_family_requires_its_scope() {
    let api = Api::new();
    let families = [
        ("data", "/v1/datasets"),
        ("data", "/v1/streams/search"),
        ("user", "/v1/users/1"),
        ("user", "/v1/groups"),
        ("dashboard", "/v1/pages"),
    ];
    for held in ["data", "user", "dashboard"] {
        let token = common::ask(&api.sandbox, held).token();
        for (scope, path) in families {
            let answer = common::resource(&api.sandbox, path, &token);
            let denied = answer.json()["error"] == "insufficient_scope";
            assert_eq!(denied, scope != held, "{held} {path}");
            assert_eq!(answer.status() == 403, denied);
            if denied {
                assert_eq!(answer.json()["scope"], scope);
            }
        }
    }
    assert_eq!(
        common::resource(&api.sandbox, "/v1/pages", "unknown").status(),
        401
    );
    let last = api.sandbox.resource_calls().pop().unwrap();
    assert_eq!((&*last.method, &*last.path), ("GET", "/v1/pages"));
}
