# Completion of sequin for bash. The program itself says what may come next.
_sequin() {
    local IFS=$'\n'
    COMPREPLY=($(sequin __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _sequin sequin
