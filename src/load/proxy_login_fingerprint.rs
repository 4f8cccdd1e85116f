//! Identifies proxy logins without keeping them.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use secrecy::ExposeSecret;
use url::Url;

use crate::credentials::ProxyLogin;
use domo_token_core::scheduler::ProxyLoginId;

/// The key of the hash: another one in each process, so that a number reveals nothing about a password.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Returns the id of the login at that proxy; using it without a login has an id, too.
pub(super) fn of(proxy: &Url, login: Option<&ProxyLogin>) -> ProxyLoginId {
    match login {
        Some(login) => {
            let login = (login.user.as_str(), login.password.expose_secret());
            ProxyLoginId::new(KEY.hash_one((proxy.as_str(), login)))
        }
        None => ProxyLoginId::without_login(KEY.hash_one(proxy.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str) -> ProxyLogin {
        ProxyLogin {
            user: user.to_owned(),
            password: password.into(),
        }
    }

    #[test]
    fn login_differs_if_proxy_user_or_password_differs() {
        let proxy = Url::parse("http://proxy.example:3128").unwrap();
        let other = Url::parse("http://other.example:3128").unwrap();
        let id = of(&proxy, Some(&login("alice", "old")));
        assert_eq!(id, of(&proxy, Some(&login("alice", "old"))));
        for different in [
            of(&proxy, Some(&login("alice", "new"))),
            of(&proxy, Some(&login("bob", "old"))),
            of(&proxy, Some(&login("aliceo", "ld"))),
            of(&proxy, None),
            of(&other, Some(&login("alice", "old"))),
        ] {
            assert_ne!(id, different);
        }
    }
}
