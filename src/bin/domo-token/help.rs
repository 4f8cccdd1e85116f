//! The help texts.

pub(crate) const ALL: &str = "\
Prints a Domo access token that domo-tokend keeps fresh.

Usage: domo-token [get] [OPTIONS] SCOPE...
       domo-token exec [--env NAME | --fd N] [OPTIONS] SCOPE... -- COMMAND...
       domo-token watch [--to FILE] [OPTIONS] SCOPE...
       domo-token status [-q] [--json] [SCOPE...]
       domo-token completions bash|zsh|fish|powershell

All SCOPE words together are one scope set: `domo-token data user` is one token for both.

Options:
  -c, --client NAME     API client of the broker's config [$DOMO_TOKEN_CLIENT, or its default]
      --format FORMAT   token (default), header, curl, json or env
      --min-ttl TIME    fail unless the token lives at least this much longer
      --timeout TIME    give up after this long, at most 10m [10s]
      --wait            until the timeout, wait for a broker that isn't there and for Domo
      --renew[=GEN]     another token: Domo refused the current one, or that of generation GEN
      --explain         instead: what the broker decides for this process, and why
      --socket PATH     the broker's socket [$DOMO_TOKEN_SOCKET,
                        $XDG_RUNTIME_DIR/domo-token/broker.sock, /run/domo-token/broker.sock]
  -h, --help            this help; exec, watch and status have their own
  -V, --version         the version

TIME is 90s, 5m, 1h, or plain seconds.

Examples:
  domo-token --format curl data | curl -fsS -K - https://api.domo.com/v1/datasets
  domo-token exec --fd 3 --format header data -- curl -fsS -H @/dev/fd/3 https://…
  token=$(domo-token data) || exit

The first two keep the token out of argv, which every user of the machine can read, and send
nothing if there is none.

Exit: 0, 2 usage, 69 no broker, 70 a bug, 74 output, 75 not now, 76 no common protocol version,
77 not permitted, 78 unknown client or scope set, or Domo refuses the credentials or scopes.
Nothing is printed on standard output unless it is a token. exec: the command's own; 126 it
can't be run, 127 there is none.
";

pub(crate) const STATUS: &str = "\
Shows the broker's state and that of each scope set; never a token.

Usage: domo-token status [OPTIONS] [SCOPE...]

Each SCOPE is a scope set of its own here: quote one of several scopes, as in \"data user\".

Options:
  -q, --quiet           print nothing: the exit code tells
      --json            for machines; times are seconds since 1970
      --socket PATH     the broker's socket

Exit: 0 every set has a living token, 75 one hasn't, 78 one is refused by Domo and has none,
69 no broker.
";

pub(crate) const EXEC: &str = "\
Runs a command with a token, without any process in between.

Usage: domo-token exec [OPTIONS] SCOPE... -- COMMAND...

Options:
      --env NAME        the variable that holds the token [DOMO_ACCESS_TOKEN]
      --fd N            instead, the descriptor it can be read from once, in the form of --format:
                        0 is standard input, else from 3 on. Not in the environment then, which
                        children inherit and root can read
      and all of domo-token get: -c, --format, --min-ttl, --timeout, --wait, --renew, --socket

The token is the one of the start: a command that outlives it asks again itself.

Examples:
  domo-token exec data -- python3 report.py
  domo-token exec --fd 3 --format header data -- curl -fsS -H @/dev/fd/3 https://…

Exit: the command's own; without a token that of domo-token get, and the command isn't run;
126 the command can't be run, 127 there is none.
";

pub(crate) const WATCH: &str = "\
Prints the token, and each new one as it comes, until it is stopped.

Usage: domo-token watch [OPTIONS] SCOPE...

Options:
      --to FILE         keep the token in FILE instead, replaced in one piece, and removed when
                        it dies with no successor
      --mode MODE       the file's mode, from 0600 to 0666 [0600]
      --format FORMAT   token, header, curl, json or env; a JSON line, or with --to the bare
                        token, when nothing is said
  -c, --client NAME     API client of the broker's config
      --socket PATH     the broker's socket

It outlives restarts of the broker, and says on standard error when there is no token.
Exit: 77 not permitted, 78 unknown, refused or removed, 74 output.
";
