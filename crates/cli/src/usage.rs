//! The documentation of the commands. Help and the man page are generated from it.

use crate::options::Verb;

/// A command and its documentation.
pub struct VerbUsage {
    pub verb: Verb,
    pub name: &'static str,
    /// The arguments after the program's name, one form per line.
    pub usage: &'static [&'static str],
    /// One line, without a full stop.
    pub about: &'static str,
    /// Paragraphs.
    pub more: &'static [&'static str],
    pub examples: &'static [Example],
    /// Exit codes with their meanings. A text without a code introduces them.
    pub exit: &'static [(&'static str, &'static str)],
}

/// A command line with a comment.
pub struct Example {
    pub comment: &'static str,
    pub line: &'static str,
}

/// The formats of a token.
pub const FORMATS: &[(&str, &str)] = &[
    ("token", "The token alone"),
    ("header", "Authorization: Bearer TOKEN, for curl -H @FILE"),
    (
        "curl",
        "header = \"Authorization: Bearer TOKEN\", for curl -K -",
    ),
    (
        "json",
        "One object: access_token, token_type, expires_at (seconds since 1970), expires_in \
         (seconds), scope (as granted), client, generation, broker (its socket). New versions \
         only add fields",
    ),
    ("env", "DOMO_ACCESS_TOKEN=TOKEN, for environment files"),
    (
        "export",
        "export DOMO_ACCESS_TOKEN='TOKEN', for eval in sh, bash and zsh",
    ),
    (
        "powershell",
        "$env:DOMO_ACCESS_TOKEN = 'TOKEN', for Invoke-Expression",
    ),
    (
        "fish",
        "set -gx DOMO_ACCESS_TOKEN 'TOKEN', for source in fish",
    ),
];

/// The syntax of a DURATION.
pub const DURATIONS: &str = "DURATION is 90s, 5m, 1h, 1h30m, or a number of seconds.";

/// The introduction to the list of scopes.
pub const ABOUT_SCOPES: &str =
    "Domo's scopes. Tokens exist for the scope sets of the daemon's config:";

/// The introduction to [`FILES`].
pub const ABOUT_FILES: &str = "Without --socket and DOMO_TOKEN_SOCKET, one socket is used, and never another one if it does \
     not answer, because two brokers may hold different credentials:";

/// The default sockets.
pub const FILES: &[(&str, &str)] = &[
    (
        "${XDG_RUNTIME_DIR:-/run/user/UID}/domo-token/broker.sock",
        "Your own broker, if this socket exists or, unless you are root, \
         ~/.config/domo-token/config.toml",
    ),
    ("/run/domo-token/broker.sock", "Else the host's broker"),
    (r"\\.\pipe\domo-token", "The broker on Windows"),
];

/// All commands, in the order of the help.
pub static VERBS: [&VerbUsage; 7] = [&GET, &EXEC, &WATCH, &STATUS, &COMPLETIONS, &HELP, &VERSION];

impl Verb {
    /// Returns its documentation.
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

const CURL_BY_EXEC: &str = "domo-token exec --fd 3 --format header data -- \\\n    \
     curl -fsS -H @/dev/fd/3 https://api.domo.com/v1/datasets";

static GET: VerbUsage = VerbUsage {
    verb: Verb::Get,
    name: "get",
    usage: &["[get] [OPTIONS] SCOPE..."],
    about: "Print a Domo access token from the daemon domo-tokend",
    more: &[
        "All SCOPE arguments together are one scope set: `domo-token data user` prints one token \
         for both scopes. Standard output carries only the token. On failure it stays empty, standard \
         error has one line with the cause, and the exit code classifies it.",
        "A first word that looks like a command, such as `list`, is a usage error, and so is a \
         later word that contains `/` or `=`. After `get`, every word is a scope: `domo-token get \
         list`.",
    ],
    examples: &[
        Example {
            comment: "Call the API. The token is in no command line, which every local user can \
                      read. Without a token, curl does not run:",
            line: CURL_BY_EXEC,
        },
        Example {
            comment: "The same through a pipe. Without a token, Domo rejects the request, and curl \
                      exits with 22:",
            line: "domo-token --format curl data | \\\n    \
                   curl -fsS -K - https://api.domo.com/v1/datasets",
        },
        Example {
            comment: "End a script that gets no token:",
            line: "token=$(domo-token data) || exit",
        },
    ],
    exit: &[
        ("0", "Success"),
        ("2", "Usage error"),
        ("69", "No broker is running, or it cannot be reached"),
        (
            "70",
            "Internal error (a bug), or the server is not a broker",
        ),
        ("74", "Standard output cannot be written"),
        (
            "75",
            "No token for now: Domo cannot be reached, the broker is busy, or the timeout is over. \
             Try again later",
        ),
        (
            "76",
            "The broker speaks no protocol version of this program",
        ),
        ("77", "Not permitted"),
        (
            "78",
            "Unknown client or scope set, or Domo rejects the credentials or the scopes",
        ),
    ],
};

static EXEC: VerbUsage = VerbUsage {
    verb: Verb::Exec,
    name: "exec",
    usage: &["exec [--env NAME | --fd N] [OPTIONS] SCOPE... -- COMMAND..."],
    about: "Run a command with a token in its environment or on a file descriptor",
    more: &[
        "COMMAND replaces this process (on Windows it is a child process). Without a token, COMMAND \
         does not run. Its token is not renewed: a command that runs for longer than the token is \
         valid has to request the next one itself.",
    ],
    examples: &[
        Example {
            comment: "Pass the token in $DOMO_ACCESS_TOKEN:",
            line: "domo-token exec data -- python3 report.py",
        },
        Example {
            comment: "Pass a header line on file descriptor 3:",
            line: CURL_BY_EXEC,
        },
    ],
    exit: &[
        (
            "",
            "Those of COMMAND; without a token, those of `domo-token get`; and:",
        ),
        ("126", "COMMAND cannot be run"),
        ("127", "COMMAND does not exist"),
    ],
};

static WATCH: VerbUsage = VerbUsage {
    verb: Verb::Watch,
    name: "watch",
    usage: &["watch [--to FILE] [--mode MODE] [OPTIONS] SCOPE..."],
    about: "Print a token and each later one, or keep the current one in a file",
    more: &[
        "The first token is requested as by `domo-token get`, and fails with the same errors. After \
         it, the command survives restarts of the broker. It reports on standard error when there \
         is no token, and continues when there is one again.",
        "FILE must not exist, or be a regular file, which is replaced. A new token is on disk before \
         it replaces FILE. If FILE is deleted, it is written again within 2 s. If a new token cannot \
         be written, the last one stays until it expires, and writing is retried. The command \
         removes FILE when it ends, also by SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, \
         SIGALRM or SIGXCPU.",
    ],
    examples: &[
        Example {
            comment: "Keep a header line in a file, for curl -H @/run/report/token:",
            line: "domo-token watch --to /run/report/token --format header data &",
        },
        Example {
            comment: "Process each token as one line of JSON:",
            line: "domo-token watch data | while read -r line; do …; done",
        },
    ],
    exit: &[
        (
            "",
            "Before the first token, those of `domo-token get`; after it:",
        ),
        (
            "74",
            "Standard output or FILE cannot be written; without a message if the reader of standard \
             output has closed it",
        ),
        ("77", "No longer permitted"),
        (
            "78",
            "The scope set was removed. A rejection by Domo does not end the command",
        ),
    ],
};

static STATUS: VerbUsage = VerbUsage {
    verb: Verb::Status,
    name: "status",
    usage: &["status [-q | --metrics] [--json] [--watch] [SCOPE...]"],
    about: "Print the state of the broker and of each scope set, never a token",
    more: &[
        "Each SCOPE argument is one scope set here. Quote a set of several scopes, as in \"data \
         user\". Without SCOPE, all scope sets are printed that you may use.",
    ],
    examples: &[Example {
        comment: "Test in a script whether there is a token:",
        line: "domo-token status -q data || echo 'no token for data' >&2",
    }],
    exit: &[
        (
            "",
            "If the broker does not answer, those of `domo-token get`; else:",
        ),
        ("0", "Every scope set has a valid token"),
        (
            "74",
            "Standard output cannot be written; with --watch, without a message, if its reader has \
             closed it",
        ),
        ("75", "A scope set has no valid token"),
        (
            "78",
            "A scope set has no valid token because Domo rejects it, or there is no such scope set",
        ),
    ],
};

static COMPLETIONS: VerbUsage = VerbUsage {
    verb: Verb::Completions,
    name: "completions",
    usage: &["completions bash|zsh|fish|powershell"],
    about: "Print a script that completes command lines of domo-token",
    more: &[],
    examples: &[
        Example {
            comment: "In ~/.bashrc:",
            line: "source <(domo-token completions bash)",
        },
        Example {
            comment: "In ~/.zshrc:",
            line: "source <(domo-token completions zsh)",
        },
        Example {
            comment: "In ~/.config/fish/config.fish:",
            line: "domo-token completions fish | source",
        },
        Example {
            comment: "In the profile of PowerShell:",
            line: "domo-token completions powershell | Out-String | Invoke-Expression",
        },
    ],
    exit: &[],
};

static HELP: VerbUsage = VerbUsage {
    verb: Verb::Help,
    name: "help",
    usage: &["help [COMMAND]"],
    about: "Print help for the program, or for one command",
    more: &[],
    examples: &[],
    exit: &[],
};

static VERSION: VerbUsage = VerbUsage {
    verb: Verb::Version,
    name: "version",
    usage: &["version"],
    about: "Print the version",
    more: &[],
    examples: &[],
    exit: &[],
};
