-- What there is to look at. Each view's numbers come from the dispatcher, or are NULL while it doesn't run.

CREATE VIEW sequin.stream_stats AS
SELECT s.name AS stream,
       t.messages,
       t.bytes,
       t.first_seq,
       t.last_seq,
       t.last_seq AS published_total,
       t.open_publishers,
       t.oldest_publisher_pid,
       t.oldest_publisher_since,
       sequin._duplicates(s.name) AS duplicates_total,
       sequin._partitions(s.name) AS partitions,
       s.retention_blocked
FROM sequin.streams s
LEFT JOIN LATERAL sequin._stream_stats(s.name) t ON true;

CREATE VIEW sequin.consumer_stats AS
SELECT c.name AS consumer,
       c.stream,
       s.ready,
       s.in_flight,
       s.delayed,
       s.withheld,
       s.ack_floor,
       greatest(l.last_seq - s.cursor, 0) AS lag,
       s.redelivered_total,
       s.acked_total,
       s.dead_total,
       sequin._inserted_at(c.stream, s.first_unfinished) AS oldest_unacked_at,
       s.waiting,
       CASE WHEN o.is_gone THEN 'ownerless'
            WHEN s.consumer_id IS NULL THEN 'unknown'
            WHEN s.is_damaged THEN 'damaged'
            WHEN c.paused THEN 'paused'
            ELSE 'active' END AS status,
       CASE WHEN o.is_gone
            THEN 'the role that owned the consumer is gone; give it to another by sequin.alter_consumer(.., owner => ..)'
            ELSE s.last_error END AS last_error
FROM sequin.consumers c
CROSS JOIN LATERAL (SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = c.owner) AS is_gone) o
LEFT JOIN sequin._consumer_stats() s ON s.consumer_id = c.id
LEFT JOIN LATERAL sequin._last_seq(c.stream) l(last_seq) ON true;

-- A source that is not here came with a dump: its slot stayed where it was.
CREATE VIEW sequin.source_stats AS
SELECT s.name AS source,
       s.stream,
       x.slot,
       t.status,
       pg_catalog.pg_wal_lsn_diff(h.lsn, r.confirmed_flush_lsn)::bigint AS lag_bytes,
       pg_catalog.pg_wal_lsn_diff(h.lsn, r.restart_lsn)::bigint AS retained_bytes,
       p.lsn AS last_commit_lsn,
       p.commit_time AS last_commit_time,
       coalesce(p.captured_total, 0) AS captured_total,
       b.pending AS backfills_pending,
       b.tbl AS backfill_table,
       b.rows_read AS backfill_rows,
       CASE t.status
           WHEN 'ownerless'
               THEN 'the role that owned the source is gone; give it to another by sequin.alter_source(.., owner => ..)'
           WHEN 'restored' THEN 'the source was restored from a dump, without its slot; call sequin.resume_source()'
           WHEN 'lost' THEN 'the slot of the source is lost, and changes with it; call sequin.resume_source()'
           -- It has no entry in shared memory: the dispatcher says why.
           WHEN 'starting' THEN coalesce(q.fault, w.last_error, CASE WHEN w.source_id IS NULL THEN e.last_error END)
           ELSE coalesce(q.fault, w.last_error, f.what) END AS last_error
FROM (SELECT c.system_identifier AS system, d.oid AS database,
             CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                  ELSE pg_catalog.pg_current_wal_lsn() END AS lsn
      FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d
      WHERE d.datname = pg_catalog.current_database()) h
CROSS JOIN sequin.sources s
LEFT JOIN LATERAL (
    SELECT pg_catalog.format('sequin_%s_%s_%s', s.database, s.id, s.generation) AS slot
    WHERE s.system = h.system AND s.database = h.database) x ON true
LEFT JOIN pg_catalog.pg_replication_slots r ON r.slot_name = x.slot
LEFT JOIN LATERAL (
    SELECT q.lsn, q.commit_time, q.captured_total
    FROM sequin.source_progress q
    WHERE q.source_id = s.id AND q.generation = s.generation
    ORDER BY q.source_id DESC, q.generation DESC, q.id DESC LIMIT 1) p ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE f.status = 'pending') AS pending,
           min(f.tbl::regclass::text) FILTER (WHERE f.status = 'running') AS tbl,
           min(f.rows_read) FILTER (WHERE f.status = 'running') AS rows_read
    FROM sequin.backfills f
    WHERE f.source = s.name AND f.status IN ('pending', 'running')) b ON true
-- One that has failed, and that none has made up for since.
LEFT JOIN LATERAL (
    SELECT pg_catalog.format(
               E'backfill %s of table %s has failed: %s. Changes are captured. Mend it and call sequin.backfill(%L, %L, ..), or '
               'forget it: sequin.cancel_backfill(%s)',
               o.id, o.tbl::regclass,
               CASE WHEN pg_catalog.pg_has_role(s.owner, 'USAGE') THEN o.error
                    ELSE 'members of the source''s owner see why in sequin.backfills' END,
               s.name, o.tbl::regclass, o.id) AS what
    FROM sequin.backfills o
    WHERE o.source = s.name AND o.status = 'failed' AND NOT EXISTS (
        SELECT FROM sequin.backfills n
        WHERE n.source = o.source AND n.tbl = o.tbl AND n.id > o.id AND n.status <> 'cancelled'
          AND (n.condition IS NULL OR n.condition = o.condition))
    ORDER BY o.id DESC LIMIT 1) f ON true
LEFT JOIN sequin._source_workers() w ON w.source_id = s.id
LEFT JOIN sequin._source_faults() q ON q.source_id = s.id
LEFT JOIN sequin._workers() e ON e.process = 'dispatcher' AND e.database = pg_catalog.current_database()
CROSS JOIN LATERAL (
    SELECT CASE WHEN x.slot IS NULL THEN 'restored'
                WHEN r.wal_status = 'lost' OR r.slot_name IS NULL AND p.lsn IS NOT NULL THEN 'lost'
                WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_roles o WHERE o.oid = s.owner) THEN 'ownerless'
                WHEN s.paused THEN 'paused'
                WHEN q.fault IS NOT NULL OR w.pid IS NULL AND w.last_error IS NOT NULL THEN 'failed'
                WHEN w.pid IS NULL OR p.lsn IS NULL THEN 'starting'
                WHEN w.last_error IS NOT NULL OR f.what IS NOT NULL THEN 'failed'
                WHEN b.tbl IS NOT NULL THEN 'backfilling'
                ELSE 'streaming' END AS status) t;

-- What users see of the dead letters: those of consumers whose owner they are members of. No row-level security on the
-- table, which a role that only makes backups could not dump then. Who may read the table sees all.
CREATE VIEW sequin.dead_letters WITH (security_barrier) AS
SELECT d.consumer, d.seq, d.key, d.data, d.headers, d.deliver_count, d.reason, d.dead_at
FROM sequin.all_dead_letters d
WHERE pg_catalog.has_table_privilege('sequin.all_dead_letters'::pg_catalog.regclass, 'SELECT')
   OR EXISTS (
        SELECT FROM sequin.consumers c
        WHERE c.name = d.consumer AND pg_catalog.pg_has_role(c.owner, 'USAGE'));

-- The same for what is scheduled: for members of the role that has scheduled it.
CREATE VIEW sequin.scheduled WITH (security_barrier) AS
SELECT s.id, s.stream, s.key, s.data, s.headers, s.deliver_at, s.owner, s.scheduled_at, s.reason
FROM sequin.schedules s
WHERE pg_catalog.has_table_privilege('sequin.schedules'::pg_catalog.regclass, 'SELECT')
   OR pg_catalog.pg_has_role(s.owner, 'USAGE');

CREATE VIEW sequin.workers AS
SELECT w.process, w.database, w.pid, w.state, w.since, w.last_error
FROM sequin._workers() w;

-- Changes nothing, but runs the trigger: has the launcher start a dispatcher when CREATE EXTENSION commits.
TRUNCATE sequin.streams;
