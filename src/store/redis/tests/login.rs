//! Logins, and the database.

use super::*;

const PASSWORD: &str = "s3cret/p4ssword";

fn with_login(server: &Scripted, username: Option<&str>, database: u32) -> RedisStore {
    store(Place::Server(server.address.clone()), |settings| {
        settings.database = database;
        settings.login = Some(Login {
            username: username.map(str::to_owned),
            password: PASSWORD.into(),
        });
    })
}

#[tokio::test]
async fn login_and_database_precede_commands() {
    let server = Scripted::start(empty).await;
    let mut session = with_login(&server, Some("domo-token"), 3).session(NAME);
    session.extend(LEASE_TIME).await.unwrap();
    session.extend(LEASE_TIME).await.unwrap();
    let extend = format!("PEXPIRE {LEASE} 5000");
    let expected = [
        format!("AUTH domo-token {PASSWORD}"),
        "SELECT 3".to_owned(),
        extend.clone(),
        extend.clone(),
    ];
    assert_eq!(server.take_commands(), expected);
    let mut session = with_login(&server, None, 0).session(NAME);
    session.extend(LEASE_TIME).await.unwrap();
    assert_eq!(server.take_commands(), [format!("AUTH {PASSWORD}"), extend]);
}

#[tokio::test]
async fn rejected_login_is_explained_without_the_password() {
    for (answer, cause, message) in [
        (
            "-WRONGPASS invalid username-password pair or user is disabled.",
            StoreFailure::Login,
            "rejects the user name or the password (WRONGPASS); check username and password_file",
        ),
        (
            "-ERR AUTH s3cret/p4ssword called without any password configured",
            StoreFailure::Login,
            "rejects the login (ERR AUTH [redacted] called without any password configured); check",
        ),
        (
            "-ERR max number of clients reached",
            StoreFailure::Connect,
            "raise its maxclients",
        ),
    ] {
        let server = Scripted::start(move |_| send(format!("{answer}\r\n"))).await;
        let mut session = with_login(&server, Some("domo-token"), 0).session(NAME);
        let error = session.look().await.unwrap_err();
        assert_eq!(error.cause, cause, "{error}");
        assert!(
            error.message.contains(message) && !error.message.contains(PASSWORD),
            "{error}"
        );
        assert_eq!(server.take_commands().len(), 1);
    }
}

#[tokio::test]
async fn rejected_login_names_the_form_that_is_configured() {
    for (answer, has_login) in [
        ("-WRONGPASS no", true),
        ("-ERR AUTH no", true),
        ("-NOAUTH no", false),
    ] {
        let server = Scripted::start(move |_| send(format!("{answer}\r\n"))).await;
        let store = store(Place::Server(server.address.clone()), |settings| {
            settings.login_keys = "DOMO_FLEET_PASSWORD_FILE";
            settings.login = has_login.then(|| Login {
                username: None,
                password: PASSWORD.into(),
            });
        });
        let error = store.session(NAME).look().await.unwrap_err();
        assert!(
            error.message.ends_with(" DOMO_FLEET_PASSWORD_FILE"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn database_that_is_denied_names_the_permission() {
    let server = Scripted::start(|command| match command {
        "SELECT 3" => send("-NOPERM this user has no permissions to run the 'select' command\r\n"),
        command => empty(command),
    });
    let server = server.await;
    let mut session = with_login(&server, Some("domo-token"), 3).session(NAME);
    let error = session.look().await.unwrap_err();
    assert_eq!(error.cause, StoreFailure::Login);
    assert!(error.message.ends_with("+pexpire +del +select"), "{error}");
}
