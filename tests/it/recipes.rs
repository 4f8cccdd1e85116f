//! Each recipe of `docs/recipes.md`, and the code of `docs/python.md` and `docs/node.md`, with a daemon and the sandbox.
//! Recipes whose tool is not installed are skipped.

mod packages;
pub(crate) mod runner;

use std::fs;
use std::path::Path;

use crate::common::process::KillOnDrop;
use crate::common::wait::until;
use crate::common::{parts, print_skip, token};
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
    print_skip("no image is run here: the recipe for Docker was only read by shells");
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
fn code_of_recipes_and_of_both_packages_pages_is_run() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    let tests = read("tests/it/recipes.rs") + &read("tests/it/recipes/packages.rs");
    for page in ["docs/recipes.md", "docs/python.md", "docs/node.md"] {
        let text = read(page);
        let mut blocks = text
            .lines()
            .filter(|line| line.starts_with("```") && *line != "```");
        let untried = blocks.find(|line| {
            let name = line.split(' ').nth(1).unwrap_or("a name");
            !tests.contains(&format!("\"{name}\""))
        });
        assert_eq!(untried, None, "{page}");
    }
}
