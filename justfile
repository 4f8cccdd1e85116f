# `just test status::` runs only the tests whose path contains that text.
#
# Tests a change in less than a minute, without the slow tests.
test *ARGS:
    .ci/test {{ARGS}}

# Runs what CI runs: fmt, clippy, docs, the README's commands, packages, all tests.
check:
    bash .ci/run

# Builds for Windows and runs the tests under wine. Needs Debian and root; installs missing packages.
windows:
    bash .ci/windows

# `just dependencies all` installs the tools below target/, and also searches for known vulnerabilities.
#
# Finds unused and forbidden dependencies.
dependencies *ARGS:
    .ci/dependencies {{ARGS}}

# Checks the published crates with each feature alone; `just features powerset` with each combination, by cargo-hack.
features *ARGS:
    .ci/features {{ARGS}}

# Reports changes of the published crates' API since a revision that break apps. Needs cargo-semver-checks, which takes
# minutes to install.
semver REVISION:
    cargo semver-checks -p domo-token-protocol -p domo-token-client --baseline-rev {{REVISION}}

# Runs the examples of docs/languages.md. Needs Debian and root; installs missing languages.
languages:
    .ci/languages

# Compares the HTTP API with its OpenAPI document, by a generated client and by generated requests. Installs the tools
# below target/ if they are missing.
schemathesis *ARGS:
    .ci/schemathesis {{ARGS}}

# Checks the files in .github/; installs the tools below target/ if they are missing.
forge:
    .ci/forge

# Checks the Node package; installs its tools below target/. With NODE_18=1, also with Node 18.
js:
    js/check

# `just bench L1 L3` measures only these rows, `--rounds N` sets the number of rounds, `--json` prints JSON, `--write
# docs/performance.md` replaces the table there. Needs a C compiler.
#
# Measures each performance row against its lower bound.
bench *ARGS: helper
    cargo bench --locked --bench load -- \
        --static-helper "target/$(rustc -vV | sed -n 's/^host: //p')/release-helper/domo-token" {{ARGS}}

# Runs a soak test with short lifetimes, faults, kills and stops, and writes the graph of the docs.
soak SECONDS='1200':
    cargo bench --locked --bench load -- --soak {{SECONDS}} --write docs/soak.svg

# Runs three daemons and a redis-server with faults of all of them and of Domo, and prints a report. A seed repeats the
# faults of a run. Needs redis-server.
fleet-soak MINUTES='20' SEED='':
    DOMO_TOKEN_FLEET_MINUTES={{MINUTES}} DOMO_TOKEN_FLEET_SEED={{SEED}} \
        cargo test --locked --test it fleet::soak:: -- --ignored --nocapture

# Runs four SDK processes through a gateway with faults of Domo and restarts of the daemon, and prints a report. Needs
# the SDKs, which .ci/sdks installs, and a JDK.
gateway-soak MINUTES='20' SEED='':
    DOMO_TOKEN_GATEWAY_MINUTES={{MINUTES}} DOMO_TOKEN_GATEWAY_SEED={{SEED}} \
        cargo test --locked --test it gateway::soak:: -- --ignored --nocapture

# Compares the gateway with nginx and haproxy, in one run. Needs cc, nginx and haproxy.
gateway-bench *ARGS:
    cargo build --locked --release --bin domo-tokend --bin domo-sandbox
    python3 benches/gateway/compare.py {{ARGS}}

# Compares with oidc-agent and git credential-cache; benches/peers/compare.py lists the required programs.
peers *ARGS:
    cargo build --locked --release --workspace --bins
    python3 benches/peers/compare.py {{ARGS}}

# Runs the calls of pydomo, Domo's SDK for Python, against the sandbox; installs it below target/ if it is missing.
pydomo:
    .ci/sdks pydomo

# Runs the calls of domo-sdk, Domo's SDK for Node, against the sandbox; installs it below target/ if it is missing.
domo-sdk:
    .ci/sdks domo-sdk

# Compares the instructions of a request for a cached token with their limit. Needs valgrind.
instructions:
    cargo build --locked --release --bin domo-tokend
    DOMO_TOKEND=$PWD/target/release/domo-tokend cargo test --locked --test instructions -- --nocapture

# Connects as 65 536 uids for half a minute while other callers must be served. Needs root and an idle machine.
flood SECONDS='30':
    cargo build --locked --release --bin domo-tokend
    DOMO_TOKEN_FLOOD={{SECONDS}} DOMO_TOKEND=$PWD/target/release/domo-tokend \
        cargo test --locked --test hostile 65536_uids -- --nocapture

# Needs cargo-fuzz and a nightly toolchain. New inputs are written to fuzz/target/corpus/; `just fuzz-keep` copies
# them into the repository.
#
# Runs each fuzz target for that many seconds.
fuzz SECONDS='600':
    #!/usr/bin/env bash
    set -euo pipefail
    for target in $(cargo +nightly fuzz list); do
        mkdir -p "fuzz/target/corpus/$target"
        cargo +nightly fuzz run -s none "$target" "fuzz/target/corpus/$target" "fuzz/corpus/$target" -- \
            -max_total_time={{SECONDS}} -rss_limit_mb=1024 -timeout=10 -max_len=4096 -print_final_stats=1
    done

# Replaces the corpora of the repository: at most 50 short files per target, those with the most coverage.
fuzz-keep:
    #!/usr/bin/env bash
    set -euo pipefail
    for target in $(cargo +nightly fuzz list); do
        new=$(mktemp -d)
        cargo +nightly fuzz run -s none "$target" "$new" "fuzz/target/corpus/$target" "fuzz/corpus/$target" -- \
            -set_cover_merge=1 -max_len=1024
        rm -f "fuzz/corpus/$target"/*
        find "$new" -type f -printf '%s %p\n' | sort -n | cut -d' ' -f2 |
            awk '{ file[NR] = $0 } END { step = NR > 50 ? NR / 50 : 1; for (at = 1; at <= NR; at += step) print file[int(at)] }' |
            head -50 | xargs -I{} cp {} "fuzz/corpus/$target/"
        rm -r "$new"
    done

# Runs mutation tests of schedule, policy and config, for hours. Needs cargo-mutants.
mutants:
    cargo mutants -p domo-token-protocol -f crates/protocol/src/frame.rs -o target/mutants/frame
    cargo mutants -p domo-token-core -f crates/core/src/access_policy.rs -f 'crates/core/src/schedule*.rs' -f 'crates/core/src/schedule/*.rs' \
        -o target/mutants/decisions -- --lib
    cargo mutants -p domo-token -f src/config.rs -f 'src/config/*.rs' \
        -o target/mutants/config -- --lib --test it config
    cargo mutants -p domo-token -f src/source/domo.rs -f 'src/source/domo/*.rs' \
        -o target/mutants/domo -- --lib --test it

# Shows the main use without a Domo account.
quickstart *ARGS:
    cargo run --example quickstart -- {{ARGS}}

# Builds the programs for release, into target/package/.
release:
    packaging/build

# Builds only the helper.
helper:
    packaging/build helper

# Builds the documentation as a book into target/book/, and checks its links; installs mdbook below target/ if missing.
book:
    .ci/book

# Regenerates all that is generated from the code: man pages, options in docs/cli.md, tests/messages.txt, docs/config.schema.json.
generate:
    UPDATE_SCHEMA=1 cargo test --lib config::schema::
    UPDATE_MAN=1 UPDATE_MESSAGES=1 cargo test --test it -- man:: messages::

# Regenerates the man pages and the options in docs/cli.md after a change of help, docs/config.md or docs/protocol.md.
man:
    UPDATE_MAN=1 cargo test --test it man::

# Regenerates tests/messages.txt, after a change of a message.
messages:
    UPDATE_MESSAGES=1 cargo test --test it messages::

# Regenerates the golden frames: only with a new protocol version.
golden:
    UPDATE_GOLDEN=1 cargo test -p domo-token-protocol --test golden

# Checks the Python package: types, style, tests with requests, httpx and pydomo, wheel and sdist. Installs the tools
# into target/python/.
python *ARGS:
    .ci/python {{ARGS}}

# Builds the Debian package into target/debian/; installs cargo-deb below target/ if it is missing.
deb *ARGS:
    packaging/deb {{ARGS}}

# Tests the Debian package in a systemd booted in namespaces. Needs root.
acceptance *STEPS:
    tests/acceptance/run {{STEPS}}
