# Completion of sequin for fish. The program itself says what may come next.
complete -c sequin -a '(sequin __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
