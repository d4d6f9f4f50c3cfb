# shellcheck shell=bash
# Sourced by regress.sh: a session that has all others forget what they know of tables, as debug_discard_caches would
# on a server that is built with assertions.

# disturb DATABASE: for as long as there is the server. The publication is nobody's but this transaction's; that it is for
# all tables, and gone again, invalidates every entry of everybody's relation cache at commit (CacheInvalidateRelcacheAll).
# As a publication was dropped, the dispatcher reads its settings again, too.
disturb() {
    local command="CREATE PUBLICATION disturbs FOR ALL TABLES WITH (publish = 'insert') \; DROP PUBLICATION disturbs"
    while [ -d "$CLUSTER" ]; do
        # Every 10 ms. The tests make their database only after a while.
        "$PG_BIN/psql" --no-psqlrc -d "$1" <<<"$command \\watch 0.01" >/dev/null 2>&1 || sleep 0.1
    done
}
