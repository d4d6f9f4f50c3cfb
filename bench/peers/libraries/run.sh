#!/usr/bin/env bash
# Drives a job library.  bench/peers/libraries/run.sh PEER COMMAND JSON
# Prints one line of JSON. What the commands are: at the head of load.mjs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage="usage: run.sh pg-boss|graphile-worker|procrastinate setup|publish|work|latency|order|cleanup JSON"
[ $# = 3 ] || { echo "$usage" >&2; exit 1; }
case $1 in
pg-boss | graphile-worker) exec "$here/node.sh" "$here/$1.mjs" "$2" "$3" ;;
procrastinate) exec "$here/../../../target/peers/python/bin/python" -B "$here/load.py" "$2" "$3" ;;
*) echo "$usage" >&2; exit 1 ;;
esac
