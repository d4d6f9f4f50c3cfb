-- What everybody may use of the extension, and why. Whatever else there is, and whatever is added, is for its owner.
CREATE TEMPORARY TABLE allowed (name text PRIMARY KEY, why text NOT NULL);
INSERT INTO allowed VALUES
    ('schema sequin', 'its functions and views are named by it'),
    ('schema sequin_stream', 'the tables in it have rights of their own'),
    ('schema sequin_partition', 'so do these; their owners'' commands name them'),
    ('table sequin.streams', 'settings'),
    ('table sequin.consumers', 'settings'),
    ('table sequin.sources', 'settings'),
    ('table sequin.backfills', 'a policy shows the rows of the source''s owner'),
    ('table sequin.dead_letters', 'shows those of the consumer''s owner'),
    ('table sequin.scheduled', 'shows those of the caller''s roles'),
    ('table sequin.stream_stats', 'statistics; seqs and keys are shown to who may read them'),
    ('table sequin.consumer_stats', 'statistics; times are shown to who may read them'),
    ('table sequin.source_stats', 'statistics'),
    ('table sequin.workers', 'statistics');
INSERT INTO allowed
SELECT 'function sequin.' || name, 'checks its caller'
FROM unnest('{ack,alter_consumer,alter_source,alter_stream,backfill,cancel_backfill,create_consumer,create_source,
    create_stream,delete_key,drop_consumer,drop_source,drop_stream,extend,grant_consume,grant_publish,in_flight,messages,nack,
    pause_consumer,pause_source,publish,publish_many,published_before,purge,receive,redeliver,redrive,reject,repair_stream,resume_consumer,
    resume_source,rewind,schedule,unschedule}'::text[]) name;
INSERT INTO allowed
SELECT 'function sequin._' || name, 'behind the statistics, whose reader calls it; shows no more than they do'
FROM unnest('{consumer_stats,duplicates,inserted_at,last_seq,partitions,source_faults,source_workers,stream_stats,workers}'::text[]) name;
INSERT INTO allowed VALUES
    ('function sequin.key_matches', 'reads nothing'),
    ('function sequin.check_key', 'reads nothing; the constraint of streams'' tables'),
    ('function sequin.on_publish', 'create_stream makes triggers of it as its caller; of no other table than a stream''s'),
    ('function sequin.on_upsert', 'the same');

CREATE TEMPORARY TABLE found AS
SELECT 'schema ' || nspname AS name FROM pg_namespace
WHERE nspname IN ('sequin', 'sequin_stream', 'sequin_partition')
    AND (has_schema_privilege('public', oid, 'USAGE') OR has_schema_privilege('public', oid, 'CREATE'))
UNION ALL
SELECT 'table ' || oid::regclass FROM pg_class
WHERE relnamespace = 'sequin'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f', 'S') AND (CASE relkind
    WHEN 'S' THEN has_sequence_privilege('public', oid, 'USAGE, SELECT, UPDATE')
    ELSE has_table_privilege('public', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        OR has_any_column_privilege('public', oid, 'SELECT, INSERT, UPDATE, REFERENCES') END)
UNION ALL
SELECT 'function sequin.' || proname FROM pg_proc
WHERE pronamespace = 'sequin'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE');

SELECT name AS not_on_the_list FROM found EXCEPT SELECT name FROM allowed ORDER BY 1;
SELECT name AS on_the_list_in_vain FROM allowed EXCEPT SELECT name FROM found ORDER BY 1;

-- Everybody may read of the tables, and no more; nobody but a superuser may create anything there.
SELECT oid::regclass AS writable FROM pg_class
WHERE relnamespace = 'sequin'::regnamespace AND relkind IN ('r', 'v')
    AND has_table_privilege('public', oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
SELECT nspname AS creatable FROM pg_namespace
WHERE nspname IN ('sequin', 'sequin_stream', 'sequin_partition') AND has_schema_privilege('public', oid, 'CREATE');
-- No function runs with its owner's rights.
SELECT oid::regprocedure AS as_its_owner FROM pg_proc WHERE pronamespace = 'sequin'::regnamespace AND prosecdef;
