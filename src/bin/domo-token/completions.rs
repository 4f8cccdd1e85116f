//! What shells need to complete a command line of ours.

use crate::args::Shell;

/// The script for a shell, to be read at its start.
pub(crate) fn of(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        Shell::Pwsh => POWERSHELL,
    }
}

const BASH: &str = r#"# source <(domo-token completions bash)
_domo_token() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    case $before in
        --format) COMPREPLY=($(compgen -W "token header curl json env" -- "$word")); return ;;
        --socket|--to) COMPREPLY=($(compgen -f -- "$word")); return ;;
        completions) COMPREPLY=($(compgen -W "bash zsh fish powershell" -- "$word")); return ;;
    esac
    local words="--client --format --min-ttl --timeout --wait --renew --explain --socket --help --version"
    case ${COMP_WORDS[1]} in
        exec) words+=" --env --fd --" ;;
        watch) words+=" --to --mode" ;;
        status) words="--quiet --json --socket --help" ;;
    esac
    [ "$COMP_CWORD" -ne 1 ] || words+=" get status watch exec completions help version data user audit"
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -F _domo_token domo-token
"#;

const ZSH: &str = r"#compdef domo-token
# source <(domo-token completions zsh)
_domo_token() {
    _arguments -S \
        '(-c --client)'{-c,--client}'[API client of the config]:client' \
        '--format[form of the token]:format:(token header curl json env)' \
        '--min-ttl[least life left]:time' \
        '--timeout[give up after]:time' \
        '--wait[wait for broker and Domo]' \
        '--renew=-[another token]::generation' \
        '--explain[what is decided, and why]' \
        '--socket[socket of the broker]:file:_files' \
        '--env[variable for exec]:name' \
        '--fd[descriptor for exec]:number' \
        '--to[file for watch]:file:_files' \
        '--mode[mode of that file]:mode' \
        '(-q --quiet)'{-q,--quiet}'[status: only the exit code]' \
        '--json[status for machines]' \
        '1:command or scope:(get status watch exec completions help version data user audit)' \
        '*:scope:(data user audit)'
}
compdef _domo_token domo-token
";

const FISH: &str = r#"# domo-token completions fish | source
complete -c domo-token -f
complete -c domo-token -n __fish_use_subcommand -a "get status watch exec completions help version data user audit"
complete -c domo-token -n "__fish_seen_subcommand_from completions" -a "bash zsh fish powershell"
complete -c domo-token -s c -l client -x -d "API client of the config"
complete -c domo-token -l format -x -a "token header curl json env" -d "Form of the token"
complete -c domo-token -l min-ttl -x -d "Least life left"
complete -c domo-token -l timeout -x -d "Give up after"
complete -c domo-token -l wait -d "Wait for broker and Domo"
complete -c domo-token -l renew -d "Another token"
complete -c domo-token -l explain -d "What is decided, and why"
complete -c domo-token -l socket -r -F -d "Socket of the broker"
complete -c domo-token -n "__fish_seen_subcommand_from exec" -l env -x -d "Variable for the token"
complete -c domo-token -n "__fish_seen_subcommand_from exec" -l fd -x -d "Descriptor for the token"
complete -c domo-token -n "__fish_seen_subcommand_from watch" -l to -r -F -d "File for the token"
complete -c domo-token -n "__fish_seen_subcommand_from watch" -l mode -x -d "Mode of that file"
complete -c domo-token -n "__fish_seen_subcommand_from status" -s q -l quiet -d "Only the exit code"
complete -c domo-token -n "__fish_seen_subcommand_from status" -l json -d "For machines"
"#;

const POWERSHELL: &str = r#"# domo-token completions powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName domo-token -ScriptBlock {
    param($word, $line, $position)
    $words = 'get', 'status', 'watch', 'exec', 'completions', 'help', 'version', 'data', 'user', 'audit',
        '--client', '--format', '--min-ttl', '--timeout', '--wait', '--renew', '--explain', '--socket',
        '--env', '--fd', '--to', '--mode', '--quiet', '--json', '--help', '--version'
    $words | Where-Object { $_ -like "$word*" } | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
    }
}
"#;
