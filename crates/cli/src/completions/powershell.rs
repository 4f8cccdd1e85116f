//! For PowerShell, Windows' own and the newer ones.

use std::fmt::Write;

use clap::Command;

use super::{offered, options, spellings, taking_a_word, verbs, words};
use crate::command_line::{SCOPES, VERBS};

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
pub(super) fn script(definition: &Command) -> String {
    let mut text = START.to_owned();
    let start = [&VERBS[..], SCOPES].concat();
    let _ = writeln!(text, "    $start = {}", list(&start));
    let valued = taking_a_word(definition);
    let takes: Vec<String> = valued.iter().flat_map(|option| spellings(option)).collect();
    let _ = writeln!(text, "    $takes = {}", list(&takes));
    text.push_str("    $values = @{\n");
    for option in valued {
        let offered = offered(option);
        if !offered.is_empty() {
            for name in spellings(option) {
                let _ = writeln!(text, "        '{name}' = {}", list(&offered));
            }
        }
    }
    text.push_str("    }\n    $words = @{\n");
    for verb in verbs(definition) {
        let _ = writeln!(
            text,
            "        '{}' = {}",
            verb.get_name(),
            list(&words(verb))
        );
    }
    text.push_str("    }\n    $options = @{\n");
    for verb in verbs(definition) {
        let mut all: Vec<String> = options(verb).flat_map(spellings).collect();
        if verb.get_name() == "exec" {
            all.push("--".to_owned());
        }
        let _ = writeln!(text, "        '{}' = {}", verb.get_name(), list(&all));
    }
    text.push_str("    }\n");
    text.push_str(END);
    text
}

fn list(words: &[impl AsRef<str>]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("'{}'", w.as_ref())).collect();
    format!("@({})", quoted.join(", "))
}
