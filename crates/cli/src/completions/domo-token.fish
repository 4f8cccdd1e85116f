# domo-token completions fish | source
function __domo_token
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    set -l found (command domo-token __complete $words[2..-1] "$last" 2>/dev/null)
    switch "$found[1]"
        case :files
            __fish_complete_path (string replace -r -- '^--[^=]*=' '' "$last")
        case ':command *'
            set -l first (math (string replace ':command ' '' $found[1]) + 2)
            complete -C (string join ' ' -- (string escape -- $words[$first..-1]) $last)
        case '*'
            string join \n -- $found
    end
end
complete -c domo-token -f -a '(__domo_token)'
