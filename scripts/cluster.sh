# shellcheck shell=bash
# Sourced after common.sh: a private, throw-away cluster under target/, with the extension loaded.
# Anyone on this machine can connect to it as superuser: it holds sample data and test data only.

# Sets CLUSTER to a directory that the server's user owns, and makes target/NAME lead to it. It is elsewhere when the
# server's user cannot reach target/ (a home that only root reads) or the socket's path would be too long (107 bytes).
cluster_directory() {
    local link=$ROOT/target/$1
    mkdir -p "$ROOT/target"
    if [ "${#link}" -lt 80 ] && as_server test -x "$ROOT/target"; then
        CLUSTER=$link
        mkdir "$CLUSTER"
    else
        CLUSTER=$(mktemp -d "/tmp/sequin-$1.XXXXXX")
        ln -s "$CLUSTER" "$link"
    fi
    if am_root; then chown "$SERVER_USER" "$CLUSTER"; fi
}

# An unused TCP port: nothing answers there, and nothing has it open for connections going out.
cluster_free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo $port
            return
        fi
    done
    die "found no free port"
}

# cluster_start NAME [CONFIG LINE...]: a fresh cluster, started. Sets CLUSTER, PGHOST, PGPORT and PGUSER.
cluster_start() {
    local name=$1 line
    shift
    cluster_remove "$name"
    cluster_directory "$name"
    as_server "$PG_BIN/initdb" -D "$CLUSTER/data" -U postgres --auth=trust --encoding=UTF8 --locale=C \
        --no-sync --no-instructions >/dev/null
    PGHOST=$CLUSTER
    PGPORT=$(cluster_free_port)
    PGUSER=postgres
    export PGHOST PGPORT PGUSER
    {
        echo "shared_preload_libraries = 'sequin'"
        echo "wal_level = logical"
        echo "listen_addresses = '127.0.0.1'"
        echo "port = $PGPORT"
        echo "unix_socket_directories = '$CLUSTER'"
        for line in "$@"; do echo "$line"; done
    } | as_server tee -a "$CLUSTER/data/postgresql.conf" >/dev/null
    if ! as_server "$PG_BIN/pg_ctl" -D "$CLUSTER/data" -l "$CLUSTER/log" -w -s start; then
        as_root tail -n 40 "$CLUSTER/log" >&2
        die "the server did not start"
    fi
    as_server sh -c 'echo "$2" > "$1/port"' - "$CLUSTER" "$PGPORT"
}

# cluster_find NAME: one that cluster_start has started, in another script. Sets what that sets.
cluster_find() {
    CLUSTER=$(readlink -f "$ROOT/target/$1")
    [ -f "$CLUSTER/port" ] || return 1
    PGHOST=$CLUSTER
    PGPORT=$(cat "$CLUSTER/port")
    PGUSER=postgres
    export PGHOST PGPORT PGUSER
}

# cluster_remove NAME: stops the cluster, if it is there, and removes its files.
cluster_remove() {
    local link=$ROOT/target/$1 directory
    [ -e "$link" ] || [ -L "$link" ] || return 0
    directory=$(readlink -f "$link")
    if [ -f "$directory/data/postmaster.pid" ]; then
        as_server "$PG_BIN/pg_ctl" -D "$directory/data" -s -m fast stop ||
            as_server "$PG_BIN/pg_ctl" -D "$directory/data" -s -m immediate stop || true
    fi
    rm -rf "$directory" "$link"
}
