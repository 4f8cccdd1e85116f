//! How messages name the settings of a client: by the keys of a config file, by variables where the
//! environment alone configures it, or by the options of `init`, which has no config yet.

use domo_token_core::masking::HINT;

/// By which names messages name the settings of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    #[default]
    Keys,
    Variables,
    Options,
}

/// A setting of a client that messages name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: &'static str,
    pub variable: &'static str,
    pub option: &'static str,
}

impl Setting {
    pub const CA_FILE: Self = Self::new("ca_file", "DOMO_CA_FILE", "--ca-file");
    pub const PROXY: Self = Self::new("proxy", "DOMO_PROXY", "--proxy");
    pub const PROXY_LOGIN: Self = Self::new(
        "proxy_auth_file",
        "DOMO_PROXY_AUTH_FILE",
        "--proxy-auth-file",
    );
    pub const TOKENS: Self = Self::new("tokens", "DOMO_SCOPE", "--tokens");
    pub const TOKEN_URL: Self = Self::new("token_url", "DOMO_TOKEN_URL", "--token-url");

    pub const ALL: [Self; 5] = [
        Self::CA_FILE,
        Self::PROXY,
        Self::PROXY_LOGIN,
        Self::TOKENS,
        Self::TOKEN_URL,
    ];

    const fn new(key: &'static str, variable: &'static str, option: &'static str) -> Self {
        Self {
            key,
            variable,
            option,
        }
    }
}

impl Naming {
    /// Returns the one of three texts that fits.
    pub(crate) fn choose<T>(self, keys: T, variables: T, options: T) -> T {
        match self {
            Self::Keys => keys,
            Self::Variables => variables,
            Self::Options => options,
        }
    }

    pub(crate) fn name(self, setting: Setting) -> &'static str {
        self.choose(setting.key, setting.variable, setting.option)
    }

    /// Returns the setting with a value, as the user types it.
    pub(crate) fn assignment(self, setting: Setting, value: &str) -> String {
        let name = self.name(setting);
        match self {
            Self::Keys => format!("{name} = \"{value}\""),
            Self::Variables => format!("{name}={value}"),
            Self::Options => format!("{name} {value}"),
        }
    }

    /// Returns the verb for a setting that is not there yet.
    pub(crate) fn set(self) -> &'static str {
        self.choose("set", "set", "add")
    }

    /// Returns what to do about a file that cannot be used.
    pub(crate) fn change_path(self) -> &'static str {
        self.choose(
            "change the path in the config",
            "change the path in the variable",
            "use another path",
        )
    }

    /// Returns the advice for a secret in the place of a name.
    pub(crate) fn secret_hint(self) -> &'static str {
        self.choose(
            HINT,
            "is this the secret itself? it belongs in DOMO_CLIENT_SECRET",
            "is this the secret itself? init prompts for it",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignment_of_a_setting_reads_as_users_type_it() {
        for (naming, expected) in [
            (Naming::Keys, "proxy = \"http://p:1\""),
            (Naming::Variables, "DOMO_PROXY=http://p:1"),
            (Naming::Options, "--proxy http://p:1"),
        ] {
            assert_eq!(naming.assignment(Setting::PROXY, "http://p:1"), expected);
        }
    }
}
