//! The helper: see the crate `domo-token-cli`.

fn main() -> std::process::ExitCode {
    domo_token_cli::main()
}
