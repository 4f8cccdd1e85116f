#compdef domo-token
# source <(domo-token completions zsh)
_domo_token() {
    local -a found
    found=("${(@f)$(command domo-token __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    case $found[1] in
        (:files)
            compset -P '--*='
            _files ;;
        (:command*)
            local -i end=$(( ${found[1]#:command } + 1 ))
            shift $end words
            (( CURRENT -= end ))
            _normal ;;
        (?*)
            found=("${(@)found//:/\\:}")
            found=("${(@)found/$'\t'/:}")
            _describe word found ;;
    esac
}
# compdef is there once compinit has run, which may come later in ~/.zshrc.
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
