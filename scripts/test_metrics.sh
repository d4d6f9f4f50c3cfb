#!/usr/bin/env bash
# Scrapes a server with Debian's exporters, by the files of contrib/, and compares what comes with what SQL says; has promtool
# check the alert rules. Installs what it needs.   scripts/test_metrics.sh
source "$(dirname "$0")/common.sh"
source scripts/cluster.sh
find_postgres || die "run: make deps"

missing=()
for package in prometheus prometheus-postgres-exporter prometheus-sql-exporter curl; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} != 0 ]; then
    # Their services must not start here.
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod +x /usr/sbin/policy-rc.d
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    as_root rm -f /usr/sbin/policy-rc.d
fi

work=$(mktemp -d)
pids=()
finish() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    cluster_remove metrics
    rm -rf "$work"
}
trap finish EXIT

note "rules and dashboard"
promtool check rules contrib/prometheus/alerts.yml
python3 -m json.tool contrib/grafana/sequin.json >/dev/null

note "a server with messages"
cluster_start metrics
sql() { "$PG_BIN/psql" -XqAtv ON_ERROR_STOP=1 -d metrics "$@"; }
"$PG_BIN/createdb" metrics
sql <<'END' >/dev/null
CREATE EXTENSION sequin;
CREATE ROLE exporter LOGIN IN ROLE pg_monitor;
SELECT sequin.create_stream('orders', retain_for => '1 day');
SELECT sequin.create_consumer('orders', 'billing', ack_wait => '1 hour');
SELECT sequin.publish('orders', 'a.' || n, '{}') FROM generate_series(1, 100) n;
SELECT sequin.ack('billing', array(SELECT ack_id FROM sequin.receive('billing', 10)));
SELECT count(*) FROM sequin.receive('billing', 5);
END
sql -c "SELECT sequin.ack('billing', '{1}')" >/dev/null

# await URL PATTERN: the page, once it has a line that matches.
await() {
    local deadline=$((SECONDS + 60))
    until curl -fsS "$1" >"$work/page" 2>/dev/null && grep -Eq "$2" "$work/page"; do
        [ $SECONDS -lt $deadline ] || {
            cat "$work/page" "$work"/*.log >&2
            die "nothing like $2 at $1"
        }
        read -rt 0.2 <> <(:) || true
    done
}
# same PATTERN QUERY: the line that matches has the value that SQL says.
same() {
    local is should
    is=$(grep -E "$1" "$work/page" | awk '{ print $NF }')
    should=$(sql -c "$2")
    [ "$is" = "$should" ] || die "$1 is ${is:-missing}, should be $should"
    echo "$1 $is"
}

note "postgres_exporter"
port=$(cluster_free_port)
DATA_SOURCE_NAME="host=$PGHOST port=$PGPORT user=exporter dbname=metrics sslmode=disable" prometheus-postgres-exporter \
    --disable-default-metrics --disable-settings-metrics --extend.query-path=contrib/prometheus/postgres_exporter.yml \
    --web.listen-address="127.0.0.1:$port" >"$work/postgres_exporter.log" 2>&1 &
pids+=($!)
await "http://127.0.0.1:$port/metrics" '^sequin_consumer_ready\{'
same '^sequin_stream_messages\{.*stream="orders"' "SELECT messages FROM sequin.stream_stats"
same '^sequin_stream_partitions\{.*stream="orders"' "SELECT partitions FROM sequin.stream_stats"
same '^sequin_consumer_acked_total\{.*consumer="billing"' "SELECT acked_total FROM sequin.consumer_stats"
same '^sequin_consumer_in_flight\{.*consumer="billing"' "SELECT in_flight FROM sequin.consumer_stats"
same '^sequin_worker_up\{.*process="dispatcher"' "SELECT 1"
promtool check metrics <"$work/page" || [ $? = 3 ]
# Every metric that the rules and the dashboard name comes from the exporter's file.
for name in $(grep -oEh 'sequin_(stream|consumer|source|worker)_[a-z_]+' contrib/prometheus/alerts.yml contrib/grafana/sequin.json | sort -u); do
    resource=$(cut -d_ -f1,2 <<<"$name")
    awk -v resource="$resource:" -v column="- ${name#"${resource}"_}:" '
        /^[a-z]/ { here = $1 == resource } here && index($0, column) { found = 1 } END { exit !found }
    ' contrib/prometheus/postgres_exporter.yml || die "no exporter has $name"
done

note "sql_exporter"
port=$(cluster_free_port)
sed "s|postgres://exporter@localhost:5432/postgres|postgres://exporter@/metrics?host=$PGHOST\&port=$PGPORT\&|; s|&?sslmode|\&sslmode|; s|interval: 15s|interval: 1s|" \
    contrib/prometheus/sql_exporter.yml >"$work/sql_exporter.yml"
prometheus-sql-exporter -config.file "$work/sql_exporter.yml" -web.listen-address "127.0.0.1:$port" >"$work/sql_exporter.log" 2>&1 &
pids+=($!)
await "http://127.0.0.1:$port/metrics" '^sql_sequin_consumer\{'
same '^sql_sequin_stream\{col="messages".*stream="orders"' "SELECT messages FROM sequin.stream_stats"
same '^sql_sequin_consumer\{col="acked_total".*' "SELECT acked_total FROM sequin.consumer_stats"
same '^sql_sequin_worker\{col="up".*process="dispatcher"' "SELECT 1"

note "both exporters say what SQL says"
