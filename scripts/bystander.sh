#!/usr/bin/env bash
# A server that is up while the tests run, as `make run` leaves one: they must not disturb it, and write nothing into the
# installation that the private server is a copy of.  scripts/bystander.sh start|check|remove
source "$(dirname "$0")/common.sh"
source scripts/cluster.sh
find_postgres || die "run: make deps"

sql() { "$PG_BIN/psql" -X -q -A -t -d postgres -v ON_ERROR_STOP=1 "$@"; }

# The files of sequin there, with their inodes, sizes and times.
installed_files() {
    find "$("$INSTALLED_PG_CONFIG" --pkglibdir)" "$("$INSTALLED_PG_CONFIG" --sharedir)/extension" \
        -name 'sequin*' -printf '%p %i %s %t\n' | sort
}

case $1 in
start)
    installed_files >target/installed_files
    cluster_start bystander
    sql -c 'CREATE EXTENSION sequin' -c "SELECT sequin.create_stream('s')" \
        -c "SELECT sequin.create_consumer('s', 'c')" >/dev/null
    ;;
check)
    # Little of the library has been used so far, so that much of it is still to be read from its file.
    cluster_find bystander || die "it was not started"
    received=$(sql -c "SELECT sequin.publish('s', 'a', '1')" \
        -c "SELECT count(*) FROM sequin.receive('c', 1, '10 s')" | tail -n 1)
    [ "$received" = 1 ] || die "the server that ran meanwhile handed out $received messages of 1"
    sql -c "SELECT sequin.drop_stream('s', true)"
    if as_server grep 'was terminated by signal' "$CLUSTER/log"; then die "a process of it was killed"; fi
    installed_files | diff target/installed_files - || die "files outside the checkout were written"
    ;;
remove) cluster_remove bystander ;;
*) die "scripts/bystander.sh start|check|remove" ;;
esac
