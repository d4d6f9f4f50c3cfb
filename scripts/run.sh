#!/usr/bin/env bash
# A fresh private cluster with the extension, the sample messages, and a tour through two consumers. Stays up.
source "$(dirname "$0")/common.sh"
source scripts/cluster.sh
find_postgres || die "run: make deps"

events=../shared/data/github_webhooks.ndjson
[ -r "$events" ] || events=demo/github_events.ndjson

note "starting a private cluster"
cluster_start run "cluster_name = 'sequin'" "max_worker_processes = 32"
"$PG_BIN/createdb" sequin
note "publishing $(wc -l <"$events") events of $events, and receiving them"
if ! "$PG_BIN/psql" -X -q -d sequin -v ON_ERROR_STOP=1 -f demo/tour.sql <"$events"; then
    as_server tail -n 20 "$CLUSTER/log" >&2
    die "the tour failed; the server's log is $CLUSTER/log"
fi
cat <<END

The cluster is up, in database sequin on port $PGPORT.
  make psql     connects to it, as does any client:  psql postgresql://postgres@127.0.0.1:$PGPORT/sequin
  make stop     stops and removes it
END
