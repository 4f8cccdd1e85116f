//! `docs/recipes.md`: each recipe as it stands there, against a daemon and the sandbox. What needs
//! a tool that isn't here is skipped, and says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::process::KillOnDrop;
use crate::common::wait::until;
use crate::common::{CANARY_SECRET, Daemon, parts, sandbox_and_daemon, token};
use domo_sandbox::Sandbox;

const DOMO: &str = "https://api.domo.com";

/// What the sandbox's first dataset is called.
const FIRST_DATASET: &str = "Leonhard Euler Party";

/// The recipe in the document that is to be a file of that name.
fn recipe(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes.md");
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let begins = |line: &&str| line.starts_with("```") && line.ends_with(&format!(" {name}"));
    assert!(lines.by_ref().any(|line| begins(&line)), "no {name}");
    let body = lines.take_while(|line| *line != "```");
    body.flat_map(|line| [line, "\n"]).collect()
}

/// A broker, what it serves from, and a place to run recipes in.
struct Recipes {
    sandbox: Sandbox,
    daemon: Daemon,
    folder: tempfile::TempDir,
}

impl Recipes {
    fn new() -> Self {
        // The floor between two requests of one set is 2 s: whoever renews waits no longer.
        let (sandbox, daemon) = sandbox_and_daemon(Duration::from_secs(40));
        token(&daemon.ask(&["data"]));
        Self {
            sandbox,
            daemon,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Writes a text to a file, with the sandbox for Domo.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let host = self
            .sandbox
            .url("")
            .trim_start_matches("http://")
            .to_owned();
        let pydomo = format!("api_host=\"{host}\", use_https=False");
        let text = text.replace(DOMO, &self.sandbox.url(""));
        let text = text.replace("api_host=\"api.domo.com\"", &pydomo);
        fs::write(&path, text).unwrap();
        path
    }

    fn recipe(&self, name: &str) -> PathBuf {
        self.write(name, &recipe(name))
    }

    /// A command in the place, with little of this process's surroundings.
    fn command(&self, words: &[&str], socket: &Path) -> Command {
        let helper = Path::new(env!("CARGO_BIN_EXE_domo-token"));
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .current_dir(&self.folder)
            .env_clear()
            .env(
                "PATH",
                format!("{}:{path}", helper.parent().unwrap().display()),
            )
            .env("HOME", self.folder.path())
            .env("DOMO_TOKEN_SOCKET", socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it, and gives all it has shown and left behind.
    fn run(&self, words: &[&str], socket: &Path) -> (Option<i32>, String) {
        let output = self.command(words, socket).output().unwrap();
        let (code, stdout, stderr) = parts(&output);
        let left = self.folder.path().join("datasets.json");
        let left = fs::read_to_string(left).unwrap_or_default();
        (code, stdout + &stderr + &left)
    }

    fn statuses(&self) -> Vec<u16> {
        let calls = self.sandbox.resource_calls();
        calls.iter().map(|call| call.status).collect()
    }

    /// Holds a recipe to what the document promises of all.
    fn assert_works(&self, words: &[&str]) {
        let socket = self.daemon.socket();
        let before = self.statuses().len();
        let (code, shown) = self.run(words, &socket);
        assert_eq!(code, Some(0), "{words:?}: {shown}");
        assert!(shown.contains(FIRST_DATASET), "{words:?}: {shown}");
        let held = token(&self.daemon.ask(&["data"]));
        let kept = [held.as_str(), CANARY_SECRET];
        assert!(!kept.iter().any(|secret| shown.contains(secret)), "{shown}");
        let calls = self.statuses().split_off(before);
        assert!(!calls.is_empty() && calls.iter().all(|status| *status == 200));
        let _ = fs::remove_file(self.folder.path().join("datasets.json"));
        self.assert_fails_without_a_broker(words);
        self.assert_no_token_in_arguments(words, &held);
        let _ = fs::remove_file(self.folder.path().join("datasets.json"));
    }

    fn assert_fails_without_a_broker(&self, words: &[&str]) {
        let before = self.statuses().len();
        let none = self.folder.path().join("none.sock");
        // Where it would wait for a broker it is told not to.
        let without_wait: Vec<String> = words
            .iter()
            .map(|word| word.replace("--wait ", ""))
            .collect();
        let without_wait: Vec<&str> = without_wait.iter().map(String::as_str).collect();
        let (code, shown) = self.run(&without_wait, &none);
        assert!(
            code != Some(0) && code.is_some(),
            "{words:?}: {code:?} {shown}"
        );
        assert!(shown.contains("no broker listens"), "{words:?}: {shown}");
        assert_eq!(self.statuses().len(), before, "{words:?} sent something");
    }

    fn assert_no_token_in_arguments(&self, words: &[&str], held: &str) {
        let trace = self.folder.path().join("trace");
        let to = trace.to_str().unwrap();
        let options = ["strace", "-f", "-s", "9999", "-e", "trace=execve", "-o", to];
        let probe = Command::new("strace")
            .args(["-o", "/dev/null", "true"])
            .output();
        if !probe.is_ok_and(|output| output.status.success()) {
            println!("no strace here: {words:?} was not searched for its arguments");
            return;
        }
        let (code, shown) = self.run(&[&options[..], words].concat(), &self.daemon.socket());
        assert_eq!(code, Some(0), "{words:?}: {shown}");
        let trace = fs::read_to_string(trace).unwrap();
        assert!(trace.contains("domo-token"), "{trace}");
        assert!(!trace.contains(held), "{words:?} shows its token");
    }
}

/// Whether there is such a tool; says so if not.
fn is_installed(tool: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::null());
    let here = command.output().is_ok_and(|output| output.status.success());
    if !here {
        println!("no {tool} {arguments:?} here: its recipe was not tried");
    }
    here
}

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
    let held = token(&recipes.daemon.ask(&["data"]));
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
            assert_eq!((code, shown), (Some(0), format!("{held}\n")), "{shell}");
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

/// What stands after the first `start` of a line.
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
    // systemd knows no quotes here, and needs none.
    assert!(!line.contains(['"', '\'', '$', '%']), "{line}");
    let words: Vec<&str> = line.split(' ').collect();
    let socket = recipes.daemon.socket();
    let (code, shown) = recipes.run(&words, &socket);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(FIRST_DATASET), "{shown}");
    recipes.assert_fails_without_a_broker(&["sh", "-c", &line]);
    assert_unit_verifies(&recipes, "report.service");
}

/// What `systemd-analyze` says of a unit.
fn assert_unit_verifies(recipes: &Recipes, name: &str) {
    if !is_installed("systemd-analyze", &["--version"]) {
        return;
    }
    let helper = env!("CARGO_BIN_EXE_domo-token");
    let unit = recipe(name).replace("/usr/bin/domo-token", helper);
    // The broker's own units are in the package.
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
    // It knows no place of its own for state in a container.
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

/// Holds a recipe to a token that Domo takes back before its time.
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
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("    import subprocess"));
    let lines = lines.map_while(|line| line.strip_prefix("    "));
    let script: String = lines.flat_map(|line| [line, "\n"]).collect();
    let recipes = Recipes::new();
    let script = recipes.write("readme.py", &script);
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
    let asked = recipes.sandbox.requests();
    assert!(
        asked.len() <= 4,
        "one by the broker for each token: {asked:?}"
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
    // As its hook runs it.
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
