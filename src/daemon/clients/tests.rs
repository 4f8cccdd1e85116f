use super::*;
use crate::config::{Endpoint, IdSource, SecretCommand};
use crate::credentials::CredentialsError;
use crate::source::Origin;

const NOW: BootTime = BootTime::from_millis(1_000_000);

fn scopes(text: &str) -> BTreeSet<ScopeSet> {
    BTreeSet::from([ScopeSet::parse(text).unwrap()])
}

fn loaded(source: &Arc<u8>) -> LoadedClient<u8> {
    LoadedClient {
        proxy_login: None,
        shown_id: "441e…".to_owned(),
        origin: Origin::default(),
        source: Arc::clone(source),
    }
}

fn command_failed(problem: &str) -> LoadError {
    LoadError::Credentials(CredentialsError::Command {
        what: "client secret",
        program: "pass".to_owned(),
        problem: problem.to_owned(),
    })
}

fn file_missing() -> LoadError {
    LoadError::Credentials(CredentialsError::Unusable {
        what: "client secret",
        from: "a file".to_owned(),
        problem: "empty".to_owned(),
    })
}

fn is_loaded(changes: &LoadChange, after_failure: bool) -> bool {
    matches!(changes, LoadChange::Loaded { had_failed, .. } if *had_failed == after_failure)
}

/// Returns what a client with the command `argv` depends on.
fn inputs(argv: &str) -> Box<CommandInputs> {
    Box::new(CommandInputs {
        command: SecretCommand {
            argv: vec![argv.to_owned()],
            withheld: Vec::new(),
        },
        id: IdSource::Inline("id".to_owned()),
        endpoint: Endpoint::new("https://api.domo.com/oauth/token".parse().unwrap()),
        allow_world_readable_secret: false,
        files: Vec::new(),
    })
}

/// Applies a config of clients with the scope set `data`; one without a result has a command.
fn apply<const N: usize>(
    clients: &mut Clients<u8>,
    results: [(&str, Option<LoadResult<u8>>); N],
) -> Vec<LoadChange> {
    let candidates = results.map(|(name, result)| {
        let progress = result.map_or_else(
            || LoadProgress::NeedsCommand(inputs("pass")),
            LoadProgress::Done,
        );
        let scopes = scopes("data");
        (name.to_owned(), Candidate { scopes, progress })
    });
    clients.apply(candidates.into(), Rerun::All, NOW).0
}

/// Returns what the broker is given of a client.
fn given(clients: &mut Clients<u8>, name: &str) -> (ClientSpec, Option<Arc<u8>>) {
    let mut all = clients.for_broker().into_iter();
    all.find(|(spec, _)| spec.name == name).unwrap()
}

#[test]
fn failing_client_leaves_the_others_loaded() {
    let mut clients = Clients::new();
    let good = Arc::new(1);
    let changes = apply(
        &mut clients,
        [
            ("bad", Some(Err(file_missing()))),
            ("good", Some(Ok(loaded(&good)))),
            ("slow", None),
        ],
    );
    assert_eq!(
        changes[0],
        LoadChange::Failed {
            name: "bad".to_owned(),
            reason: file_missing().to_string(),
            keeps_previous: false,
            retry_in: None,
        }
    );
    assert!(
        changes.len() == 2 && is_loaded(&changes[1], false),
        "{changes:?}"
    );
    let loading = |clients: &mut Clients<u8>, name: &str| given(clients, name).0.loading;
    let failed = Some(Loading::Failed { retry_at: None });
    assert_eq!(loading(&mut clients, "bad"), failed);
    assert_eq!(loading(&mut clients, "slow"), Some(Loading::Pending));
    assert_eq!(loading(&mut clients, "good"), None);
    assert_eq!(clients.pending().collect::<Vec<_>>(), ["slow"]);
    assert_eq!(clients.all_failed(), None);
    assert_eq!(clients.errors().len(), 1);
}

#[test]
fn failing_reload_keeps_what_was_loaded_with_its_scope_sets() {
    let mut clients = Clients::new();
    let source = Arc::new(1);
    apply(&mut clients, [("acme", Some(Ok(loaded(&source))))]);
    assert!(given(&mut clients, "acme").0.renewed);
    let candidate = Candidate {
        scopes: scopes("user"),
        progress: LoadProgress::Done(Err(file_missing())),
    };
    let candidates = BTreeMap::from([("acme".to_owned(), candidate)]);
    let (changes, _) = clients.apply(candidates, Rerun::All, NOW);
    let keeps = |changes: &LoadChange| matches!(changes, LoadChange::Failed { keeps_previous, .. } if *keeps_previous);
    assert!(keeps(&changes[0]), "{changes:?}");
    let (spec, given_source) = given(&mut clients, "acme");
    assert_eq!(spec.scopes, scopes("data"));
    assert!(!spec.renewed, "the credentials are the same");
    assert!(Arc::ptr_eq(&given_source.unwrap(), &source));
    assert_eq!(clients.errors().len(), 1);
    let changes = apply(&mut clients, [("acme", Some(Ok(loaded(&source))))]);
    assert!(is_loaded(&changes[0], true), "{changes:?}");
    assert!(clients.errors().is_empty());
}

#[test]
fn new_source_is_marked_as_new_once() {
    let mut clients = Clients::new();
    for number in [1, 2] {
        let source = Arc::new(number);
        let changes = apply(&mut clients, [("acme", Some(Ok(loaded(&source))))]);
        assert!(is_loaded(&changes[0], false), "{changes:?}");
        assert!(given(&mut clients, "acme").0.renewed);
        assert!(!given(&mut clients, "acme").0.renewed);
        let changes = apply(&mut clients, [("acme", Some(Ok(loaded(&source))))]);
        assert_eq!(changes, [LoadChange::Unchanged]);
        assert!(!given(&mut clients, "acme").0.renewed);
    }
}

#[test]
fn failing_command_is_run_again_after_30_seconds_to_5_minutes() {
    let mut clients = Clients::new();
    apply(&mut clients, [("acme", None)]);
    let mut now = NOW;
    for seconds in [30, 60, 120, 240, 300, 300] {
        let (changes, _) = clients.finish("acme", Err(command_failed("exit status: 1")), now);
        assert_eq!(
            changes
                == LoadChange::FailedAgain {
                    name: "acme".to_owned()
                },
            now > NOW
        );
        let due = now + Duration::from_secs(seconds);
        assert_eq!(clients.next_retry(), Some(due));
        let loading = Loading::Failed {
            retry_at: Some(due),
        };
        assert_eq!(given(&mut clients, "acme").0.loading, Some(loading));
        assert!(clients.take_due(now).is_empty());
        now = due;
        assert_eq!(clients.take_due(now), ["acme"]);
        assert!(clients.take_due(now).is_empty(), "it is running");
        assert_eq!(clients.next_retry(), None);
    }
    assert_eq!(clients.all_failed(), None);
    let (changes, _) = clients.finish("acme", Ok(loaded(&Arc::new(1))), now);
    assert!(is_loaded(&changes, true), "{changes:?}");
    assert_eq!(clients.next_retry(), None);
    // A reload runs it immediately, and its first failure counts as one.
    apply(&mut clients, [("acme", None)]);
    clients.finish("acme", Err(command_failed("exit status: 1")), now);
    let due = now + Duration::from_secs(30);
    assert_eq!(clients.next_retry(), Some(due));
}

#[test]
fn loading_fails_only_if_each_client_failed_for_a_reason_other_than_its_command() {
    let mut clients = Clients::new();
    apply(
        &mut clients,
        [("a", Some(Err(file_missing()))), ("b", None)],
    );
    assert_eq!(clients.all_failed(), None, "b may yet be loaded");
    clients.finish("b", Err(command_failed("late")), NOW);
    assert_eq!(clients.all_failed(), None, "b is tried again");
    clients.finish("b", Err(file_missing()), NOW);
    let reasons = clients.all_failed().unwrap();
    let names: Vec<&str> = reasons.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn removed_client_is_dropped_with_its_command() {
    let mut clients = Clients::new();
    apply(&mut clients, [("a", None), ("b", None)]);
    apply(&mut clients, [("b", None)]);
    let (changes, _) = clients.finish("a", Ok(loaded(&Arc::new(1))), NOW);
    assert_eq!(changes, LoadChange::Unchanged);
    assert_eq!(clients.for_broker().len(), 1);
}

#[test]
fn command_runs_again_only_for_changes_of_its_client() {
    let mut clients = Clients::new();
    let run = |clients: &mut Clients<u8>, argv: &str, scope: &str, rerun| {
        let progress = LoadProgress::NeedsCommand(inputs(argv));
        let scopes = scopes(scope);
        let candidates = BTreeMap::from([("acme".to_owned(), Candidate { scopes, progress })]);
        let (_, to_run) = clients.apply(candidates, rerun, NOW);
        !to_run.is_empty()
    };
    assert!(
        run(&mut clients, "pass", "data", Rerun::Changed),
        "it is new"
    );
    for rerun in [Rerun::Changed, Rerun::Failed, Rerun::All] {
        assert!(!run(&mut clients, "pass", "data", rerun), "it is running");
    }
    let (_, run_again) = clients.finish("acme", Ok(loaded(&Arc::new(1))), NOW);
    assert!(run_again, "a reload came meanwhile");
    let (_, run_again) = clients.finish("acme", Ok(loaded(&Arc::new(1))), NOW);
    assert!(!run_again);
    assert!(!run(&mut clients, "pass", "data", Rerun::Changed));
    assert!(!run(&mut clients, "pass", "user", Rerun::Failed));
    assert_eq!(given(&mut clients, "acme").0.scopes, scopes("user"));
    assert!(
        run(&mut clients, "gopass", "user", Rerun::Changed),
        "another command"
    );
    assert!(
        run(&mut clients, "pass", "user", Rerun::Changed),
        "yet another"
    );
    clients.finish("acme", Err(command_failed("locked")), NOW);
    assert!(!run(&mut clients, "pass", "user", Rerun::Changed));
    assert!(run(&mut clients, "pass", "user", Rerun::Failed));
    clients.finish("acme", Ok(loaded(&Arc::new(1))), NOW);
    assert!(run(&mut clients, "pass", "user", Rerun::All), "a reload");
}
