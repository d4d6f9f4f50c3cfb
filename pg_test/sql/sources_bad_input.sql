-- Every error path of table sources: its SQLSTATE, message and hint; and at the end, nothing has changed.
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE FUNCTION source_state() RETURNS TABLE (what text, rows bigint) LANGUAGE sql AS $$
    SELECT 'sources', count(*) FROM sequin.sources
    UNION ALL SELECT 'backfills', count(*) FROM sequin.backfills WHERE status IN ('pending', 'running')
    UNION ALL SELECT 'publications', count(*) FROM pg_publication
$$;
SELECT sequin.create_stream('changes');
CREATE SCHEMA "Some Shop";
CREATE TABLE keyed (id integer PRIMARY KEY, name text);
CREATE TABLE keyless (id integer);
CREATE TABLE nothing (id integer PRIMARY KEY);
ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE deferred (id integer PRIMARY KEY DEFERRABLE);
CREATE TABLE "Some Shop"."an ""odd"" name" (id integer);
CREATE TABLE parted (id integer) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (1) TO (100);
ALTER TABLE parted REPLICA IDENTITY FULL;
CREATE TABLE "full" (id integer);
ALTER TABLE "full" REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE unlogged (id integer PRIMARY KEY);
CREATE TEMPORARY TABLE temporary (id integer PRIMARY KEY);
CREATE VIEW a_view AS SELECT * FROM keyed;
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM keyed;
CREATE SEQUENCE a_sequence;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE a_foreign_table (id integer) SERVER nowhere;
CREATE PUBLICATION of_keyless FOR TABLE keyless;
CREATE PUBLICATION sequin_taken FOR TABLE keyed;
CREATE PUBLICATION of_inserts FOR TABLE keyed, keyless WITH (publish = 'insert');
SELECT sequin.create_source('good', 'changes', '{keyed,keyed,full}', backfill => false);
SELECT sequin.create_source('users', 'changes', publication => 'of_inserts', backfill => false);
CREATE TEMPORARY TABLE before AS SELECT * FROM source_state();

-- create_source
SELECT attempt(format('SELECT sequin.create_source(%L, %L, ''{keyed}'')', name, stream)) FROM (VALUES
    (NULL, 'changes'), ('', 'changes'), ('with-dash', 'changes'), (repeat('x', 49), 'changes'), ('x', NULL),
    ('x', ''), ('x', 'missing'), ('good', 'changes'), ('taken', 'changes')) bad (name, stream);
SELECT regexp_replace(attempt(format('SELECT sequin.create_source(''x'', ''changes'', %s)', arguments)), 'pg_temp_\d+', 'pg_temp_N')
FROM unnest(ARRAY[
    $$'{}'$$, $$'{keyed,NULL}'$$, $$'{keyed}', publication => 'of_inserts'$$, $$publication => 'missing'$$,
    $$publication => 'of_keyless'$$, $$'{keyed}', key_format => NULL$$, $$'{keyed}', backfill => NULL$$,
    $$'{sequin_stream.changes}'$$, $$'{keyed,sequin.streams}'$$, $$'{pg_class}'$$,
    $$'{information_schema.sql_features}'$$, $$'{unlogged}'$$, $$'{temporary}'$$, $$'{a_view}'$$, $$'{a_matview}'$$,
    $$'{a_sequence}'$$, $$'{a_foreign_table}'$$, $$'{keyed_pkey}'$$, $$ARRAY[4294967295::oid::regclass]$$,
    $$'{missing}'$$, $$'{keyless}'$$, $$'{keyed,nothing}'$$, $$'{deferred}'$$,
    $$ARRAY['"Some Shop"."an ""odd"" name"'::regclass]$$, $$'{parted}'$$]) arguments;
SELECT attempt($$SELECT sequin.create_source('x', 'changes')$$);
SELECT attempt(format('SELECT sequin.create_source(''x'', ''changes'', ''{keyed}'', key_format => %L)', format)) FROM unnest(ARRAY[
    '', '.', 'a..b', 'a b', '{unknown}', '{schema', 'a}', '{column:}', 'a*', '>', rtrim(repeat('a.', 17), '.')]) format;

-- alter_source
SELECT attempt(format('SELECT sequin.alter_source(%s)', arguments)) FROM unnest(ARRAY[
    'NULL', $$'missing'$$, $$'good', stream => 'missing'$$, $$'good', stream => 'with-dash'$$, $$'good', tables => '{}'$$,
    $$'good', tables => '{NULL}'$$, $$'good', tables => '{keyless}'$$, $$'good', tables => '{sequin_stream.changes}'$$,
    $$'users', tables => '{keyed}'$$, $$'good', key_format => 'a..b'$$]) arguments;

-- Others
SELECT attempt(statement) FROM (
    SELECT format('SELECT sequin.%s(%L)', function, name) AS statement
    FROM unnest(ARRAY['pause_source', 'resume_source', 'drop_source']) function, (VALUES ('missing'), (NULL)) bad (name)
    ORDER BY function COLLATE "C", name) statements;
SELECT attempt($$SELECT sequin.drop_stream('changes')$$);
SELECT attempt(format('SELECT sequin.backfill(%s)', arguments)) FROM unnest(ARRAY[
    $$NULL, 'keyed'$$, $$'missing', 'keyed'$$, $$'good', NULL$$, $$'good', 'missing'$$, $$'good', 'keyless'$$,
    $$'good', 'sequin.streams'$$, $$'good', 'full'$$, $$'users', 'keyless'$$]) arguments;
SELECT attempt(format('SELECT sequin.backfill(''good'', ''keyed'', %L)', condition)) FROM unnest(ARRAY[
    '', 'id', 'id >', 'missing > 1', 'no_function(id)', 'id > ''x''', 'count(*) > 1', 'id = $1', 'true; SELECT true',
    'true) OR (true', 'true) UNION SELECT (true', 'true); DROP TABLE keyed; SELECT (true', 'true, true', 'true AS x',
    'DISTINCT true', 'true FROM pg_class', 'true ORDER BY 1', 'true /*', 'source_state() IS NULL', '*']) condition;
SELECT attempt($$SELECT sequin.cancel_backfill(NULL)$$);
SELECT attempt($$SELECT sequin.cancel_backfill(-1)$$);

-- A publication that was dropped by hand; a slot that is not here.
BEGIN;
UPDATE sequin.sources SET system = 0 WHERE name = 'good';
SELECT status, slot, last_error FROM sequin.source_stats WHERE source = 'good';
DROP PUBLICATION sequin_good;
SELECT attempt($$SELECT sequin.resume_source('good')$$);
ROLLBACK;

BEGIN READ ONLY;
SELECT attempt($$SELECT sequin.create_source('x', 'changes', '{keyed}')$$);
SELECT attempt($$SELECT sequin.resume_source('good')$$);
SELECT attempt($$SELECT sequin.pause_source('good')$$);
ROLLBACK;

-- Who may do what.
CREATE ROLE regress_sequin_owner;
CREATE ROLE regress_sequin_stranger;
CREATE TABLE owned (id integer PRIMARY KEY);
CREATE TABLE policed (id integer PRIMARY KEY);
ALTER TABLE owned OWNER TO regress_sequin_owner;
ALTER TABLE policed OWNER TO regress_sequin_owner;
ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
ALTER TABLE policed FORCE ROW LEVEL SECURITY;
SET ROLE regress_sequin_owner;
SELECT attempt($$SELECT sequin.create_source('x', 'changes', '{owned}')$$);
RESET ROLE;
GRANT INSERT ON sequin_stream.changes TO regress_sequin_owner;
SET ROLE regress_sequin_owner;
SELECT attempt(format('SELECT sequin.create_source(''x'', ''changes'', %s)', arguments)) FROM unnest(ARRAY[
    $$'{keyed}'$$, $$'{owned,keyed}'$$, 'NULL', $$publication => 'of_inserts'$$, $$'{policed}'$$]) arguments;
REVOKE SELECT ON owned FROM regress_sequin_owner;
SELECT attempt($$SELECT sequin.create_source('x', 'changes', '{owned}')$$);
GRANT SELECT ON owned TO regress_sequin_owner;
SELECT sequin.create_source('theirs', 'changes', '{owned,policed}', backfill => false);
SELECT attempt($$SELECT sequin.backfill('theirs', 'policed')$$);
SELECT attempt($$SELECT sequin.alter_source('theirs', tables => '{owned,keyed}')$$);
SELECT attempt($$ALTER PUBLICATION sequin_theirs ADD TABLE owned$$);
RESET ROLE;
SELECT sequin.create_stream('others');
SET ROLE regress_sequin_owner;
SELECT attempt($$SELECT sequin.alter_source('theirs', stream => 'others')$$);
SELECT sequin.backfill('theirs', 'owned') AS job \gset
SELECT sequin.pause_source('theirs');
SET ROLE regress_sequin_stranger;
SELECT attempt(statement) FROM unnest(ARRAY[
    $$SELECT sequin.alter_source('theirs')$$,
    $$SELECT sequin.pause_source('theirs')$$,
    $$SELECT sequin.resume_source('theirs')$$,
    $$SELECT sequin.drop_source('theirs')$$,
    $$SELECT sequin.backfill('theirs', 'owned')$$,
    $$DELETE FROM sequin.sources$$,
    $$INSERT INTO sequin.backfills (source, tbl, owner) VALUES ('good', 1, 1)$$,
    $$DELETE FROM sequin.source_progress$$]) statement;
SELECT attempt(format('SELECT sequin.cancel_backfill(%L)', :job));
-- What everybody sees.
SELECT name, stream, owner, publication, paused FROM sequin.sources ORDER BY name;
SELECT count(*) FROM sequin.source_stats;
SELECT count(*) FROM sequin.backfills;
RESET ROLE;
-- A member of the source's owner who may not read the table.
GRANT regress_sequin_owner TO regress_sequin_stranger;
ALTER TABLE owned OWNER TO postgres;
SET ROLE regress_sequin_stranger;
SELECT attempt($$SELECT sequin.backfill('theirs', 'owned')$$);
SELECT count(*) FROM sequin.backfills;
SELECT sequin.cancel_backfill(:job) IS NOT NULL, sequin.cancel_backfill(:job);
SELECT sequin.drop_source('theirs');
RESET ROLE;
SELECT sequin.drop_stream('others');
DROP TABLE owned, policed;
DROP OWNED BY regress_sequin_owner, regress_sequin_stranger;
DROP ROLE regress_sequin_owner, regress_sequin_stranger;

-- Nothing has changed.
SELECT * FROM source_state() EXCEPT SELECT * FROM before;
SELECT name, stream, publication, owns_publication, key_format, backfill, paused, generation FROM sequin.sources ORDER BY name;
SELECT pubname, tablename FROM pg_publication_tables ORDER BY 1, 2;
SELECT sequin.drop_stream('changes', force => true);
SELECT pubname FROM pg_publication ORDER BY 1;
DROP PUBLICATION of_keyless, sequin_taken, of_inserts;
DROP FUNCTION source_state();
DROP TABLE before;
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
DROP MATERIALIZED VIEW a_matview;
DROP VIEW a_view;
DROP SEQUENCE a_sequence;
DROP TABLE keyed, keyless, nothing, deferred, parted, "full", unlogged;
DROP SCHEMA "Some Shop" CASCADE;
