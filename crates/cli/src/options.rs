//! The options. Arguments are read by this table; help, completions and the man page are made from
//! it, so that none of them can be out of date.

/// What the helper does.
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

/// Names an option.
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

/// What follows an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Nothing,
    /// After `=` alone.
    Maybe(&'static str),
    Text(&'static str),
    File(&'static str),
    OneOf(&'static str, &'static [&'static str]),
}

/// An option, and what is said of it.
pub struct OptionUsage {
    pub key: Key,
    pub short: Option<char>,
    pub long: &'static str,
    pub value: Value,
    pub verbs: &'static [Verb],
    /// A few words, for shells and small help.
    pub about: &'static str,
    /// Where it means more, or something else, to a verb.
    pub notes: &'static [(Verb, &'static str)],
}

impl OptionUsage {
    /// What it does for `verb`.
    #[must_use]
    pub fn about(&self, verb: Verb) -> &'static str {
        let note = self.notes.iter().find(|(noted, _)| *noted == verb);
        note.map_or(self.about, |(_, words)| words)
    }

    /// With dashes, as it is named in messages.
    #[must_use]
    pub fn name(&self) -> String {
        format!("--{}", self.long)
    }
}

/// The forms of a token.
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

/// When there are colours.
pub const COLORS: &[&str] = &["auto", "always", "never"];

/// The shells that completions are for.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];

/// The verbs that get tokens.
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
        about: "keep the token in FILE: replaced in one piece, on disk before it is seen, and \
                removed when its token dies with no successor, or this program is stopped",
        notes: &[],
    },
    OptionUsage {
        key: Key::Mode,
        short: None,
        long: "mode",
        value: Value::Text("MODE"),
        verbs: &[Verb::Watch],
        about: "mode of that file, from 0600 to 0666 [0600]",
        notes: &[],
    },
    OptionUsage {
        key: Key::Env,
        short: None,
        long: "env",
        value: Value::Text("NAME"),
        verbs: &[Verb::Exec],
        about: "the variable that holds the token [DOMO_ACCESS_TOKEN]",
        notes: &[],
    },
    OptionUsage {
        key: Key::Fd,
        short: None,
        long: "fd",
        value: Value::Text("N"),
        verbs: &[Verb::Exec],
        about: "instead, the descriptor that the token is read from, in the form of --format: 0 \
                is standard input, else from 3 on. It is not in the environment then, which \
                every child inherits. Not on Windows",
        notes: &[],
    },
    OptionUsage {
        key: Key::Client,
        short: Some('c'),
        long: "client",
        value: Value::Text("NAME"),
        verbs: TOKENS,
        about: "API client of the broker's config [$DOMO_TOKEN_CLIENT, or its default]",
        notes: &[],
    },
    OptionUsage {
        key: Key::Format,
        short: Some('o'),
        long: "format",
        value: Value::OneOf("FORMAT", FORMATS),
        verbs: TOKENS,
        about: "form of the token; they are below [token]",
        notes: &[
            (
                Verb::Watch,
                "form of the token; get has a list [json, with --to token]",
            ),
            (Verb::Exec, "its form at --fd; get has a list [token]"),
        ],
    },
    OptionUsage {
        key: Key::NoNewline,
        short: Some('n'),
        long: "no-newline",
        value: Value::Nothing,
        verbs: TOKENS,
        about: "print no newline after the token",
        notes: &[
            (Verb::Watch, "end FILE without a newline; goes with --to"),
            (Verb::Exec, "end the text at --fd without a newline"),
        ],
    },
    OptionUsage {
        key: Key::MinTtl,
        short: None,
        long: "min-ttl",
        value: Value::Text("TIME"),
        verbs: TOKENS,
        about: "fail unless the token lives at least this much longer",
        notes: &[(
            Verb::Watch,
            "give out no token with less life left, and renew in time for that",
        )],
    },
    OptionUsage {
        key: Key::Timeout,
        short: None,
        long: "timeout",
        value: Value::Text("TIME"),
        verbs: TOKENS,
        about: "give up after this long, at most 10m [10s]",
        notes: &[(
            Verb::Watch,
            "give up if the first token takes longer, at most 10m [10s]",
        )],
    },
    OptionUsage {
        key: Key::Wait,
        short: None,
        long: "wait",
        value: Value::Nothing,
        verbs: TOKENS,
        about: "until the timeout, wait for a broker that isn't there and for Domo",
        notes: &[],
    },
    OptionUsage {
        key: Key::Renew,
        short: None,
        long: "renew",
        value: Value::Maybe("GENERATION"),
        verbs: &[Verb::Get, Verb::Exec],
        about: "another token: Domo refused the current one, or the one of that generation",
        notes: &[],
    },
    OptionUsage {
        key: Key::Explain,
        short: None,
        long: "explain",
        value: Value::Nothing,
        verbs: &[Verb::Get],
        about: "print instead what the broker decides for this very process, and by which rule",
        notes: &[],
    },
    OptionUsage {
        key: Key::Quiet,
        short: Some('q'),
        long: "quiet",
        value: Value::Nothing,
        verbs: &[Verb::Status],
        about: "print nothing: the exit code tells",
        notes: &[],
    },
    OptionUsage {
        key: Key::Json,
        short: None,
        long: "json",
        value: Value::Nothing,
        verbs: &[Verb::Get, Verb::Status],
        about: "for machines; times are seconds since 1970, and fields are only ever added",
        notes: &[(
            Verb::Get,
            "with --explain, print one object: broker (its socket), peer (this process as the \
             broker sees it), client, scope, allowed, rule, and kind if it is denied. Fields are \
             only ever added",
        )],
    },
    OptionUsage {
        key: Key::Watch,
        short: None,
        long: "watch",
        value: Value::Nothing,
        verbs: &[Verb::Status],
        about: "go on: a terminal shows it in place, each second; a pipe or file gets it again \
                when something has changed, with --json as a line",
        notes: &[],
    },
    OptionUsage {
        key: Key::Metrics,
        short: None,
        long: "metrics",
        value: Value::Nothing,
        verbs: &[Verb::Status],
        about: "print instead the broker's metrics, as Prometheus text",
        notes: &[],
    },
    OptionUsage {
        key: Key::Socket,
        short: None,
        long: "socket",
        value: Value::File("PATH"),
        verbs: ALL,
        about: "the broker's socket, a path or unix:///PATH [$DOMO_TOKEN_SOCKET, else the user's own, \
                $XDG_RUNTIME_DIR/domo-token/broker.sock, if that or \
                ~/.config/domo-token/config.toml exists, else /run/domo-token/broker.sock; \
                on Windows \\\\.\\pipe\\domo-token]",
        notes: &[],
    },
    OptionUsage {
        key: Key::Color,
        short: None,
        long: "color",
        value: Value::OneOf("WHEN", COLORS),
        verbs: ALL,
        about: "colours in the table of status: auto, always or never [auto: on a terminal, unless \
                $NO_COLOR is set or $TERM is dumb]",
        notes: &[],
    },
    OptionUsage {
        key: Key::Help,
        short: Some('h'),
        long: "help",
        value: Value::Nothing,
        verbs: ALL,
        about: "this help",
        notes: &[(
            Verb::Get,
            "this help; exec, watch and status have their own",
        )],
    },
    OptionUsage {
        key: Key::Version,
        short: Some('V'),
        long: "version",
        value: Value::Nothing,
        verbs: ALL,
        about: "the version",
        notes: &[],
    },
];

/// The options of a verb.
pub fn options(verb: Verb) -> impl Iterator<Item = &'static OptionUsage> {
    OPTIONS
        .iter()
        .filter(move |option| option.verbs.contains(&verb))
}

/// An option by its key.
#[must_use]
pub fn option(key: Key) -> Option<&'static OptionUsage> {
    OPTIONS.iter().find(|option| option.key == key)
}

/// An option's name, with dashes.
pub fn name(key: Key) -> String {
    option(key).map(OptionUsage::name).unwrap_or_default()
}
