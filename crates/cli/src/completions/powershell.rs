//! Completions for Windows PowerShell and PowerShell.

use std::fmt::Write;

use domo_token_protocol::scope::DOMO_SCOPE_NAMES;

use super::{spellings, taking_a_word, verb_names, words};
use crate::options::{self, Value, Verb};
use crate::usage::VERBS;

const START: &str = r"# domo-token completions powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName domo-token -ScriptBlock {
    param($word, $line, $position)
";

const END: &str = r#"    $verb = ''
    $before = ''
    foreach ($element in @($line.CommandElements | Select-Object -Skip 1)) {
        if ($element.Extent.EndOffset -ge $position) { break }
        $text = "$element"
        if (-not $verb -and -not $text.StartsWith('-') -and $takes -cnotcontains $before) {
            $verb = $text
        }
        $before = $text
    }
    if ($values.ContainsKey($before)) { $offered = $values[$before] }
    elseif ($takes -ccontains $before) { return }
    elseif (-not $verb) { $offered = $start + $options['get'] }
    elseif ($options.ContainsKey($verb)) { $offered = $words[$verb] + $options[$verb] }
    else { $offered = $words['get'] + $options['get'] }
    $offered | Where-Object { $_ -like "$word*" } | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
    }
}
"#;

// Writing to a string can't fail.
pub(super) fn script() -> String {
    let mut text = START.to_owned();
    let start = [verb_names(), DOMO_SCOPE_NAMES.to_vec()].concat();
    let _ = writeln!(text, "    $start = {}", list(&start));
    let takes: Vec<String> = taking_a_word().flat_map(spellings).collect();
    let _ = writeln!(text, "    $takes = {}", list(&takes));
    text.push_str("    $values = @{\n");
    for option in taking_a_word() {
        if let Value::OneOf(_, offered) = option.value {
            for name in spellings(option) {
                let _ = writeln!(text, "        '{name}' = {}", list(offered));
            }
        }
    }
    text.push_str("    }\n    $words = @{\n");
    for usage in VERBS {
        let words = words(usage.verb);
        let _ = writeln!(text, "        '{}' = {}", usage.name, list(&words));
    }
    text.push_str("    }\n    $options = @{\n");
    for usage in VERBS {
        let all: Vec<String> = options::options(usage.verb).flat_map(spellings).collect();
        let all = if usage.verb == Verb::Exec {
            [all, vec!["--".to_owned()]].concat()
        } else {
            all
        };
        let _ = writeln!(text, "        '{}' = {}", usage.name, list(&all));
    }
    text.push_str("    }\n");
    text.push_str(END);
    text
}

fn list(words: &[impl AsRef<str>]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("'{}'", w.as_ref())).collect();
    format!("@({})", quoted.join(", "))
}
