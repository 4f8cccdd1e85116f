# source <(domo-token completions bash)
_domo_token() {
    local IFS=$'\n' found
    found=($(command domo-token __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
    COMPREPLY=()
    case ${found[0]} in
        :files) compopt -o default 2>/dev/null ;;
        :command*)
            compopt -o default 2>/dev/null
            [ "${COMP_WORDS[COMP_CWORD-1]}" != -- ] ||
                COMPREPLY=($(compgen -c -- "${COMP_WORDS[COMP_CWORD]}")) ;;
        *)
            COMPREPLY=("${found[@]}")
            # --format=curl is three words here.
            [[ ${COMP_WORDS[COMP_CWORD]} != = && ${COMP_WORDS[COMP_CWORD-1]} != = ]] ||
                COMPREPLY=("${COMPREPLY[@]#*=}") ;;
    esac
}
complete -F _domo_token domo-token
