//! Completions for fish.

use std::fmt::Write;

use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

use super::{all_spellings, brief, taking_a_word, verb_names, words};
use crate::options::{self, OptionUsage, Value, Verb};
use crate::usage::VERBS;

const START: &str = r"# domo-token completions fish | source
function __domo_token_is
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb
    while set -q words[1]
        switch $words[1]
            case --
                test x$verb = xexec; and set verb command
                break
";

const END: &str = r"            case '-*'
            case '*'
                set -q verb[1]; or set verb $words[1]
        end
        set -e words[1]
    end
    set -q verb[1]; or set verb none
    contains -- $verb $argv
end
function __domo_token_command
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words)
    complete -C (string join ' ' -- (string escape -- $words[(math $at + 1)..-1]) (commandline -ct))
end
complete -c domo-token -f
complete -c domo-token -n '__domo_token_is command' -a '(__domo_token_command)'
";

// Writing to a string can't fail.
pub(super) fn script() -> String {
    let mut text = START.to_owned();
    let values = all_spellings(taking_a_word(), " ");
    let _ = writeln!(
        text,
        "            case {values}\n                set -e words[1]"
    );
    text.push_str(END);
    let start = [verb_names(), DOMO_SCOPE_NAMES.to_vec()].concat().join(" ");
    let is_none = "-n '__domo_token_is none'";
    let _ = writeln!(text, "complete -c domo-token {is_none} -a '{start}'");
    let others: Vec<&str> = verb_names().into_iter().filter(|v| *v != "get").collect();
    let others = others.join(" ");
    for usage in VERBS {
        // A word that is no other command is a scope.
        let condition = if usage.verb == Verb::Get {
            format!("-n 'not __domo_token_is command {others}'")
        } else {
            format!("-n '__domo_token_is {}'", usage.name)
        };
        for option in options::options(usage.verb) {
            let _ = writeln!(
                text,
                "complete -c domo-token {condition} {}",
                spec(option, usage.verb)
            );
        }
        let words = words(usage.verb).join(" ");
        let _ = writeln!(text, "complete -c domo-token {condition} -a '{words}'");
    }
    text
}

fn spec(option: &OptionUsage, verb: Verb) -> String {
    let short = option
        .short
        .map_or(String::new(), |short| format!("-s {short} "));
    let value = match option.value {
        Value::Nothing | Value::Maybe(_) => String::new(),
        Value::Text(_) => " -x".to_owned(),
        Value::File(_) => " -r -F".to_owned(),
        Value::OneOf(_, offered) => format!(" -x -a '{}'", offered.join(" ")),
    };
    let about = brief(option, verb).replace('\'', "\\'");
    format!("{short}-l {}{value} -d '{about}'", option.long)
}
