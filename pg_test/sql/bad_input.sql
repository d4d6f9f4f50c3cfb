-- Every error path: its SQLSTATE, message and hint; and at the end, nothing has changed.
\pset format unaligned
\pset tuples_only on
SELECT sequin.create_stream('good');
SELECT sequin.create_consumer('good', 'reader');
CREATE TEMPORARY TABLE before AS SELECT * FROM state();

-- Keys and filters
SELECT attempt(format('SELECT sequin.key_matches(%L, %L)', key, filter)) FROM (VALUES
    ('', 'a'), ('a..b', 'a'), ('.a', 'a'), ('a.', 'a'), ('a b', 'a'), (E'a\tb', 'a'), (E'a\u007f', 'a'), (E'a\u00a0b', 'a'),
    ('a.*', 'a'), ('>', 'a'), ('a*', 'a'), (repeat('x', 256), 'a'), (rtrim(repeat('a.', 17), '.'), 'a'),
    ('a', ''), ('a', 'a..b'), ('a', 'a*'), ('a', '**'), ('a', '>.a'), ('a', 'a>'), ('a', 'a b'),
    ('a', rtrim(repeat('*.', 17), '.')), ('a', repeat('x', 256)), (NULL, 'a'), ('a', NULL)) bad (key, filter);

-- Streams
SELECT attempt(format('SELECT sequin.create_stream(%L)', name)) FROM (VALUES
    (''), ('with-dash'), ('with space'), ('with.dot'), ('ünicode'), (repeat('x', 49)), ('good'), (NULL)) bad (name);
SELECT attempt($$SELECT sequin.create_stream('x', one_message_per_key => NULL)$$);
SELECT attempt($$SELECT sequin.create_stream('x', index_keys => NULL)$$);
SELECT attempt($$SELECT sequin.create_stream('x', retain_for => '1 ms')$$);
SELECT attempt($$SELECT sequin.create_stream('x', retain_messages => 0)$$);
SELECT attempt($$SELECT sequin.create_stream('x', retain_bytes => -1)$$);
SELECT attempt($$SELECT sequin.alter_stream('good', '1 ms', NULL, NULL)$$);
SELECT attempt($$SELECT sequin.alter_stream('missing', NULL, NULL, NULL)$$);
SELECT attempt($$SELECT sequin.alter_stream(NULL, NULL, NULL, NULL)$$);
SELECT attempt(format('SELECT sequin.%s(%L, %L)', function, stream, role)) FROM
    (VALUES ('grant_publish'), ('grant_consume')) functions (function),
    (VALUES ('missing', 'pg_monitor'), ('good', NULL), (NULL, 'pg_monitor'), ('good', '4000000000'), ('good', 'no_such_role')) bad (stream, role);
SELECT attempt($$SELECT sequin.repair_stream('missing')$$);
SELECT attempt($$SELECT sequin.repair_stream(NULL)$$);
SELECT attempt($$SELECT sequin.drop_stream('missing')$$);
SELECT attempt($$SELECT sequin.drop_stream(NULL)$$);
SELECT attempt($$SELECT sequin.drop_stream('good', NULL)$$);
SELECT attempt($$SELECT sequin.drop_stream('good')$$);

-- Publishing
SELECT attempt(format('SELECT sequin.publish(%L, %L, %L)', stream, key, data)) FROM (VALUES
    ('missing', 'a', '1'), ('', 'a', '1'), (NULL, 'a', '1'), ('good', NULL, '1'), ('good', 'a', NULL),
    ('good', '', '1'), ('good', 'a..b', '1'), ('good', 'a.*', '1'), ('good', 'a b', '1'), ('good', '>', '1'),
    ('good', repeat('x', 256), '1'), ('good', rtrim(repeat('a.', 17), '.'), '1'), ('good', 'a', 'no json')) bad (stream, key, data);
SELECT attempt($$SELECT sequin.publish('good', 'a', '1', deliver_at => 'infinity')$$);
SELECT attempt($$SELECT sequin.publish('good', 'a', '1', dedup_id => '')$$);
SELECT attempt(format('SELECT * FROM sequin.publish_many(%L, %L, %L)', stream, keys, data)) FROM (VALUES
    ('missing', '{a}', '{1}'), (NULL, '{a}', '{1}'), ('good', NULL, '{1}'), ('good', '{a}', NULL),
    ('good', '{a,b}', '{1}'), ('good', '{a}', '{1,2}'), ('good', '{a,NULL}', '{1,2}'), ('good', '{a,b}', '{1,NULL}'),
    ('good', '{a,a*}', '{1,2}')) bad (stream, keys, data);
SELECT attempt($$SELECT * FROM sequin.publish_many('good', '{a,b}', '{1,2}', ARRAY['{}']::jsonb[])$$);
SELECT attempt(format('SELECT sequin.delete_key(%L, %L)', stream, key)) FROM (VALUES
    ('good', 'a'), ('missing', 'a'), (NULL, 'a'), ('good', NULL), ('no-name', 'a')) bad (stream, key);
SELECT attempt($$INSERT INTO sequin_stream.good (key, data) VALUES ('a b', '1')$$);
SELECT attempt($$INSERT INTO sequin_stream.good (key, data) VALUES ('a..b', '1')$$);
SELECT attempt($$INSERT INTO sequin_stream.good (key, data) VALUES (NULL, '1')$$);
SELECT attempt($$INSERT INTO sequin_stream.good (key, data) VALUES ('a', NULL)$$);
SELECT attempt($$INSERT INTO sequin_stream.good (seq, key, data) VALUES (1, 'a', '1')$$);

-- Consumers
SELECT attempt(format('SELECT sequin.create_consumer(%L, %L)', stream, name)) FROM (VALUES
    ('missing', 'x'), (NULL, 'x'), ('good', NULL), ('good', ''), ('good', 'with-dash'), ('good', repeat('x', 49)),
    ('good', 'reader')) bad (stream, name);
SELECT attempt(format('SELECT sequin.create_consumer(''good'', ''x'', %s)', setting)) FROM unnest(ARRAY[
    $$filters => '{}'$$, $$filters => NULL$$, $$filters => '{a,NULL}'$$, $$filters => '{a*}'$$, $$filters => '{">.a"}'$$,
    $$ack_wait => '0'$$, $$ack_wait => '-1 s'$$, $$ack_wait => '1000 years'$$, $$ack_wait => NULL$$,
    'max_ack_pending => 0', 'max_ack_pending => -1', 'max_ack_pending => 2147483647', 'max_ack_pending => NULL',
    'max_deliver => 0', 'max_deliver => -1', $$backoff => '{-1 s}'$$, $$backoff => '{1 s,NULL}'$$,
    'ordered => NULL', 'start_seq => -1', $$start_seq => 1, start_time => now()$$, 'start_seq => 1, new_only => true',
    'start_time => now(), new_only => true', 'new_only => NULL', $$condition => 'true'$$,
    $$transform => 'jsonb_pretty(jsonb)'::regprocedure::oid::regproc$$]) setting;
SELECT attempt(format('SELECT sequin.alter_consumer(%s)', arguments)) FROM unnest(ARRAY[
    $$'missing'$$, 'NULL', $$'reader', filters => '{}'$$, $$'reader', filters => '{a*}'$$, $$'reader', ack_wait => '0'$$,
    $$'reader', max_ack_pending => 0$$, $$'reader', max_deliver => -1$$, $$'reader', backoff => '{-1 s}'$$,
    $$'reader', condition => 'true'$$]) arguments;
SELECT attempt(statement) FROM (
    SELECT format('SELECT sequin.%s(%L)', function, name) AS statement
    FROM unnest(ARRAY['drop_consumer', 'pause_consumer', 'resume_consumer', 'rewind', 'redrive', 'in_flight']) function,
         (VALUES ('missing'), (NULL)) bad (name)
    ORDER BY function COLLATE "C", name) statements;
SELECT attempt($$SELECT sequin.rewind('reader', to_seq => 1, to_time => now())$$);
SELECT attempt($$SELECT sequin.rewind('reader', to_seq => -1)$$);
SELECT attempt($$SELECT sequin.redeliver('missing', '{1}')$$);
SELECT attempt($$SELECT sequin.redeliver('reader', NULL)$$);

-- Receiving
SELECT attempt(format('SELECT * FROM sequin.receive(%s)', arguments)) FROM unnest(ARRAY[
    $$'missing'$$, 'NULL', $$'reader', 0$$, $$'reader', -1$$, $$'reader', 1001$$, $$'reader', NULL$$,
    $$'reader', wait => '-1 s'$$, $$'reader', wait => '61 min'$$, $$'reader', wait => '1 month'$$, $$'reader', wait => NULL$$,
    $$'reader', ack_wait => '0'$$, $$'reader', ack_wait => '-1 s'$$, $$'reader', ack_wait => '1000 years'$$]) arguments;
SELECT attempt(statement) FROM (
    SELECT format('SELECT sequin.%s(%s)', function, arguments) AS statement
    FROM unnest(ARRAY['ack', 'nack', 'extend', 'reject']) function,
         unnest(ARRAY[$$'missing', '{1}'$$, $$NULL, '{1}'$$, $$'reader', NULL$$]) arguments
    ORDER BY function COLLATE "C", arguments COLLATE "C") statements;
SELECT attempt($$SELECT sequin.nack('reader', '{1}', delay => '-1 s')$$);
SELECT attempt($$SELECT sequin.nack('reader', '{1}', delay => '1000 years')$$);
SELECT attempt($$SELECT sequin.extend('reader', '{1}', ack_wait => '0')$$);
SELECT attempt($$SELECT sequin.extend('reader', '{1}', ack_wait => '-1 s')$$);

-- Looking
SELECT attempt($$SELECT * FROM sequin.messages('missing')$$);
SELECT attempt($$SELECT * FROM sequin.messages(NULL)$$);
SELECT attempt($$SELECT * FROM sequin.messages('good', 'a*')$$);
SELECT attempt($$SELECT * FROM sequin.messages('good', NULL)$$);
SELECT attempt($$SELECT * FROM sequin.messages('good', after_seq => NULL)$$);
SELECT attempt($$SELECT * FROM sequin.messages('good', max_messages => -1)$$);
SELECT attempt($$SELECT * FROM sequin.messages('good', max_messages => NULL)$$);

-- A table that its owner has altered is no stream any more.
SELECT sequin.create_stream('altered');
ALTER TABLE sequin_stream.altered ALTER seq DROP IDENTITY;
SELECT attempt($$SELECT sequin.publish('altered', 'a', '1')$$);
SELECT attempt($$INSERT INTO sequin_stream.altered (seq, key, data) VALUES (1, 'a', '1')$$);
SELECT sequin.drop_stream('altered');

-- A table of that schema that is no stream.
CREATE TABLE sequin_stream.plain (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text COLLATE "C" NOT NULL,
    data jsonb NOT NULL, headers jsonb, inserted_at timestamptz NOT NULL DEFAULT clock_timestamp());
SELECT attempt($$SELECT sequin.publish('plain', 'a', '1')$$);
SELECT attempt($$SELECT * FROM sequin.publish_many('plain', '{a}', '{1}')$$);
SELECT attempt($$SELECT sequin.delete_key('plain', 'a')$$);
CREATE TRIGGER on_upsert AFTER INSERT ON sequin_stream.plain FOR EACH ROW EXECUTE FUNCTION sequin.on_upsert();
SELECT attempt($$INSERT INTO sequin_stream.plain (key, data) VALUES ('a', '1')$$);
SELECT attempt($$SELECT sequin.create_consumer('plain', 'x')$$);
SELECT attempt($$SELECT * FROM sequin.messages('plain')$$);
SELECT attempt($$SELECT sequin.repair_stream('plain')$$);
SELECT attempt($$SELECT sequin.drop_stream('plain')$$);
DROP TABLE sequin_stream.plain;

-- Two-phase commit cannot carry a publisher's mark, nor an ack's.
BEGIN;
SELECT sequin.publish('good', 'a', '1') > 0 AS published;
PREPARE TRANSACTION 'published';
ROLLBACK;

-- Nothing writes in a read-only transaction.
BEGIN READ ONLY;
SELECT attempt($$SELECT sequin.publish('good', 'a', '1')$$);
SELECT attempt($$SELECT sequin.create_stream('x')$$);
SELECT attempt($$SELECT sequin.create_consumer('good', 'x')$$);
ROLLBACK;

-- Nothing has changed.
SELECT * FROM state() EXCEPT SELECT * FROM before;
SELECT count(*) FROM sequin_stream.good;
SELECT filters, ack_wait, max_ack_pending, max_deliver, backoff, ordered FROM sequin.consumers WHERE name = 'reader';
SELECT count(*) FROM sequin.receive('reader', 10, wait => '100 ms');
SELECT sequin.drop_stream('good', force => true);
DROP TABLE before;
