-- Streams that keep messages for a while. What the janitor does in time is for the black-box tests.
CREATE VIEW kept AS SELECT name, retain_for, retain_messages, retain_bytes, retain_until_acked FROM sequin.streams ORDER BY name;
CREATE VIEW parts AS
SELECT regexp_replace(c.relname, '\d+$', 'N') AS partition, pg_get_expr(c.relpartbound, c.oid) AS seqs, c.relowner::regrole AS owner
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('sequin_stream.kept');

SELECT sequin.create_stream('kept', retain_for => '1 day', retain_messages => 1000000);
SELECT * FROM kept;
SELECT * FROM parts WHERE seqs = 'DEFAULT' OR seqs LIKE '%MINVALUE%' ORDER BY seqs;
SELECT partitions >= 4 AS has_partitions, retention_blocked FROM sequin.stream_stats WHERE stream = 'kept';

-- In all ways, in the partition and in the rest.
SELECT sequin.create_consumer('kept', 'kept_all');
SELECT sequin.publish('kept', 'a', '1');
SELECT count(*) FROM sequin.publish_many('kept', (SELECT array_agg('k.' || n) FROM generate_series(1, 2500) n), array_fill('2'::jsonb, ARRAY[2500]));
INSERT INTO sequin_stream.kept (key, data) SELECT 'i.' || n, '3' FROM generate_series(1, 100) n;
COPY sequin_stream.kept (key, data) FROM stdin;
c.1	4
c.2	4
\.
SELECT count(*), min(seq), max(seq) FROM sequin_stream.kept;
SELECT count(DISTINCT tableoid) > 1 AS spread FROM sequin_stream.kept;
SELECT sequin.publish('kept', 'bad..key', '1');
INSERT INTO sequin_stream.kept (key, data) VALUES ('bad..key', '1');
SELECT seq, key FROM sequin.messages('kept', 'k.*', after_seq => 999, max_messages => 3);
SELECT seq, key FROM sequin.messages('kept', 'k.1234');
SELECT messages, first_seq, last_seq FROM sequin.stream_stats WHERE stream = 'kept';
SELECT sequin.purge('kept', before_seq => 11);

-- As settings change.
SELECT sequin.alter_stream('kept', retain_bytes => 5000000, reset => '{retain_messages}');
SELECT * FROM kept;
SELECT sequin.alter_stream('kept', retain_until_acked => true);
SELECT * FROM kept;
SELECT sequin.alter_stream('kept', reset => '{retain_for,retain_bytes,retain_until_acked}');
SELECT * FROM kept;
SELECT sequin.alter_stream('kept', dedup_window => '1 hour');
SELECT sequin.alter_stream('kept', retain_for => '0 s');
SELECT sequin.alter_stream('kept', retain_messages => 0);
SELECT sequin.create_stream('bad', retain_for => '102 years');
SELECT sequin.create_stream('bad', retain_until_acked => NULL);
SELECT sequin.create_stream('bad', one_message_per_key => true, retain_for => '1 day');
SELECT sequin.create_stream('one', one_message_per_key => true);
SELECT sequin.alter_stream('one', retain_messages => 10);
SELECT sequin.drop_stream('one');

-- A table of somebody else's is no partition of it, and gets none of it.
CREATE TABLE mine (LIKE sequin_stream.kept);
ALTER TABLE sequin_stream.kept ATTACH PARTITION mine FOR VALUES FROM (9000000) TO (9000001);
CREATE TABLE another PARTITION OF sequin_stream.kept FOR VALUES FROM (9000000) TO (9000001);
SELECT sequin.drop_stream('kept', force => true);
SELECT count(*) FROM pg_class WHERE relnamespace = 'sequin_partition'::regnamespace;

-- A plain stream gets partitions with the first limit, and keeps what it had.
CREATE ROLE kept_owner;
CREATE ROLE kept_reader;
CREATE ROLE kept_publisher;
GRANT CREATE ON SCHEMA sequin_stream TO kept_owner;
SET ROLE kept_owner;
SELECT sequin.create_stream('kept');
COMMENT ON TABLE sequin_stream.kept IS 'what is kept';
COMMENT ON COLUMN sequin_stream.kept.data IS 'what is in it';
ALTER TABLE sequin_stream.kept ADD COLUMN tenant text;
SELECT sequin.grant_consume('kept', 'kept_reader');
GRANT INSERT (key, data, headers), SELECT (seq) ON sequin_stream.kept TO kept_publisher WITH GRANT OPTION;
SELECT sequin.publish('kept', 'a', '1', dedup_id => 'first');
SELECT sequin.publish('kept', 'b', '2');
SELECT a AS acl FROM pg_class, unnest(relacl) a WHERE oid = 'sequin_stream.kept'::regclass AND a::text LIKE 'kept_reader%';
SELECT attname, attacl FROM pg_attribute WHERE attrelid = 'sequin_stream.kept'::regclass AND attacl IS NOT NULL ORDER BY attnum;
RESET ROLE;
REVOKE CREATE ON SCHEMA sequin_stream FROM kept_owner;
SET ROLE kept_reader;
SELECT sequin.alter_stream('kept', retain_for => '1 day');
SET ROLE kept_owner;
SELECT sequin.alter_stream('kept', retain_for => '1 day');
SELECT relkind, relowner::regrole FROM pg_class WHERE oid = 'sequin_stream.kept'::regclass;
SELECT a AS acl FROM pg_class, unnest(relacl) a WHERE oid = 'sequin_stream.kept'::regclass AND a::text LIKE 'kept_reader%';
SELECT attname, attacl FROM pg_attribute WHERE attrelid = 'sequin_stream.kept'::regclass AND attacl IS NOT NULL ORDER BY attnum;
SELECT obj_description('sequin_stream.kept'::regclass), col_description('sequin_stream.kept'::regclass, 3);
SELECT count(*) AS with_rights FROM pg_class c WHERE c.relnamespace = 'sequin_partition'::regnamespace AND c.relkind = 'r'
    AND (has_table_privilege('kept_reader', c.oid, 'SELECT') OR has_any_column_privilege('kept_publisher', c.oid, 'INSERT'));
SELECT sequin.publish('kept', 'c', '3', dedup_id => 'first');
SELECT sequin.publish('kept', 'c', '3');
SELECT seq, key, data, tenant FROM sequin_stream.kept ORDER BY seq;
RESET ROLE;
SELECT * FROM parts WHERE seqs = 'DEFAULT' OR seqs LIKE '%MINVALUE%' ORDER BY seqs;
SELECT indexrelid::regclass, indisprimary FROM pg_index WHERE indrelid = 'sequin_stream.kept'::regclass ORDER BY 1;
SELECT sequin.drop_stream('kept');

-- What would be lost is in the way.
SELECT sequin.create_stream('kept');
CREATE VIEW on_kept AS SELECT key FROM sequin_stream.kept;
CREATE TABLE refers (seq bigint REFERENCES sequin_stream.kept (seq));
CREATE INDEX kept_time ON sequin_stream.kept (inserted_at);
ALTER TABLE sequin_stream.kept ADD CONSTRAINT once UNIQUE (inserted_at);
CREATE POLICY all_of_it ON sequin_stream.kept USING (true);
SELECT sequin.alter_stream('kept', retain_for => '1 day');
DROP VIEW on_kept;
DROP TABLE refers;
DROP INDEX sequin_stream.kept_time;
ALTER TABLE sequin_stream.kept DROP CONSTRAINT once;
DROP POLICY all_of_it ON sequin_stream.kept;
SELECT sequin.alter_stream('kept', retain_for => '1 day');
SELECT sequin.drop_stream('kept');

DROP VIEW kept, parts;
DROP TABLE mine;
DROP ROLE kept_owner, kept_reader, kept_publisher;
