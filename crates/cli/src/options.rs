//! The options. Arguments are parsed by this table. Help, completions and the man page are generated
//! from it.

/// A command of the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Exec,
    Watch,
    Status,
    Completions,
    Help,
    Version,
}

/// The key of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Client,
    Format,
    NoNewline,
    MinTtl,
    Timeout,
    Wait,
    Renew,
    Explain,
    Env,
    Fd,
    To,
    Mode,
    Quiet,
    Json,
    Watch,
    Metrics,
    Socket,
    Color,
    Help,
    Version,
}

/// The value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Nothing,
    /// Optional, and only after `=`.
    Maybe(&'static str),
    Text(&'static str),
    File(&'static str),
    OneOf(&'static str, &'static [&'static str]),
}

/// An option and its documentation.
pub struct OptionUsage {
    pub key: Key,
    pub short: Option<char>,
    pub long: &'static str,
    pub value: Value,
    pub verbs: &'static [Verb],
    /// The help text. Completions show its first part: up to a bracket, colon, semicolon or full stop.
    pub about: &'static str,
    /// Other help texts for single commands.
    pub notes: &'static [(Verb, &'static str)],
}

impl OptionUsage {
    /// Returns the help text for `verb`.
    #[must_use]
    pub fn about(&self, verb: Verb) -> &'static str {
        let note = self.notes.iter().find(|(noted, _)| *noted == verb);
        note.map_or(self.about, |(_, text)| text)
    }

    /// Returns whether every command has it.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.verbs.len() == ALL.len()
    }

    /// Returns the long name with its dashes.
    #[must_use]
    pub fn name(&self) -> String {
        format!("--{}", self.long)
    }
}

/// The values of `--format`.
pub const FORMATS: &[&str] = &[
    "token",
    "header",
    "curl",
    "json",
    "env",
    "export",
    "powershell",
    "fish",
];

/// The values of `--color`.
pub const COLORS: &[&str] = &["auto", "always", "never"];

/// The shells with completions.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];

/// The commands that request tokens.
pub const TOKENS: &[Verb] = &[Verb::Get, Verb::Exec, Verb::Watch];
const ALL: &[Verb] = &[
    Verb::Get,
    Verb::Exec,
    Verb::Watch,
    Verb::Status,
    Verb::Completions,
    Verb::Help,
    Verb::Version,
];

/// All options, in the order of the help.
pub const OPTIONS: &[OptionUsage] = &[
    OptionUsage {
        key: Key::To,
        short: None,
        long: "to",
        value: Value::File("FILE"),
        verbs: &[Verb::Watch],
        about: "Write the token to FILE instead of standard output. A new token replaces FILE \
                atomically. FILE is removed when its token expires without a successor, and when \
                the command ends",
        notes: &[],
    },
    OptionUsage {
        key: Key::Mode,
        short: None,
        long: "mode",
        value: Value::Text("MODE"),
        verbs: &[Verb::Watch],
        about: "Set the octal mode of FILE, from 0600 to 0666 [default: 0600]",
        notes: &[],
    },
    OptionUsage {
        key: Key::Env,
        short: None,
        long: "env",
        value: Value::Text("NAME"),
        verbs: &[Verb::Exec],
        about: "Pass the token in the environment variable NAME [default: DOMO_ACCESS_TOKEN]",
        notes: &[],
    },
    OptionUsage {
        key: Key::Fd,
        short: None,
        long: "fd",
        value: Value::Text("N"),
        verbs: &[Verb::Exec],
        about: "Pass the token on file descriptor N, in the format of --format: 0 for standard \
                input, or 3 to 1023. The environment, which every child process inherits, then \
                has no token. Not on Windows",
        notes: &[],
    },
    OptionUsage {
        key: Key::Client,
        short: Some('c'),
        long: "client",
        value: Value::Text("NAME"),
        verbs: TOKENS,
        about: "Use the API client NAME of the daemon's config [env: DOMO_TOKEN_CLIENT] \
                [default: the config's default_client, or its only client]",
        notes: &[],
    },
    OptionUsage {
        key: Key::Format,
        short: Some('o'),
        long: "format",
        value: Value::OneOf("FORMAT", FORMATS),
        verbs: TOKENS,
        about: "Print the token in this format, see FORMATS [default: token]",
        notes: &[
            (
                Verb::Watch,
                "Print or write the token in this format, see `domo-token --help` [default: \
                 json, with --to token]",
            ),
            (
                Verb::Exec,
                "Pass the token on --fd in this format, see `domo-token --help` [default: token]",
            ),
        ],
    },
    OptionUsage {
        key: Key::NoNewline,
        short: Some('n'),
        long: "no-newline",
        value: Value::Nothing,
        verbs: TOKENS,
        about: "Print no newline after the token",
        notes: &[
            (
                Verb::Watch,
                "Write no newline at the end of FILE. Requires --to",
            ),
            (
                Verb::Exec,
                "Write no newline after the token. Requires --fd",
            ),
        ],
    },
    OptionUsage {
        key: Key::MinTtl,
        short: None,
        long: "min-ttl",
        value: Value::Text("DURATION"),
        verbs: TOKENS,
        about: "Fail unless the token is valid for at least DURATION [default: 1s, or a tenth of \
                the token's lifetime if that is shorter]",
        notes: &[(
            Verb::Watch,
            "Print or keep no token that is valid for less than DURATION, and renew in time \
                 for that [default: 0s]",
        )],
    },
    OptionUsage {
        key: Key::Timeout,
        short: None,
        long: "timeout",
        value: Value::Text("DURATION"),
        verbs: TOKENS,
        about: "Fail after DURATION without a token, at most 10m [default: 10s]",
        notes: &[(
            Verb::Watch,
            "Fail after DURATION without a first token, at most 10m [default: 10s]",
        )],
    },
    OptionUsage {
        key: Key::Wait,
        short: None,
        long: "wait",
        value: Value::Nothing,
        verbs: TOKENS,
        about: "Retry until the timeout if the broker is not running (69) or has no token yet \
                (75)",
        notes: &[],
    },
    OptionUsage {
        key: Key::Renew,
        short: None,
        long: "renew",
        value: Value::Maybe("GENERATION"),
        verbs: &[Verb::Get, Verb::Exec],
        about: "Get a newer token, because Domo rejected the last one, or the one with this \
                generation",
        notes: &[],
    },
    OptionUsage {
        key: Key::Explain,
        short: None,
        long: "explain",
        value: Value::Nothing,
        verbs: &[Verb::Get],
        about: "Print what the broker decides for this process, and by which rule, instead of a \
                token",
        notes: &[],
    },
    OptionUsage {
        key: Key::Quiet,
        short: Some('q'),
        long: "quiet",
        value: Value::Nothing,
        verbs: &[Verb::Status],
        about: "Print nothing; only the exit code reports the state",
        notes: &[],
    },
    OptionUsage {
        key: Key::Json,
        short: None,
        long: "json",
        value: Value::Nothing,
        verbs: &[Verb::Get, Verb::Status],
        about: "Print one JSON object. Times are in seconds since 1970. New versions only add \
                fields",
        notes: &[(
            Verb::Get,
            "With --explain, print one JSON object: broker (its socket), peer (how the \
                 broker identifies this process), client, scope, allowed, decision (allowed or \
                 denied), rule, seen_as (the same as peer), and kind if it is denied. New versions only add fields",
        )],
    },
    OptionUsage {
        key: Key::Watch,
        short: None,
        long: "watch",
        value: Value::Nothing,
        verbs: &[Verb::Status],
        about: "Print again whenever something changes; on a terminal, update in place every second. \
                With --json, print one line each",
        notes: &[],
    },
    OptionUsage {
        key: Key::Metrics,
        short: None,
        long: "metrics",
        value: Value::Nothing,
        verbs: &[Verb::Status],
        about: "Print the broker's metrics in the Prometheus text format instead",
        notes: &[],
    },
    OptionUsage {
        key: Key::Socket,
        short: None,
        long: "socket",
        value: Value::File("PATH"),
        verbs: ALL,
        about: "Connect to this socket, a path or unix:///PATH [env: DOMO_TOKEN_SOCKET] \
                [default: see FILES]",
        notes: &[],
    },
    OptionUsage {
        key: Key::Color,
        short: None,
        long: "color",
        value: Value::OneOf("WHEN", COLORS),
        verbs: ALL,
        about: "Colour the table of status: auto, always or never [default: auto, on a terminal \
                unless NO_COLOR is set or TERM is dumb]",
        notes: &[],
    },
    OptionUsage {
        key: Key::Help,
        short: Some('h'),
        long: "help",
        value: Value::Nothing,
        verbs: ALL,
        about: "Print help",
        notes: &[(
            Verb::Get,
            "Print help; `domo-token COMMAND --help` for one command",
        )],
    },
    OptionUsage {
        key: Key::Version,
        short: Some('V'),
        long: "version",
        value: Value::Nothing,
        verbs: ALL,
        about: "Print the version",
        notes: &[],
    },
];

/// Returns the options of a command.
pub fn options(verb: Verb) -> impl Iterator<Item = &'static OptionUsage> {
    OPTIONS
        .iter()
        .filter(move |option| option.verbs.contains(&verb))
}

/// Returns the option with this key.
#[must_use]
pub fn option(key: Key) -> Option<&'static OptionUsage> {
    OPTIONS.iter().find(|option| option.key == key)
}

/// Returns an option's long name with its dashes.
pub fn name(key: Key) -> String {
    option(key).map(OptionUsage::name).unwrap_or_default()
}
