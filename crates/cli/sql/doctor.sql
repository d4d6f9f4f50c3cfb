-- What is wrong, or soon will be: a row for each finding, and one that says ok where a check finds nothing.
WITH here AS (
    SELECT current_database() AS database, pg_is_in_recovery() AS is_standby,
           EXISTS (SELECT FROM sequin.sources) AS has_sources
), findings(position, name, status, since, what, remedy) AS (
    SELECT 1, 'version', 'error', NULL::timestamptz,
           format('the schema is of version %s, the library of %s', a.installed_version, a.default_version),
           'ALTER EXTENSION sequin UPDATE;'
    FROM pg_available_extensions a WHERE a.name = 'sequin' AND a.installed_version <> a.default_version
    UNION ALL
    SELECT 2, 'standby', 'warning', NULL, 'this server is a standby: nothing is published or received here',
           '-- connect to the primary: target_session_attrs=read-write'
    FROM here WHERE is_standby
    UNION ALL
    SELECT 3, 'workers', 'error', NULL, 'no launcher is running: sequin is not preloaded, or the server has no room for it',
           'ALTER SYSTEM SET shared_preload_libraries = ''sequin''; -- after what is there already; then restart the server'
    FROM here WHERE NOT is_standby AND NOT EXISTS (SELECT FROM sequin.workers w WHERE w.process = 'launcher' AND w.pid IS NOT NULL)
    UNION ALL
    SELECT 3, 'workers', 'error', w.since, format('the %s is %s%s', w.process, w.state, ': ' || w.last_error),
           'SELECT process, state, last_error FROM sequin.workers; -- the server''s log has all of it'
    FROM sequin.workers w, here
    WHERE NOT is_standby AND w.pid IS NULL AND (w.database IS NULL OR w.database = here.database)
      AND w.process IN ('launcher', 'dispatcher')
    UNION ALL
    SELECT 3, 'workers', 'error', NULL, 'no dispatcher is running in this database',
           'SELECT name, setting FROM pg_settings WHERE name IN (''sequin.max_databases'', ''max_worker_processes''); -- is there room?'
    FROM here
    WHERE NOT is_standby AND NOT EXISTS (SELECT FROM sequin.workers w WHERE w.process = 'dispatcher' AND w.database = here.database)
    UNION ALL
    SELECT 3, 'workers', 'warning', w.since, format('the %s says: %s', w.process, w.last_error),
           'SELECT process, state, last_error FROM sequin.workers;'
    FROM sequin.workers w, here
    WHERE w.pid IS NOT NULL AND w.last_error IS NOT NULL AND (w.database IS NULL OR w.database = here.database)
      AND w.process <> 'capturer'
    UNION ALL
    SELECT 4, 'worker headroom', 'warning', NULL,
           format('%s of max_worker_processes = %s are in use', u.used, u.allowed),
           format('ALTER SYSTEM SET max_worker_processes = %s; -- then restart the server', u.allowed * 2)
    FROM (SELECT count(*) AS used, current_setting('max_worker_processes')::integer AS allowed
          FROM pg_stat_activity
          WHERE backend_type LIKE 'sequin%' OR backend_type IN ('parallel worker', 'logical replication launcher', 'logical replication worker')) u
    WHERE u.used + 1 >= u.allowed
    UNION ALL
    SELECT 5, 'wal_level', 'error', NULL, format('wal_level is %s, and table sources need logical', current_setting('wal_level')),
           'ALTER SYSTEM SET wal_level = logical; -- then restart the server'
    FROM here WHERE has_sources AND current_setting('wal_level') <> 'logical'
    UNION ALL
    SELECT 6, 'slot headroom', 'warning', NULL, format('all of max_replication_slots = %s are in use', current_setting('max_replication_slots')),
           format('ALTER SYSTEM SET max_replication_slots = %s; -- then restart the server', current_setting('max_replication_slots')::integer * 2 + 1)
    FROM here
    WHERE has_sources AND (SELECT count(*) FROM pg_replication_slots) >= current_setting('max_replication_slots')::integer
    UNION ALL
    SELECT 7, 'max_slot_wal_keep_size', 'warning', NULL, 'WAL that slots keep has no limit: a source that stands still fills the disk',
           'ALTER SYSTEM SET max_slot_wal_keep_size = ''64GB''; SELECT pg_reload_conf(); -- what the disk can spare'
    FROM here WHERE has_sources AND current_setting('max_slot_wal_keep_size') = '-1'
    UNION ALL
    SELECT 8, 'sources', CASE WHEN s.status = 'paused' THEN 'warning' ELSE 'error' END, s.last_commit_time,
           format('source %I is %s%s', s.source, s.status, ': ' || s.last_error),
           format('SELECT sequin.resume_source(%L); -- after what last_error says', s.source)
    FROM sequin.source_stats s WHERE s.status IN ('lost', 'failed', 'ownerless', 'restored', 'paused')
    UNION ALL
    SELECT 8, 'sources', 'warning', s.last_commit_time,
           format('source %I is %s behind, and its slot keeps %s of WAL', s.source, pg_size_pretty(s.lag_bytes), pg_size_pretty(s.retained_bytes)),
           'SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start; -- does a long transaction hold it?'
    FROM sequin.source_stats s WHERE s.retained_bytes > 1 << 30 AND s.status IN ('streaming', 'backfilling')
    UNION ALL
    SELECT 9, 'replica identity', 'error', NULL,
           format('table %s of source %I has no replica identity: UPDATE and DELETE on it fail', c.oid::regclass, s.name),
           format('ALTER TABLE %s ADD PRIMARY KEY (..); -- or REPLICA IDENTITY FULL', c.oid::regclass)
    FROM sequin.sources s
    JOIN pg_publication_tables t ON t.pubname = s.publication
    JOIN pg_class c ON c.oid = format('%I.%I', t.schemaname, t.tablename)::regclass
    WHERE c.relreplident = 'n' OR c.relreplident = 'd'
      AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
    UNION ALL
    SELECT 10, 'long values', 'warning', NULL,
           format('table %s of source %I has long values, which an UPDATE that leaves them alone does not have', c.oid::regclass, s.name),
           format('ALTER TABLE %s REPLICA IDENTITY FULL; -- if consumers need them', c.oid::regclass)
    FROM sequin.sources s
    JOIN pg_publication_tables t ON t.pubname = s.publication
    JOIN pg_class c ON c.oid = format('%I.%I', t.schemaname, t.tablename)::regclass
    WHERE c.relreplident <> 'f' AND c.reltoastrelid <> 0 AND pg_relation_size(c.reltoastrelid) > 0
    UNION ALL
    SELECT 11, 'vacuum horizon', 'warning', a.xact_start,
           format('process %s has a transaction open, and keeps dead rows from being vacuumed', a.pid),
           format('SELECT pg_terminate_backend(%s); -- if it may end', a.pid)
    FROM pg_stat_activity a
    WHERE a.backend_type = 'client backend' AND a.backend_xmin IS NOT NULL AND a.xact_start < now() - interval '1 hour'
    UNION ALL
    SELECT 11, 'vacuum horizon', 'warning', p.prepared, format('the prepared transaction %L is open', p.gid),
           format('ROLLBACK PREPARED %L; -- or COMMIT PREPARED', p.gid)
    FROM pg_prepared_xacts p WHERE p.prepared < now() - interval '1 hour'
    UNION ALL
    SELECT 12, 'open publishers', 'warning', t.oldest_publisher_since,
           format('process %s has published to stream %I, and not committed', t.oldest_publisher_pid, t.stream),
           format('SELECT pg_terminate_backend(%s); -- if it may end', t.oldest_publisher_pid)
    FROM sequin.stream_stats t WHERE t.oldest_publisher_since < now() - interval '5 minutes'
    UNION ALL
    SELECT 13, 'consumers', 'error', NULL, format('consumer %I is %s%s', c.consumer, c.status, ': ' || c.last_error),
           CASE c.status WHEN 'damaged' THEN format('SELECT * FROM sequin.repair_stream(%L);', c.stream)
                         WHEN 'ownerless' THEN format('SELECT sequin.alter_consumer(%L, owner => ''ROLE'');', c.consumer)
                         ELSE 'SELECT process, state, last_error FROM sequin.workers;' END
    FROM sequin.consumer_stats c WHERE c.status IN ('damaged', 'ownerless', 'unknown')
    UNION ALL
    SELECT 14, 'stalled consumers', 'warning', c.oldest_unacked_at,
           format('nobody receives from consumer %I: %s messages are ready', c.consumer, c.ready),
           format('SELECT * FROM sequin.consumer_stats WHERE consumer = %L; -- are its workers up? Else drop_consumer()', c.consumer)
    FROM sequin.consumer_stats c
    WHERE c.status = 'active' AND c.ready > 0 AND c.in_flight = 0 AND c.waiting = 0
      AND c.oldest_unacked_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 15, 'dead letters', 'warning', min(d.dead_at),
           format('consumer %I has %s new dead letters since an hour', d.consumer, count(*)),
           format('SELECT seq, key, reason FROM sequin.dead_letters WHERE consumer = %L; -- then sequin.redrive(%1$L)', d.consumer)
    FROM sequin.dead_letters d WHERE d.dead_at > now() - interval '1 hour' GROUP BY d.consumer
    UNION ALL
    SELECT 16, 'schedules', 'warning', min(c.deliver_at), format('%s scheduled messages for stream %I were refused', count(*), c.stream),
           format('SELECT id, key, reason FROM sequin.scheduled WHERE stream = %L AND reason IS NOT NULL; -- then sequin.unschedule(id)', c.stream)
    FROM sequin.scheduled c WHERE c.reason IS NOT NULL GROUP BY c.stream
), checks(position, name) AS (
    VALUES (1, 'version'), (2, 'standby'), (3, 'workers'), (4, 'worker headroom'), (5, 'wal_level'), (6, 'slot headroom'),
           (7, 'max_slot_wal_keep_size'), (8, 'sources'), (9, 'replica identity'), (10, 'long values'), (11, 'vacuum horizon'),
           (12, 'open publishers'), (13, 'consumers'), (14, 'stalled consumers'), (15, 'dead letters'), (16, 'schedules')
)
SELECT c.name, coalesce(f.status, 'ok') AS status, f.since, f.what, f.remedy
FROM checks c LEFT JOIN findings f USING (position)
ORDER BY c.position, f.status, f.what
