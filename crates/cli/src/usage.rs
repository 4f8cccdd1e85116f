//! What is said of the verbs: help and the man page are made from it.

use crate::options::Verb;

/// A verb, and what is said of it.
pub struct VerbUsage {
    pub verb: Verb,
    pub name: &'static str,
    /// What follows the program's name, one way a line.
    pub usage: &'static [&'static str],
    /// One line.
    pub about: &'static str,
    /// Paragraphs.
    pub more: &'static [&'static str],
    pub examples: &'static [&'static str],
    pub exit: &'static [(&'static str, &'static str)],
}

/// What each form looks like.
pub const FORMAT_WORDS: &[(&str, &str)] = &[
    ("token", "the bare token"),
    ("header", "Authorization: Bearer TOKEN, for curl -H @FILE"),
    (
        "curl",
        "header = \"Authorization: Bearer TOKEN\", for curl -K -",
    ),
    (
        "json",
        "one object: access_token, token_type, expires_at (seconds since 1970), expires_in \
         (seconds), scope (as granted), client, generation, broker (its socket). Fields are only \
         ever added",
    ),
    ("env", "DOMO_ACCESS_TOKEN=TOKEN, for files of variables"),
    (
        "export",
        "a line for eval in sh, bash and zsh (export DOMO_ACCESS_TOKEN='TOKEN')",
    ),
    (
        "powershell",
        "a line for Invoke-Expression ($env:DOMO_ACCESS_TOKEN = 'TOKEN')",
    ),
    (
        "fish",
        "a line for source in fish (set -gx DOMO_ACCESS_TOKEN 'TOKEN')",
    ),
];

/// What is said of every TIME.
pub const TIMES: &str = "TIME is 90s, 5m, 1h, 1h30m, or plain seconds.";

/// What is said of the first examples.
pub const ON_EXAMPLES: &str = "The first two keep the token out of argv, which every user of the machine can \
    read. Without a token the first runs nothing; the second sends a request that Domo refuses, \
    and curl ends with 22.";

/// All verbs, in the order of the help.
pub static VERBS: [&VerbUsage; 7] = [&GET, &EXEC, &WATCH, &STATUS, &COMPLETIONS, &HELP, &VERSION];

impl Verb {
    /// What is said of it.
    #[must_use]
    pub fn usage(self) -> &'static VerbUsage {
        match self {
            Self::Get => &GET,
            Self::Exec => &EXEC,
            Self::Watch => &WATCH,
            Self::Status => &STATUS,
            Self::Completions => &COMPLETIONS,
            Self::Help => &HELP,
            Self::Version => &VERSION,
        }
    }
}

static GET: VerbUsage = VerbUsage {
    verb: Verb::Get,
    name: "get",
    usage: &["[get] [OPTIONS] SCOPE..."],
    about: "Prints a Domo access token that domo-tokend keeps fresh.",
    more: &[
        "All SCOPE words together are one scope set: `domo-token data user` is one token for \
             both. Nothing is printed on standard output but a token; without one there is one \
             line on standard error, and the exit code tells.",
        "A first word that reads as a command, such as `list`, is an error, and so is a later one \
             with `/` or `=`. After `get` every word is a scope: `domo-token get list`.",
    ],
    examples: &[
        "domo-token exec --fd 3 --format header data -- \\\n    \
         curl -fsS -H @/dev/fd/3 https://api.domo.com/v1/datasets",
        "domo-token --format curl data | curl -fsS -K - https://api.domo.com/v1/datasets",
        "token=$(domo-token data) || exit",
    ],
    exit: &[
        ("0", "a token"),
        ("2", "usage"),
        ("69", "no broker"),
        ("70", "a bug"),
        ("74", "standard output can't be written"),
        (
            "75",
            "not now: Domo can't be reached, the broker is busy, or the time is up",
        ),
        ("76", "no common protocol version"),
        ("77", "not permitted"),
        (
            "78",
            "unknown client or scope set, or Domo refuses the credentials or the scopes",
        ),
    ],
};

static EXEC: VerbUsage = VerbUsage {
    verb: Verb::Exec,
    name: "exec",
    usage: &["exec [--env NAME | --fd N] [OPTIONS] SCOPE... -- COMMAND..."],
    about: "Runs a command with a token, without any process in between.",
    more: &[
        "Without a token the command isn't run. The token is the one of the start: a command \
             that outlives it asks again itself.",
    ],
    examples: &[
        "domo-token exec data -- python3 report.py",
        "domo-token exec --fd 3 --format header data -- \\\n    \
             curl -fsS -H @/dev/fd/3 https://api.domo.com/v1/datasets",
    ],
    exit: &[
        (
            "",
            "the command's own; without a token that of domo-token get",
        ),
        ("126", "the command can't be run"),
        ("127", "there is no such command"),
    ],
};

static WATCH: VerbUsage = VerbUsage {
    verb: Verb::Watch,
    name: "watch",
    usage: &["watch [--to FILE] [--mode MODE] [OPTIONS] SCOPE..."],
    about: "Prints a token, and each new one as it comes, or keeps it in a file.",
    more: &[
        "The first token is had as by domo-token get, or it fails like that. From then on it \
             outlives restarts of the broker, says on standard error when there is no token, and \
             goes on when there is one again.",
        "FILE is absent at first, or a regular file, which is replaced; it is written \
             again within 2 s if it is deleted. When a new token can't be \
             written, the last one stays until it expires, and writing is retried. FILE is removed \
             when its token expires and when the command ends, also by SIGTERM, SIGINT, SIGQUIT, \
             SIGHUP, SIGUSR1, SIGUSR2, SIGALRM or SIGXCPU.",
    ],
    examples: &[
        "domo-token watch --to /run/report/token --format header data &",
        "domo-token watch data | while read -r line; do …; done",
    ],
    exit: &[
        ("", "before the first token that of domo-token get"),
        (
            "74",
            "standard output or FILE can't be written, or, without a message, standard output has \
             no reader any more",
        ),
        ("77", "no longer permitted"),
        (
            "78",
            "the scope set was removed; while Domo refuses it watch goes on, without a token",
        ),
    ],
};

static STATUS: VerbUsage = VerbUsage {
    verb: Verb::Status,
    name: "status",
    usage: &["status [-q | --metrics] [--json] [--watch] [SCOPE...]"],
    about: "Shows the state of the broker and of each scope set; never a token.",
    more: &[
        "Each SCOPE is a scope set of its own here: quote one of several scopes, as in \
             \"data user\".",
    ],
    examples: &["domo-token status -q data || echo 'no token for data' >&2"],
    exit: &[
        ("", "if the broker can't be asked, that of domo-token get"),
        ("0", "every set that you may see has a living token"),
        (
            "74",
            "standard output can't be written, or, without a message, --watch has no reader any more",
        ),
        ("75", "one hasn't"),
        (
            "78",
            "one has none and Domo refuses it, or there is no such set",
        ),
    ],
};

static COMPLETIONS: VerbUsage = VerbUsage {
    verb: Verb::Completions,
    name: "completions",
    usage: &["completions bash|zsh|fish|powershell"],
    about: "Prints what a shell needs to complete a command line of domo-token.",
    more: &[],
    examples: &[
        "source <(domo-token completions bash)      # in ~/.bashrc, or ~/.zshrc with zsh",
        "domo-token completions fish | source       # in config.fish",
    ],
    exit: &[],
};

static HELP: VerbUsage = VerbUsage {
    verb: Verb::Help,
    name: "help",
    usage: &["help [COMMAND]"],
    about: "Prints the help, or that of a command.",
    more: &[],
    examples: &[],
    exit: &[],
};

static VERSION: VerbUsage = VerbUsage {
    verb: Verb::Version,
    name: "version",
    usage: &["version"],
    about: "Prints the version.",
    more: &[],
    examples: &[],
    exit: &[],
};
