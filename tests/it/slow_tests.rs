//! The list of tests that the short run leaves out.

use std::fs;
use std::path::Path;

/// Returns whether the file of its module, or of that name in the sandbox's tests, has a test of that path.
fn exists(target: &str, test: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = match target {
        "it" => root.join("tests/it"),
        "lib" => root.join("src"),
        _ => root.join("crates/sandbox/tests"),
    };
    let (module, name) = test.rsplit_once("::").unwrap_or((target, test));
    let module = module.strip_suffix("::tests").unwrap_or(module);
    let file = root.join(module.replace("::", "/")).with_extension("rs");
    let code = fs::read_to_string(file).unwrap_or_default();
    code.contains(&format!("fn {name}("))
}

#[test]
fn slow_tests_of_the_list_exist() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/slow-tests");
    let list = fs::read_to_string(list).unwrap();
    let mut count = 0;
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let (target, test) = line.split_once(' ').unwrap();
        assert!(exists(target, test), "no test {line}");
        count += 1;
    }
    assert!(count > 10, "{count}");
    assert!(!exists("it", "slow_tests::no_such_test"));
    assert!(!exists("query", "no_such_test"));
    assert!(!exists("no_such_file", "result_is_limited"));
}
