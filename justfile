# What .ci/run runs: fmt, clippy, docs, a release build, the README's commands, tests.
check:
    bash .ci/run

# Needs cargo-deny, and its advisories an internet connection.
deny:
    cargo deny check

# The main job with no Domo account.
quickstart *ARGS:
    cargo run --release --example quickstart -- {{ARGS}}

# Writes the golden frames anew: only with a new protocol version.
golden:
    UPDATE_GOLDEN=1 cargo test -p domo-token-client --test golden
