//! Completions for bash 3.2 and later.

use std::fmt::Write;

use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

use super::{all_spellings, spellings, taking_a_word, verb_names, words};
use crate::options::{self, OptionUsage, Value, Verb};
use crate::usage::VERBS;

const START: &str = r#"# source <(domo-token completions bash)
_domo_token() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= at=1 words=
    COMPREPLY=()
    # Readline splits --format=curl into three words.
    if [ "$word" = = ]; then
        word=
    elif [ "$before" = = ]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    fi
    while [ "$at" -lt "$COMP_CWORD" ]; do
        case ${COMP_WORDS[at]} in
            --)
                [ "$verb" = exec ] || break
                compopt -o default 2>/dev/null
                [ "$((at + 1))" -lt "$COMP_CWORD" ] || COMPREPLY=($(compgen -c -- "$word"))
                return ;;
"#;

const MIDDLE: &str = r"            -*) ;;
            *) verb=${verb:-get} ;;
        esac
        at=$((at + 1))
    done
    case $before in
";

const END: &str = r#"    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -F _domo_token domo-token
"#;

// Writing to a string can't fail.
pub(super) fn script() -> String {
    let mut text = START.to_owned();
    let values = all_spellings(taking_a_word(), "|");
    let skip = "[ \"${COMP_WORDS[at+1]}\" != = ] || at=$((at + 1)); at=$((at + 1))";
    let verbs = verb_names().join("|");
    let _ = writeln!(text, "            {values}) {skip} ;;");
    let _ = writeln!(
        text,
        "            {verbs}) verb=${{verb:-${{COMP_WORDS[at]}}}} ;;"
    );
    text.push_str(MIDDLE);
    let is_file = |option: &&OptionUsage| matches!(option.value, Value::File(_));
    for option in taking_a_word() {
        if let Value::OneOf(_, offered) = option.value {
            let (names, offered) = (spellings(option).join("|"), offered.join(" "));
            let _ = writeln!(text, "        {names}) words=\"{offered}\" ;;");
        }
    }
    let files = all_spellings(taking_a_word().filter(is_file), "|");
    let _ = writeln!(
        text,
        "        {files}) compopt -o default 2>/dev/null; return ;;"
    );
    let _ = writeln!(text, "        {values}) return ;;");
    text.push_str("        *) case $verb:$word in\n");
    for usage in VERBS {
        let name = usage.name;
        let options = all_spellings(options::options(usage.verb), " ");
        let words = words(usage.verb).join(" ");
        let dashes = if usage.verb == Verb::Exec { " --" } else { "" };
        let _ = writeln!(
            text,
            "            {name}:-*) words=\"{options}{dashes}\" ;;"
        );
        let _ = writeln!(text, "            {name}:*) words=\"{words}{dashes}\" ;;");
    }
    let options = all_spellings(options::options(Verb::Get), " ");
    let start = [verb_names(), DOMO_SCOPE_NAMES.to_vec()].concat().join(" ");
    let _ = writeln!(text, "            :-*) words=\"{options}\" ;;");
    let _ = writeln!(text, "            *) words=\"{start}\" ;;\n        esac ;;");
    text.push_str(END);
    text
}
