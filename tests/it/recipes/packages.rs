//! Recipes for Python and Node, and the code of `docs/python.md` and `docs/node.md`.

use std::fs;
use std::path::Path;

use super::runner::{FIRST_DATASET, Recipes, code_block, is_installed};
use crate::common::token;

/// Checks that a program renews a token that Domo has revoked.
fn assert_renews(recipes: &Recipes, words: &[&str], rejection: u16) {
    let socket = recipes.daemon.socket();
    let old = token(&recipes.daemon.ask(&["data"]));
    recipes.sandbox.revoke(&old);
    let before = recipes.statuses().len();
    let (code, shown) = recipes.run(words, &socket);
    assert_eq!(code, Some(0), "{words:?}: {shown}");
    assert!(shown.contains(FIRST_DATASET), "{words:?}: {shown}");
    let calls = recipes.statuses().split_off(before);
    let (served, rejected): (Vec<u16>, Vec<u16>) = calls.iter().partition(|status| **status == 200);
    assert!(rejected.iter().all(|status| *status == rejection) && calls[0] == rejection);
    // Each call that was rejected is repeated once; calls that run at the same time may all be rejected.
    assert!(
        served.len() >= rejected.len() && calls.ends_with(&[200]),
        "{words:?}: {calls:?}"
    );
    assert_ne!(token(&recipes.daemon.ask(&["data"])), old);
}

fn has_python(module: &str) -> bool {
    is_installed("python3", &["-c", &format!("import {module}")])
}

/// Returns whether Node has `fetch`, which the package needs.
fn has_node() -> bool {
    is_installed("node", &["-e", "fetch"])
}

/// Runs a program of a page, which uses a package, with a token, a revoked token and no broker.
fn assert_package_works(page: &str, program: &str, name: &str) {
    let recipes = Recipes::new();
    let script = recipes.write(name, &code_block(page, name));
    let words = [program, script.to_str().unwrap()];
    recipes.assert_works_without_the_helper(&words);
    assert_renews(&recipes, &words, 401);
}

#[test]
fn helper_and_urllib_renew_a_rejected_token() {
    if !has_python("urllib") {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.recipe("domo_urllib.py");
    let words = ["python3", script.to_str().unwrap()];
    recipes.assert_works(&words);
    assert_renews(&recipes, &words, 401);
}

#[test]
fn requests_renews_a_rejected_token() {
    if has_python("requests") {
        assert_package_works("docs/recipes.md", "python3", "domo_requests.py");
    }
}

#[test]
fn httpx_renews_a_rejected_token() {
    if has_python("httpx") {
        assert_package_works("docs/recipes.md", "python3", "domo_httpx.py");
    }
}

#[test]
fn pandas_reads_a_dataset() {
    if has_python("pandas, requests") {
        assert_package_works("docs/recipes.md", "python3", "domo_pandas.py");
    }
}

#[test]
fn pydomo_gets_its_tokens_from_the_broker_alone() {
    if !has_python("pydomo") {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.recipe("domo_pydomo.py");
    let words = ["python3", script.to_str().unwrap()];
    recipes.assert_works_without_the_helper(&words);
    assert_renews(&recipes, &words, 401);
    let csv = "from domo_token.pydomo import Domo
domo = Domo('data', api_host=\"api.domo.com\")
print(domo.transport.get_csv('/v1/datasets', {}).text)
";
    let script = recipes.write("as_csv.py", csv);
    assert_renews(&recipes, &["python3", script.to_str().unwrap()], 406);
    let requests = recipes.sandbox.requests();
    assert!(
        requests.len() <= 4,
        "one by the broker for each token: {requests:?}"
    );
}

#[test]
fn airflow_runs_it_as_a_task() {
    if !has_python("airflow.sdk, requests") {
        return;
    }
    let recipes = Recipes::new();
    recipes.recipe("datasets_dag.py");
    let call = |task: &str| {
        let name = format!("{task}.py");
        let dag = format!(
            "import datasets_dag, pathlib
made = datasets_dag.datasets()
pathlib.Path('{task}.txt').write_text(made.get_task('{task}').python_callable())
print(pathlib.Path('{task}.txt').read_text())
"
        );
        recipes.write(&name, &dag)
    };
    let script = call("fetch");
    let words = ["python3", script.to_str().unwrap()];
    recipes.assert_works_without_the_helper(&words);
    assert_renews(&recipes, &words, 401);

    let script = call("fetch_without_the_package");
    let words = ["python3", script.to_str().unwrap()];
    let (code, shown) = recipes.run(&words, Path::new(""));
    assert_eq!(code, Some(0), "{shown}");
    let line = recipes.folder.path().join("fetch_without_the_package.txt");
    let line = fs::read_to_string(line).unwrap();
    // As Airflow's hook runs it.
    recipes.assert_works(&["bash", "-c", &line]);
}

#[test]
fn node_package_renews_a_rejected_token() {
    if has_node() {
        assert_package_works("docs/recipes.md", "node", "datasets.mjs");
    }
}

#[test]
fn helper_and_node_renew_a_rejected_token() {
    if !has_node() {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.recipe("datasets-helper.mjs");
    let words = ["node", script.to_str().unwrap()];
    recipes.assert_works(&words);
    assert_renews(&recipes, &words, 401);
}

#[test]
fn python_and_node_lines_of_the_readme_send_a_token_and_fail_without_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(path).unwrap();
    for (language, program, name, installed) in [
        ("python", "python3", "readme.py", has_python("requests")),
        ("js", "node", "readme.mjs", has_node()),
    ] {
        if !installed {
            continue;
        }
        let (_, script) = text.split_once(&format!("```{language}\n")).unwrap();
        let (script, _) = script.split_once("```").unwrap();
        let recipes = Recipes::new();
        let script = recipes.write(name, script);
        let words = [program, script.to_str().unwrap()];
        recipes.assert_works_without_the_helper(&words);
        assert_renews(&recipes, &words, 401);
        let none = recipes.folder.path().join("none.sock");
        let (code, shown) = recipes.run(&words, &none);
        assert_eq!(code, Some(1), "{shown}");
        assert!(shown.contains("NotRunning"), "{shown}");
    }
}

#[test]
fn scripts_of_the_python_page_renew_a_rejected_token() {
    if has_python("requests") {
        assert_package_works("docs/python.md", "python3", "report.py");
    }
    if has_python("httpx") {
        assert_package_works("docs/python.md", "python3", "async_report.py");
    }
}

#[test]
fn threads_of_the_python_page_share_a_token() {
    if !has_python("requests") {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.write("threads.py", &code_block("docs/python.md", "threads.py"));
    let words = ["python3", script.to_str().unwrap()];
    recipes.assert_works_without_the_helper(&words);
}

#[test]
fn plain_scripts_of_both_pages_send_a_token() {
    for (page, program, name, installed) in [
        (
            "docs/python.md",
            "python3",
            "plain.py",
            has_python("urllib"),
        ),
        ("docs/node.md", "node", "plain.mjs", has_node()),
    ] {
        if installed {
            let recipes = Recipes::new();
            // Node's module for https has no http.
            let code = code_block(page, name).replace("node:https", "node:http");
            let script = recipes.write(name, &code);
            recipes.assert_works_without_the_helper(&[program, script.to_str().unwrap()]);
        }
    }
}

#[test]
fn scripts_of_the_node_page_renew_a_rejected_token() {
    if has_node() {
        assert_package_works("docs/node.md", "node", "report.mjs");
    }
}

/// Runs a script of a page that requests a token and does not call Domo. Returns what it prints.
fn assert_gets_a_token(page: &str, program: &str, name: &str) -> String {
    let recipes = Recipes::new();
    let script = recipes.write(name, &code_block(page, name));
    let words = [program, script.to_str().unwrap()];
    let (code, shown) = recipes.run(&words, &recipes.daemon.socket());
    assert_eq!(code, Some(0), "{shown}");
    let cached = token(&recipes.daemon.ask(&["data"]));
    assert!(!shown.contains(&cached), "{name} shows a token");

    let none = recipes.folder.path().join("none.sock");
    let (code, error) = recipes.run(&words, &none);
    let expected = if name.starts_with("exit") { 69 } else { 1 };
    assert_eq!(code, Some(expected), "{error}");
    assert!(error.contains("no broker listens"), "{error}");
    shown
}

#[test]
fn scripts_of_both_pages_exit_with_69_or_1_without_a_broker() {
    if has_python("sys") {
        assert_eq!(
            assert_gets_a_token("docs/python.md", "python3", "retry.py"),
            "data\n"
        );
        assert_eq!(
            assert_gets_a_token("docs/python.md", "python3", "exit_code.py"),
            ""
        );
    }
    if has_node() {
        let shown = assert_gets_a_token("docs/node.md", "node", "watch.mjs");
        assert!(shown.starts_with("a token until 20"), "{shown}");
        assert_eq!(
            assert_gets_a_token("docs/node.md", "node", "retry.mjs"),
            "data\n"
        );
        assert_eq!(
            assert_gets_a_token("docs/node.md", "node", "exit-code.mjs"),
            ""
        );
    }
}

#[test]
fn streamlit_app_shows_the_datasets() {
    if !has_python("streamlit, requests") {
        return;
    }
    let recipes = Recipes::new();
    let app = code_block("docs/python.md", "streamlit_app.py");
    recipes.write("streamlit_app.py", &app);
    let test = "from streamlit.testing.v1 import AppTest
app = AppTest.from_file('streamlit_app.py').run(timeout=60)
assert not app.exception, app.exception
print(app.dataframe[0].value['name'].tolist())
";
    let test = recipes.write("run_app.py", test);
    let words = ["python3", test.to_str().unwrap()];
    let (code, shown) = recipes.run(&words, &recipes.daemon.socket());
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(FIRST_DATASET), "{shown}");
}

/// Runs the example of a page for tests of an app, and checks that it fails if the app sends another token.
fn assert_test_of_an_app_works(page: &str, name: &str, command: &[&str]) {
    let recipes = Recipes::new();
    let code = code_block(page, name);
    let none = recipes.folder.path().join("none.sock");
    recipes.write(name, &code);
    let (exit, shown) = recipes.run(command, &none);
    assert_eq!(exit, Some(0), "{shown}");
    recipes.write(name, &code.replacen("Bearer ", "Basic ", 1));
    let (exit, shown) = recipes.run(command, &none);
    assert_eq!(exit, Some(1), "{shown}");
}

#[test]
fn app_tests_of_both_pages_pass_and_notice_a_wrong_token() {
    if has_python("pytest") {
        let plugin = "domo_token._pytest_plugin";
        // An installed package registers the plugin itself, and pytest rejects it twice.
        let alone = "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1";
        let pytest = ["python3", "-m", "pytest", "-p", plugin, "test_report.py"];
        let command = [&["env", alone][..], &pytest].concat();
        assert_test_of_an_app_works("docs/python.md", "test_report.py", &command);
    }
    if has_node() {
        let command = ["node", "--test", "report.test.mjs"];
        assert_test_of_an_app_works("docs/node.md", "report.test.mjs", &command);
    }
}
