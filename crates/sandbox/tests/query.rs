//! Queries of datasets.

#![cfg(test)]

mod common;

use common::Api;
use serde_json::{Value, json};

struct Queries {
    api: Api,
    path: String,
}

impl Queries {
    fn new() -> Self {
        let api = Api::new();
        let columns = [
            "STRING Name",
            "LONG Born",
            "DOUBLE Score",
            "DATE Day of visit",
        ];
        let csv = "Ada,1815,1.5,2024-01-02\nAlan,1912,-2,2024-01-01\nPythagoras,-570,,\n,1815,10,2023-12-31\n";
        let dataset = api.dataset(&columns, csv);
        let id = dataset.rsplit('/').next().unwrap();
        let path = format!("/v1/datasets/query/execute/{id}");
        Self { api, path }
    }

    fn run(&self, sql: &str) -> (u16, Value) {
        self.api.json("POST", &self.path, &json!({"sql": sql}))
    }

    fn rows(&self, rest: &str) -> Value {
        let (status, mut body) = self.run(rest);
        assert_eq!(status, 200, "{rest}: {body}");
        body["rows"].take()
    }

    /// Returns the years of birth of the rows.
    fn born(&self, rest: &str) -> Vec<i64> {
        let rows = self.rows(&format!("SELECT Born FROM table {rest}"));
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row[0].as_i64().unwrap()).collect()
    }

    #[track_caller]
    fn assert_rejected(&self, sql: &str, message: &str) {
        let (status, body) = self.run(sql);
        let found = body["message"].as_str().unwrap();
        assert!(found.starts_with(message), "{sql}: {found}");
        assert_eq!(status, 400);
    }
}

#[test]
fn result_has_the_documented_fields() {
    let queries = Queries::new();
    let (status, body) = queries.run("SELECT Name AS Who, Score FROM table LIMIT 1");
    let id = queries.path.rsplit('/').next().unwrap();
    let metadata = |kind| json!({"type": kind, "dataSourceId": id, "maxLength": -1, "minLength": -1, "periodIndex": 0});
    let expected = json!({
        "datasource": id,
        "columns": ["Who", "Score"],
        "metadata": [metadata("STRING"), metadata("DOUBLE")],
        "rows": [["Ada", 1.5]],
        "numRows": 1,
        "numColumns": 2,
        "fromcache": false,
    });
    assert_eq!((status, body), (200, expected));
}

#[test]
fn columns_are_selected_by_name_in_any_order() {
    let queries = Queries::new();
    let all = json!(["Ada", 1815, 1.5, "2024-01-02"]);
    assert_eq!(queries.rows("SELECT * FROM table")[0], all);
    let sql = "select `Day of visit`, table.name, \"Born\" from TABLE limit 1";
    queries.assert_rejected(sql, "unsupported: \"Born\"");
    let sql = "select `Day of visit`, table.name, Born from TABLE limit 1;";
    assert_eq!(queries.rows(sql), json!([["2024-01-02", "Ada", 1815]]));
    let nulls = queries.rows("SELECT Name, Score FROM `table` WHERE Born = -570");
    assert_eq!(nulls, json!([["Pythagoras", null]]));
    queries.assert_rejected("SELECT Age FROM table", "the dataset has no column \"Age\"");
}

#[test]
fn rows_are_selected_by_conditions() {
    let queries = Queries::new();
    let cases: [(&str, &[i64]); 16] = [
        ("WHERE Name = 'Ada'", &[1815]),
        ("WHERE Name = \"Alan\"", &[1912]),
        ("WHERE Born = 1815 AND Name = 'Ada'", &[1815]),
        ("WHERE Born <> 1815", &[1912, -570]),
        ("WHERE Born != '1815'", &[1912, -570]),
        ("WHERE Born < 0 OR Born >= 1912", &[1912, -570]),
        ("WHERE Score > 1.5", &[1815]),
        ("WHERE Score <= 1.5", &[1815, 1912]),
        ("WHERE NOT (Score > 1.5)", &[1815, 1912]),
        ("WHERE Score IS NULL", &[-570]),
        (
            "WHERE Name IS NOT NULL AND Score IS NOT NULL",
            &[1815, 1912],
        ),
        ("WHERE Born IN (-570, 1912)", &[1912, -570]),
        ("WHERE Name NOT IN ('Ada')", &[1912, -570]),
        ("WHERE `Day of visit` < '2024-01-01'", &[1815]),
        ("WHERE Name > 'B' OR Name = 'Ada' AND Born = 0", &[-570]),
        ("WHERE Born = 1815 AND NOT Name = 'Ada'", &[]),
    ];
    for (condition, expected) in cases {
        assert_eq!(queries.born(condition), expected, "{condition}");
    }
}

#[test]
fn rows_are_ordered_and_limited() {
    let queries = Queries::new();
    assert_eq!(queries.born("ORDER BY Born"), [-570, 1815, 1815, 1912]);
    assert_eq!(
        queries.born("ORDER BY Score DESC"),
        [1815, 1815, 1912, -570]
    );
    let by_two = "SELECT Name FROM table ORDER BY Born DESC, Name ASC";
    let expected = json!([["Alan"], [null], ["Ada"], ["Pythagoras"]]);
    assert_eq!(
        queries.rows(by_two),
        expected,
        "null is less than any value"
    );
    assert_eq!(queries.born("ORDER BY Born LIMIT 1 OFFSET 3"), [1912]);
    assert_eq!(queries.born("LIMIT 1, 2"), [1912, -570]);
    assert_eq!(queries.born("LIMIT 0"), [0; 0]);
    assert_eq!(queries.born("LIMIT 9 OFFSET 9"), [0; 0]);
    queries.assert_rejected("SELECT * FROM table LIMIT -1", "-1 in LIMIT or OFFSET");
}

#[test]
fn rows_are_counted() {
    let queries = Queries::new();
    let (status, body) = queries.run("SELECT COUNT(*) FROM table WHERE Born = 1815");
    assert_eq!((status, &body["columns"]), (200, &json!(["COUNT(*)"])));
    assert_eq!(body["rows"], json!([[2]]));
    assert_eq!(body["metadata"][0]["type"], "LONG");
    let (_, body) = queries.run("SELECT count(*) AS n FROM table WHERE Name = 'nobody'");
    assert_eq!(
        (&body["columns"], &body["rows"]),
        (&json!(["n"]), &json!([[0]]))
    );
}

#[test]
fn everything_else_is_rejected_by_name() {
    let queries = Queries::new();
    for sql in [
        "SELECT DISTINCT Name FROM table",
        "SELECT Born FROM table GROUP BY Born",
        "SELECT Born FROM table HAVING Born > 1",
        "SELECT count(DISTINCT Name) FROM table",
        "SELECT count(Name) FROM table",
        "SELECT sum(Born) FROM table",
        "SELECT Name, count(*) FROM table",
        "SELECT Born + 1 FROM table",
        "SELECT 1",
        "SELECT * FROM other",
        "SELECT * FROM table t",
        "SELECT * FROM table, table",
        "SELECT * FROM table JOIN table ON 1 = 1",
        "SELECT * FROM table UNION SELECT * FROM table",
        "SELECT * FROM (SELECT * FROM table)",
        "WITH t AS (SELECT 1) SELECT * FROM table",
        "SELECT * FROM table WHERE Name LIKE 'A%'",
        "SELECT * FROM table WHERE Born BETWEEN 1 AND 2",
        "SELECT * FROM table WHERE Born = Score",
        "SELECT * FROM table WHERE 1815 = Born",
        "SELECT * FROM table WHERE Born IN (SELECT Born FROM table)",
        "SELECT * FROM table WHERE Name = NULL",
        "SELECT * FROM table ORDER BY 1",
        "SELECT * FROM table FOR UPDATE",
        "DELETE FROM table",
        "SELECT * FROM table; SELECT * FROM table",
        "",
    ] {
        queries.assert_rejected(sql, "unsupported: ");
    }
}

#[test]
fn invalid_queries_are_rejected() {
    let queries = Queries::new();
    for sql in [
        "SELEC * FROM table",
        "SELECT * FROM table WHERE",
        "SELECT 'open",
    ] {
        queries.assert_rejected(sql, "the query is invalid: ");
    }
    let wrong = [
        ("Born = 'old'", "column \"Born\" is numeric, and \"old\""),
        (
            "Name = 1",
            "column \"Name\" is not numeric; put 1 in quotes",
        ),
    ];
    for (condition, message) in wrong {
        queries.assert_rejected(&format!("SELECT * FROM table WHERE {condition}"), message);
    }
    let (status, _) = queries
        .api
        .json("POST", &queries.path, &json!({"query": "SELECT 1"}));
    assert_eq!(status, 400);
    let unknown = "/v1/datasets/query/execute/unknown";
    assert_eq!(
        queries
            .api
            .json("POST", unknown, &json!({"sql": "SELECT 1"}))
            .0,
        404
    );
    assert_eq!(queries.api.get(&queries.path).0, 405);
}

#[test]
fn long_and_nested_queries_are_rejected_without_harm() {
    let queries = Queries::new();
    let nested = |open: &str, close: &str, depth| {
        let (open, close) = (open.repeat(depth), close.repeat(depth));
        format!("SELECT * FROM table WHERE {open}Born = 1815{close}")
    };
    assert_eq!(
        queries.rows(&nested("(", ")", 3)).as_array().unwrap().len(),
        2
    );
    for depth in [30, 60, 400] {
        for sql in [
            nested("(", ")", depth),
            nested("NOT ", "", depth),
            nested("Born IN (SELECT * FROM table WHERE ", ")", depth.min(60)),
        ] {
            queries.assert_rejected(&sql, "the query is invalid: ");
        }
    }
    let long = |terms: usize| {
        format!(
            "SELECT * FROM table WHERE Born=1815{}",
            " AND Born=1815".repeat(terms)
        )
    };
    assert_eq!(queries.rows(&long(150)).as_array().unwrap().len(), 2);
    let sums = format!("SELECT * FROM table WHERE 1{}", "+1".repeat(490));
    queries.assert_rejected(&sums, "unsupported: ");
    queries.assert_rejected(&long(200), "the query has more than 1000 tokens");
    assert_eq!(queries.born("LIMIT 1"), [1815], "it continues");
}

#[test]
fn result_is_limited() {
    let queries = Queries::new();
    // Four columns: more than a million values.
    let many = "a,1,1,2024-01-01\n".repeat(250_001);
    let id = queries.path.rsplit('/').next().unwrap();
    let imported = queries
        .api
        .csv("PUT", &format!("/v1/datasets/{id}/data"), many);
    assert_eq!(imported.status(), 204);
    queries.assert_rejected(
        "SELECT Born FROM table",
        "the sandbox selects at most 1000000 values",
    );
    let count = queries.rows("SELECT count(*) FROM table");
    assert_eq!(count, json!([[250_001]]));
    assert_eq!(queries.born("LIMIT 1"), [1]);
}
