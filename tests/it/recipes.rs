//! Each recipe of `docs/recipes.md`, with a daemon and the sandbox. Recipes whose tool is not installed are
//! skipped.

pub(crate) mod runner;

use std::fs;
use std::path::Path;

use crate::common::process::KillOnDrop;
use crate::common::wait::until;
use crate::common::{parts, token};
use runner::{DOMO, FIRST_DATASET, Recipes, is_installed, recipe};

fn assert_works_in_shells(name: &str, tool: &str) {
    if !is_installed(tool, &["--version"]) {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.recipe(name);
    for shell in ["sh", "bash"] {
        recipes.assert_works(&[shell, script.to_str().unwrap()]);
    }
}

#[test]
fn curl_reads_its_header_from_a_descriptor() {
    assert_works_in_shells("curl.sh", "curl");
}

#[test]
fn curl_reads_header_and_address_from_a_pipe() {
    assert_works_in_shells("curl-pipe.sh", "curl");
}

#[test]
fn several_requests_share_a_token() {
    assert_works_in_shells("curl-script.sh", "curl");
}

#[test]
fn documented_pitfalls_send_an_empty_token_and_exit_0() {
    let recipes = Recipes::new();
    let none = recipes.folder.path().join("none.sock");
    let address = recipes.sandbox.url("/v1/datasets");
    let line = format!("curl -sS -H \"Authorization: Bearer $(domo-token data)\" {address}");
    let (code, _) = recipes.run(&["sh", "-c", &line], &none);
    assert_eq!(code, Some(0), "a script goes on");
    assert_eq!(recipes.statuses(), [401], "an empty token is sent");
    let line = format!("domo-token --format curl data | curl -sS -K - {address}");
    let (code, _) = recipes.run(&["sh", "-c", &line], &none);
    assert_eq!((code, recipes.statuses()), (Some(0), vec![401, 401]));
}

#[test]
fn export_lines_set_the_variable_in_each_shell() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes.md");
    let text = fs::read_to_string(path).unwrap();
    let recipes = Recipes::new();
    let cached = token(&recipes.daemon.ask(&["data"]));
    let eval = "eval \"$(domo-token -o export data)\"";
    for (shell, line) in [
        ("sh", eval),
        ("bash", eval),
        ("zsh", eval),
        ("fish", "domo-token -o fish data | source"),
        ("pwsh", "domo-token -o powershell data | Invoke-Expression"),
    ] {
        assert!(text.contains(&format!("`{line}`")), "{line}");
        let script = format!("{line}; printenv DOMO_ACCESS_TOKEN");
        if is_installed(shell, &["-c", "true"]) {
            let (code, shown) = recipes.run(&[shell, "-c", &script], &recipes.daemon.socket());
            assert_eq!((code, shown), (Some(0), format!("{cached}\n")), "{shell}");
        }
    }
}

#[test]
fn wget_reads_its_header_from_its_config() {
    assert_works_in_shells("wget.sh", "wget");
}

#[test]
fn httpie_reads_its_header_from_a_pipe() {
    assert_works_in_shells("httpie.sh", "http");
}

/// Returns the rest of the first line that begins with `start`.
fn rest_of_line<'a>(text: &'a str, start: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(start));
    lines
        .next()
        .unwrap_or_else(|| panic!("no {start} in {text}"))
}

#[test]
fn cron_runs_it_with_sh_and_few_variables() {
    let recipes = Recipes::new();
    let text = recipe("crontab");
    let line = rest_of_line(&text, "15 * * * *  ");
    assert!(!line.contains('%'), "which ends a command of cron's");
    let line = line.replace(DOMO, &recipes.sandbox.url(""));
    recipes.assert_works(&["sh", "-c", &line]);
}

#[test]
fn service_runs_its_command_with_a_token() {
    let recipes = Recipes::new();
    let text = recipe("report.service");
    let line = rest_of_line(&text, "ExecStart=/usr/bin/");
    let line = line.replace(DOMO, &recipes.sandbox.url(""));
    // systemd would interpret these characters.
    assert!(!line.contains(['"', '\'', '$', '%']), "{line}");
    let words: Vec<&str> = line.split(' ').collect();
    let socket = recipes.daemon.socket();
    let (code, shown) = recipes.run(&words, &socket);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(FIRST_DATASET), "{shown}");
    recipes.assert_fails_without_a_broker(&["sh", "-c", &line]);
    assert_unit_verifies(&recipes, "report.service");
}

/// Checks the unit with `systemd-analyze`.
fn assert_unit_verifies(recipes: &Recipes, name: &str) {
    if !is_installed("systemd-analyze", &["--version"]) {
        return;
    }
    let helper = env!("CARGO_BIN_EXE_domo-token");
    let unit = recipe(name).replace("/usr/bin/domo-token", helper);
    // The broker's units are in the package.
    let unit = unit.replace("domo-tokend.socket", "");
    let path = recipes.write(name, &unit);
    let analyze = [
        "systemd-analyze",
        "verify",
        "--man=no",
        path.to_str().unwrap(),
    ];
    let output = recipes.command(&analyze, Path::new("")).output();
    let (code, stdout, stderr) = parts(&output.unwrap());
    // systemd-analyze also reports directories that are missing in a container.
    let output = stdout + &stderr;
    let of_ours: Vec<&str> = output.lines().filter(|line| line.contains(name)).collect();
    assert!(code == Some(0) && of_ours.is_empty(), "{code:?} {output}");
}

#[test]
fn watch_service_keeps_a_token_file_for_another_service() {
    let recipes = Recipes::new();
    let text = recipe("report-token.service");
    let line = rest_of_line(&text, "ExecStart=/usr/bin/");
    let run = recipes.folder.path().to_str().unwrap();
    let line = line.replace("%t/report", run);
    let words: Vec<&str> = line.split(' ').collect();
    let child = recipes.command(&words, &recipes.daemon.socket()).spawn();
    let _watch = KillOnDrop(child.unwrap());
    let file = recipes.folder.path().join("token");
    until(|| match fs::read_to_string(&file) {
        Ok(text) if text.starts_with("Authorization: Bearer ") => Ok(()),
        other => Err(other.map(|text| text.len())),
    });
    assert_unit_verifies(&recipes, "report-token.service");
}

/// Checks that a recipe renews a token that Domo has revoked.
fn assert_renews(recipes: &Recipes, words: &[&str], refusal: u16) {
    let socket = recipes.daemon.socket();
    let old = token(&recipes.daemon.ask(&["data"]));
    recipes.sandbox.revoke(&old);
    let before = recipes.statuses().len();
    let (code, shown) = recipes.run(words, &socket);
    assert_eq!(code, Some(0), "{words:?}: {shown}");
    assert!(shown.contains(FIRST_DATASET), "{words:?}: {shown}");
    let calls = recipes.statuses().split_off(before);
    assert_eq!(calls, [refusal, 200], "{words:?}");
    assert_ne!(token(&recipes.daemon.ask(&["data"])), old);
}

#[test]
fn urllib_sends_a_token_without_its_newline() {
    if !is_installed("python3", &["--version"]) {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.recipe("domo_urllib.py");
    recipes.assert_works(&["python3", script.to_str().unwrap()]);
}

#[test]
fn python_lines_of_the_readme_send_a_token_and_fail_without_one() {
    if !is_installed("python3", &["-c", "import requests"]) {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, script) = text.split_once("```python\n").unwrap();
    let (script, _) = script.split_once("```").unwrap();
    let recipes = Recipes::new();
    let script = recipes.write("readme.py", script);
    let words = ["python3", script.to_str().unwrap()];
    recipes.assert_works(&words);
    let none = recipes.folder.path().join("none.sock");
    let (code, shown) = recipes.run(&words, &none);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("CalledProcessError"), "{shown}");
    assert!(
        shown.contains("returned non-zero exit status 69"),
        "{shown}"
    );
}

#[test]
fn requests_renews_on_401_and_on_406_for_csv() {
    if !is_installed("python3", &["-c", "import requests"]) {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.recipe("domo_requests.py");
    let words = ["python3", script.to_str().unwrap()];
    recipes.assert_works(&words);
    assert_renews(&recipes, &words, 401);
    let csv = "import requests, domo_requests
answer = requests.get(
    'https://api.domo.com/v1/datasets',
    headers={'Accept': 'text/csv'},
    auth=domo_requests.DomoToken('data'),
)
print(answer.status_code, [past.status_code for past in answer.history], answer.text)
";
    let script = recipes.write("as_csv.py", csv);
    assert_renews(&recipes, &["python3", script.to_str().unwrap()], 406);
}

#[test]
fn pydomo_gets_its_tokens_from_the_broker_alone() {
    if !is_installed("python3", &["-c", "import pydomo"]) {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.recipe("domo_pydomo.py");
    let words = ["python3", script.to_str().unwrap()];
    recipes.assert_works(&words);
    assert_renews(&recipes, &words, 401);
    let csv = "import domo_pydomo
domo = domo_pydomo.Domo('data', api_host=\"api.domo.com\")
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
fn powershell_ends_without_a_token() {
    if !is_installed("pwsh", &["-Version"]) {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.recipe("datasets.ps1");
    recipes.assert_works(&["pwsh", "-NoProfile", "-File", script.to_str().unwrap()]);
}

#[test]
fn r_stops_without_a_token() {
    if !is_installed("Rscript", &["--version"]) {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.recipe("datasets.R");
    recipes.assert_works(&["Rscript", "--vanilla", script.to_str().unwrap()]);
}

#[test]
fn node_throws_without_a_token_and_renews() {
    if !is_installed("node", &["-e", "fetch"]) {
        return;
    }
    let recipes = Recipes::new();
    let script = recipes.recipe("datasets.mjs");
    let words = ["node", script.to_str().unwrap()];
    recipes.assert_works(&words);
    assert_renews(&recipes, &words, 401);
}

#[test]
fn airflow_runs_it_as_a_task() {
    if !is_installed("python3", &["-c", "import airflow.sdk"]) {
        return;
    }
    let recipes = Recipes::new();
    recipes.recipe("datasets_dag.py");
    let dag = "import datasets_dag, pathlib
from airflow.sdk import task
made = datasets_dag.datasets()
line = made.get_task('fetch').python_callable()
pathlib.Path('line').write_text(line)
";
    let script = recipes.write("line.py", dag);
    let (code, shown) = recipes.run(&["python3", script.to_str().unwrap()], Path::new(""));
    assert_eq!(code, Some(0), "{shown}");
    let line = fs::read_to_string(recipes.folder.path().join("line")).unwrap();
    // As Airflow's hook runs it.
    recipes.assert_works(&["bash", "-c", &line]);
}

#[test]
fn make_prints_no_token_and_keeps_no_half_a_file() {
    if !is_installed("make", &["--version"]) {
        return;
    }
    let recipes = Recipes::new();
    recipes.recipe("Makefile");
    recipes.assert_works(&["make"]);
    assert!(!recipes.folder.path().join("datasets.json").exists());
}

#[test]
fn shells_can_read_the_recipe_for_docker() {
    let recipes = Recipes::new();
    let script = recipes.recipe("docker.sh");
    for shell in ["sh", "bash"] {
        let (code, shown) = recipes.run(&[shell, "-n", script.to_str().unwrap()], Path::new(""));
        assert_eq!((code, shown.as_str()), (Some(0), ""));
    }
    println!("no image is run here: the recipe for Docker was only read by shells");
}

#[test]
fn github_runner_step_works_with_bash() {
    let recipes = Recipes::new();
    let workflow = recipe("workflow.yml");
    let (_, script) = workflow.split_once("run: |\n").unwrap();
    let lines = script.lines().map(str::trim_start);
    let script: String = lines.flat_map(|line| [line, "\n"]).collect();
    let script = recipes.write("step.sh", &script);
    let path = script.to_str().unwrap();
    recipes.assert_works(&["bash", "--noprofile", "--norc", "-eo", "pipefail", path]);
}

#[test]
fn recipes_of_the_document_all_have_a_test() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path.join("docs/recipes.md")).unwrap();
    let tests = fs::read_to_string(path.join("tests/it/recipes.rs")).unwrap();
    let mut blocks = text
        .lines()
        .filter(|line| line.starts_with("```") && *line != "```");
    let untried = blocks.find(|line| {
        let name = line.split(' ').nth(1).unwrap_or("a name");
        !tests.contains(&format!("\"{name}\""))
    });
    assert_eq!(untried, None);
}
