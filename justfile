# `just test status::` runs the tests whose path contains that.
#
# Tests a change in under a minute: all but slow tests.
test *ARGS:
    .ci/test {{ARGS}}

# What CI runs: fmt, clippy, docs, the README's commands, packages, all tests.
check:
    bash .ci/run

# Builds for Windows and tests it under wine; on Debian, as root, which installs what that needs.
windows:
    bash .ci/windows

# Needs cargo-deny. `cargo deny check advisories` needs an internet connection besides.
deny:
    cargo deny --offline check bans licenses sources

# Dependencies that nothing uses. Needs cargo-machete.
machete:
    cargo machete

# `just bench L1 L3` measures these rows alone, `--rounds N` so often; `--json` is for machines, `--write
# docs/performance.md` puts the table there. Needs a C compiler.
#
# Measures every performance row against its floor.
bench *ARGS: helper
    cargo bench --locked --bench load -- \
        --static-helper "target/$(rustc -vV | sed -n 's/^host: //p')/release-helper/domo-token" {{ARGS}}

# A long time of short lives, faults, kills and stops; the picture goes into the docs.
soak SECONDS='1200':
    cargo bench --locked --bench load -- --soak {{SECONDS}} --write docs/soak.svg

# Beside oidc-agent and git credential-cache; see benches/peers/compare.py for what it needs.
peers *ARGS:
    cargo build --locked --release --workspace --bins
    python3 benches/peers/compare.py {{ARGS}}

# What a token at hand costs in instructions, against its ceiling. Needs valgrind.
instructions:
    cargo build --locked --release --bin domo-tokend
    DOMO_TOKEND=$PWD/target/release/domo-tokend cargo test --locked --test instructions -- --nocapture

# Connections of 65 536 uids for half a minute, beside which others must be served. Needs root and an idle machine.
flood SECONDS='30':
    cargo build --locked --release --bin domo-tokend
    DOMO_TOKEN_FLOOD={{SECONDS}} DOMO_TOKEND=$PWD/target/release/domo-tokend \
        cargo test --locked --test hostile 65536_uids -- --nocapture

# Needs cargo-fuzz and a nightly toolchain. What is found goes into fuzz/target/corpus/, and from there
# into the repo by `just fuzz-keep`.
#
# Runs all fuzz targets for so long each.
fuzz SECONDS='600':
    #!/usr/bin/env bash
    set -euo pipefail
    for target in $(cargo +nightly fuzz list); do
        mkdir -p "fuzz/target/corpus/$target"
        cargo +nightly fuzz run -s none "$target" "fuzz/target/corpus/$target" "fuzz/corpus/$target" -- \
            -max_total_time={{SECONDS}} -rss_limit_mb=1024 -timeout=10 -max_len=4096 -print_final_stats=1
    done

# Makes the repo's corpora anew: at most 50 short files a target, which reach the most.
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

# Mutation testing of the parts that decide; hours. Needs cargo-mutants.
mutants:
    cargo mutants -p domo-token-protocol -f crates/protocol/src/frame.rs -o target/mutants/frame
    cargo mutants -p domo-token-core -f crates/core/src/policy.rs -f 'crates/core/src/schedule*.rs' -f 'crates/core/src/schedule/*.rs' \
        -o target/mutants/decisions -- --lib
    cargo mutants -p domo-token -f src/config.rs -f 'src/config/*.rs' \
        -o target/mutants/config -- --lib --test it config
    cargo mutants -p domo-token -f src/source/domo.rs -f 'src/source/domo/*.rs' \
        -o target/mutants/domo -- --lib --test it

# The main job with no Domo account.
quickstart *ARGS:
    cargo run --example quickstart -- {{ARGS}}

# Builds the programs as they are shipped, into target/package/.
release:
    packaging/build

# The helper alone.
helper:
    packaging/build helper

# Writes the man pages anew, after a change of help, flags, docs/config.md or docs/protocol.md.
man:
    UPDATE_MAN=1 cargo test --test it man

# Writes the golden frames anew: only with a new protocol version.
golden:
    UPDATE_GOLDEN=1 cargo test -p domo-token-protocol --test golden

# Builds the Debian package into target/debian/; cargo-deb is installed below target/ if need be.
deb *ARGS:
    packaging/deb {{ARGS}}

# Boots a systemd in namespaces and takes the Debian package through its life there. Needs root.
acceptance *STEPS:
    tests/acceptance/run {{STEPS}}
