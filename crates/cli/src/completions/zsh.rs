//! For zsh.

use std::fmt::Write;

use clap::{Arg, Command};

use super::{
    all_spellings, brief, first_words, is_file, offered, options, spellings, taking_a_word, verbs,
    words,
};
use crate::command_line::SCOPES;

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

// compdef is there once compinit has run, which may come later in ~/.zshrc.
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
pub(super) fn script(definition: &Command) -> String {
    let mut text = START.to_owned();
    let values = all_spellings(taking_a_word(definition), "|");
    let _ = writeln!(text, "            ({values}) (( at += 1 )) ;;");
    text.push_str("            (-*) ;;\n            (*) verb=$words[at]; break ;;\n");
    text.push_str("        esac\n        (( at += 1 ))\n    done\n    case $verb in\n");
    for verb in verbs(definition) {
        let name = verb.get_name();
        if name == "get" {
            continue;
        }
        let _ = writeln!(text, "        ({name})");
        if name == "exec" {
            text.push_str(EXEC);
        }
        arguments(&mut text, verb, name, &words(verb).join(" "));
    }
    text.push_str("        (*)\n");
    arguments(&mut text, definition, &first_words(), &SCOPES.join(" "));
    text.push_str(END);
    text
}

fn arguments(text: &mut String, verb: &Command, first: &str, rest: &str) {
    text.push_str("            _arguments -s -S \\\n");
    for option in options(verb) {
        let _ = writeln!(text, "                {} \\", spec(option));
    }
    let _ = writeln!(text, "                '1:word:({first})' \\");
    let _ = writeln!(text, "                '*:word:({rest})' ;;");
}

fn spec(option: &Arg) -> String {
    let about = brief(option).replace('\'', "'\\''");
    let long = format!("--{}", option.get_long().unwrap_or_default());
    let (name, value) = if option.get_action().takes_values() {
        let names = option.get_value_names().unwrap_or_default();
        let what = names.first().map_or("", |name| name);
        let offered = offered(option).join(" ");
        if option.is_require_equals_set() {
            // After "=" alone.
            (format!("{long}=-"), format!("::{what}:"))
        } else if is_file(option) {
            (format!("{long}="), format!(":{what}:_files"))
        } else if offered.is_empty() {
            (format!("{long}="), format!(":{what}:"))
        } else {
            (format!("{long}="), format!(":{what}:({offered})"))
        }
    } else {
        (long, String::new())
    };
    match option.get_short() {
        None => format!("'{name}[{about}]{value}'"),
        Some(short) => {
            let all = spellings(option).join(" ");
            format!("'({all})'{{-{short},{name}}}'[{about}]{value}'")
        }
    }
}
