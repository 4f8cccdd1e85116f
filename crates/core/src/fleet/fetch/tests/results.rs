//! What follows a response of Domo.

use super::*;

#[test]
fn token_that_lives_less_than_twenty_seconds_is_not_shared() {
    let short = SECOND * 19;
    let (mut run, step) = Run::start(occasion(Some(held("old", short, SECOND * 5))));
    assert!(matches!(step, Step::Request { is_extended: false }));
    let end = end(run.responded(Ok(obtained(short)), START));
    assert!(end.publication.is_none());
    // A host without a token remembers that.
    let (_, step) = Run::start_with(occasion(None), end.memory, true);
    assert!(matches!(step, Step::Request { is_extended: false }));
}

#[test]
fn success_is_published_unless_a_stored_token_outlives_it() {
    let (mut run, _) = Run::start(occasion(None));
    run.looked(None, None, START);
    let step = run.fetch.claimed(Ok(true), START, &mut run.rng);
    assert!(matches!(step, Step::Request { is_extended: true }));
    let sent = START + SECOND * 30;
    let end = end(run.responded(Ok(obtained(HOUR)), sent));
    let Fetch::Obtained(fetched) = &end.fetch else {
        panic!("{:?}", end.fetch);
    };
    assert_eq!(fetched.expires, Some(sent + HOUR));
    let Some(Publication::Token(token)) = end.publication else {
        panic!("nothing published");
    };
    let time = time_at(sent + SECOND);
    let (published, kept) = token.record(None, &time).unwrap();
    assert_eq!(published.expires_engine_ms, ENGINE + 3_630_000);
    assert_eq!(published.expires_wall_ms, ENGINE + 3_630_000);
    assert_eq!(kept, SECOND * 3_599);
    let older = record("older", SECOND * 3_600);
    assert!(token.record(Some(&older), &time).is_some());
    let newer = record("newer", SECOND * 3_631);
    assert!(token.record(Some(&newer), &time).is_none());
    // The store's clock was set back by a day, so that this one seems to be valid for longer than it ever was.
    let before = record("before", SECOND * 86_400 + HOUR);
    assert!(token.record(Some(&before), &time).is_some());
}

#[test]
fn failure_continues_the_count_of_the_note_and_todays_backoff() {
    let failure = NotedFailure::Transient(Cause::Server);
    let (mut run, _) = Run::start(occasion(None));
    run.looked(None, Some(note(failure, 0, OTHER)), START);
    run.fetch.claimed(Ok(true), START, &mut run.rng).clear();
    let error = FetchError::transient(Cause::Server, "status 503");
    let end = end(run.responded(Err(error), START));
    let Fetch::Failed { agreed, .. } = end.fetch else {
        panic!("not failed");
    };
    let agreed = agreed.unwrap();
    // The fifth failure, with the longest draw.
    assert_eq!(agreed.failures, 5);
    assert_eq!(agreed.at, START + SECOND + SECOND * 16);
    assert!(matches!(end.publication, Some(Publication::Note(_))));
}

#[test]
fn unconfirmed_rejection_stays_with_the_host() {
    for (confirms, is_shared) in [(false, false), (true, true)] {
        let rejected = Occasion {
            confirms_rejection: confirms,
            ..occasion(None)
        };
        let (mut run, _) = Run::start(rejected);
        run.looked(None, None, START);
        run.fetch.claimed(Ok(true), START, &mut run.rng).clear();
        let error = NotedFailure::Rejected { scope_only: false }.error("no".to_owned());
        let end = end(run.responded(Err(error), START));
        assert_eq!(end.publication.is_some(), is_shared);
        let Fetch::Failed { agreed, .. } = end.fetch else {
            panic!("not failed");
        };
        assert_eq!(agreed.is_some(), is_shared);
    }
}
