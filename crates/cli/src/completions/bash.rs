//! For bash, from 3.2 on.

use std::fmt::Write;

use clap::Command;

use super::{
    all_spellings, first_words, is_file, offered, options, spellings, taking_a_word, verbs, words,
};
use crate::command_line::VERBS;

const START: &str = r#"# source <(domo-token completions bash)
_domo_token() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= at=1 words=
    COMPREPLY=()
    # --format=curl is three words here.
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
pub(super) fn script(definition: &Command) -> String {
    let mut text = START.to_owned();
    let valued = taking_a_word(definition);
    let takers = all_spellings(valued.iter().copied(), "|");
    let skip = "[ \"${COMP_WORDS[at+1]}\" != = ] || at=$((at + 1)); at=$((at + 1))";
    let names = VERBS.join("|");
    let _ = writeln!(text, "            {takers}) {skip} ;;");
    let _ = writeln!(
        text,
        "            {names}) verb=${{verb:-${{COMP_WORDS[at]}}}} ;;"
    );
    text.push_str(MIDDLE);
    for option in &valued {
        let (names, offered) = (spellings(option).join("|"), offered(option).join(" "));
        if !offered.is_empty() {
            let _ = writeln!(text, "        {names}) words=\"{offered}\" ;;");
        }
    }
    let files = valued.iter().copied().filter(|option| is_file(option));
    let _ = writeln!(
        text,
        "        {}) compopt -o default 2>/dev/null; return ;;",
        all_spellings(files, "|")
    );
    let _ = writeln!(text, "        {takers}) return ;;");
    text.push_str("        *) case $verb:$word in\n");
    for verb in verbs(definition) {
        let name = verb.get_name();
        let options = all_spellings(options(verb), " ");
        let words = words(verb).join(" ");
        let dashes = if name == "exec" { " --" } else { "" };
        let _ = writeln!(
            text,
            "            {name}:-*) words=\"{options}{dashes}\" ;;"
        );
        let _ = writeln!(text, "            {name}:*) words=\"{words}{dashes}\" ;;");
    }
    let options = all_spellings(options(definition), " ");
    let _ = writeln!(text, "            :-*) words=\"{options}\" ;;");
    let start = first_words();
    let _ = writeln!(text, "            *) words=\"{start}\" ;;\n        esac ;;");
    text.push_str(END);
    text
}
