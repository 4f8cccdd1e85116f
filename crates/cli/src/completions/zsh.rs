//! Completions for zsh.

use std::fmt::Write;

use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

use super::{all_spellings, brief, spellings, taking_a_word, verb_names, words};
use crate::options::{self, OptionUsage, Value, Verb};
use crate::usage::VERBS;

const START: &str = r"#compdef domo-token
# source <(domo-token completions zsh)
_domo_token() {
    local verb=
    local -i at=2 end
    while (( at < CURRENT )); do
        case $words[at] in
            (--) break ;;
";

const EXEC: &str = r"            end=${words[(i)--]}
            if (( end < CURRENT )); then
                shift $end words
                (( CURRENT -= end ))
                _normal
                return
            fi
";

// compdef exists once compinit has run, which may be later in ~/.zshrc.
const END: &str = r#"    esac
}
if [[ $funcstack[1] == _domo_token ]]; then
    _domo_token "$@"
elif (( $+functions[compdef] )); then
    compdef _domo_token domo-token
else
    _domo_token_register() {
        (( $+functions[compdef] )) || return 0
        precmd_functions=(${precmd_functions:#_domo_token_register})
        compdef _domo_token domo-token
    }
    typeset -ga precmd_functions
    precmd_functions+=(_domo_token_register)
fi
"#;

// Writing to a string can't fail.
pub(super) fn script() -> String {
    let mut text = START.to_owned();
    let values = all_spellings(taking_a_word(), "|");
    let _ = writeln!(text, "            ({values}) (( at += 1 )) ;;");
    text.push_str("            (-*) ;;\n            (*) verb=$words[at]; break ;;\n");
    text.push_str("        esac\n        (( at += 1 ))\n    done\n    case $verb in\n");
    for usage in VERBS {
        if usage.verb == Verb::Get {
            continue;
        }
        let _ = writeln!(text, "        ({})", usage.name);
        if usage.verb == Verb::Exec {
            text.push_str(EXEC);
        }
        let words = words(usage.verb).join(" ");
        arguments(&mut text, usage.verb, usage.name, &words);
    }
    text.push_str("        (*)\n");
    let start = [verb_names(), DOMO_SCOPE_NAMES.to_vec()].concat().join(" ");
    arguments(&mut text, Verb::Get, &start, &DOMO_SCOPE_NAMES.join(" "));
    text.push_str(END);
    text
}

fn arguments(text: &mut String, verb: Verb, first: &str, rest: &str) {
    text.push_str("            _arguments -s -S \\\n");
    for option in options::options(verb) {
        let _ = writeln!(text, "                {} \\", spec(option, verb));
    }
    let _ = writeln!(text, "                '1:word:({first})' \\");
    let _ = writeln!(text, "                '*:word:({rest})' ;;");
}

fn spec(option: &OptionUsage, verb: Verb) -> String {
    let value = match option.value {
        Value::Nothing => String::new(),
        Value::Maybe(name) => format!("::{name}:"),
        Value::Text(name) => format!(":{name}:"),
        Value::File(name) => format!(":{name}:_files"),
        Value::OneOf(name, offered) => format!(":{name}:({})", offered.join(" ")),
    };
    let about = brief(option, verb).replace('\'', "'\\''");
    let name = match option.value {
        // `=-`: the value follows "=" only. `=`: it follows "=" or is the next word.
        Value::Maybe(_) => format!("{}=-", option.name()),
        Value::Text(_) | Value::File(_) | Value::OneOf(..) => format!("{}=", option.name()),
        Value::Nothing => option.name(),
    };
    match option.short {
        None => format!("'{name}[{about}]{value}'"),
        Some(short) => {
            let all = spellings(option).join(" ");
            format!("'({all})'{{-{short},{name}}}'[{about}]{value}'")
        }
    }
}
