# What .ci/run runs: fmt, clippy, docs, a release build, the README's commands, tests.
check:
    bash .ci/run

# Needs cargo-deny, and its advisories an internet connection.
deny:
    cargo deny check

# The main job with no Domo account.
quickstart *ARGS:
    cargo run --release --example quickstart -- {{ARGS}}

# The programs as they are shipped. The helper is static: a script pays for its start each time. The
# daemon isn't, for the user database is read by what the host has for it.
release:
    cargo build --locked --release --bin domo-tokend
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --profile release-helper \
        --bin domo-token --target "$(rustc -vV | sed -n 's/^host: //p')"

# Writes the man pages anew, after a change of help, flags, docs/config.md or docs/protocol.md.
man:
    UPDATE_MAN=1 cargo test --test man

# Writes the golden frames anew: only with a new protocol version.
golden:
    UPDATE_GOLDEN=1 cargo test -p domo-token-client --test golden
