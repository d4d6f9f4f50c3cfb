-- Whatever reads a stream's table asks for the rights that SQL would ask for: of columns, of the schema, and of
-- row-level security.
CREATE ROLE regress_sequin_owner;
CREATE ROLE regress_sequin_reader;
GRANT USAGE, CREATE ON SCHEMA sequin_stream TO regress_sequin_owner;
SET ROLE regress_sequin_owner;
SELECT sequin.create_stream('secret') IS NOT NULL AS created;
SELECT sequin.publish('secret', 'a', '{"pin": 1}', '{"h": 1}') > 0 AS published;
SELECT sequin.publish('secret', 'b', '{"pin": 2}') > 0 AS published;
GRANT SELECT, DELETE ON sequin_stream.secret TO regress_sequin_reader;
RESET ROLE;

-- Consumers from when the role could read everything; one has delivered a message, and finished another.
SET ROLE regress_sequin_reader;
SELECT sequin.create_consumer('secret', 'peeking');
SELECT key FROM sequin.receive('peeking', 1, wait => '10 s');
SELECT sequin.ack('peeking', array(SELECT ack_id FROM sequin.in_flight('peeking'))) AS acked;
SELECT key FROM sequin.receive('peeking', 1, wait => '10 s');
RESET ROLE;
SELECT ack_id AS held, seq AS last FROM sequin.in_flight('peeking') \gset
SELECT min(seq) AS first FROM sequin_stream.secret \gset

CREATE FUNCTION tried() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT attempt(statement) FROM unnest(ARRAY[
        'SELECT * FROM sequin.messages(''secret'')',
        'SELECT * FROM sequin.messages(''secret'', ''a'')',
        'SELECT * FROM sequin.receive(''peeking'')',
        'SELECT sequin.redeliver(''peeking'', ''{1}'')',
        'SELECT sequin.redrive(''peeking'')',
        'SELECT sequin.rewind(''peeking'', to_time => ''2000-01-01'')',
        format('SELECT sequin.reject(''peeking'', ''{%s}'')', current_setting('regress.held')),
        'SELECT sequin.create_consumer(''secret'', ''x'', start_time => ''2000-01-01'')',
        'SELECT sequin.create_consumer(''secret'', ''x'', new_only => true)']) statement
$$;
CREATE FUNCTION shown() RETURNS TABLE (key text, messages bigint, first_seq bigint, oldest boolean) LANGUAGE sql AS $$
    SELECT f.key, s.messages, s.first_seq - current_setting('regress.first')::bigint, c.oldest_unacked_at IS NOT NULL
    FROM sequin.in_flight('peeking') f, sequin.stream_stats s, sequin.consumer_stats c
    WHERE s.stream = 'secret' AND c.consumer = 'peeking'
$$;
SELECT set_config('regress.held', :'held', false) IS NULL, set_config('regress.first', :'first', false) IS NULL;

\pset format unaligned
\pset tuples_only on
-- Some columns are not enough.
REVOKE SELECT ON sequin_stream.secret FROM regress_sequin_reader;
GRANT SELECT (seq, key) ON sequin_stream.secret TO regress_sequin_reader;
SET ROLE regress_sequin_reader;
SELECT * FROM tried();
SELECT * FROM shown();
RESET ROLE;
-- None at all: not even keys are shown.
REVOKE SELECT (seq, key) ON sequin_stream.secret FROM regress_sequin_reader;
SET ROLE regress_sequin_reader;
SELECT * FROM shown();
RESET ROLE;
-- The statistics are for who monitors, too, messages are not.
GRANT pg_monitor TO regress_sequin_reader;
SET ROLE regress_sequin_reader;
SELECT * FROM shown();
RESET ROLE;
REVOKE pg_monitor FROM regress_sequin_reader;
-- All columns are as good as the table.
GRANT SELECT (seq, key, data, headers, inserted_at) ON sequin_stream.secret TO regress_sequin_reader;
SET ROLE regress_sequin_reader;
SELECT key, data, headers FROM sequin.messages('secret');
SELECT key FROM sequin.receive('peeking', 1, wait => '0');
SELECT * FROM shown();
RESET ROLE;
-- The schema counts.
REVOKE USAGE ON SCHEMA sequin_stream FROM PUBLIC;
SET ROLE regress_sequin_reader;
SELECT * FROM tried() LIMIT 3;
RESET ROLE;
GRANT USAGE ON SCHEMA sequin_stream TO PUBLIC;
-- Policies count.
GRANT SELECT ON sequin_stream.secret TO regress_sequin_reader;
ALTER TABLE sequin_stream.secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_a ON sequin_stream.secret USING (key = 'a');
SET ROLE regress_sequin_reader;
SELECT key, data, headers FROM sequin.messages('secret');
SELECT key, data, headers FROM sequin.messages('secret', 'b');
SELECT * FROM tried() OFFSET 2;
SELECT * FROM shown();
RESET ROLE;
-- A publication keeps tables that have come to belong to somebody else.
CREATE TABLE regress_given (id int PRIMARY KEY);
ALTER TABLE regress_given OWNER TO regress_sequin_reader;
GRANT CREATE ON DATABASE :DBNAME TO regress_sequin_reader;
GRANT INSERT ON sequin_stream.secret TO regress_sequin_reader;
SET ROLE regress_sequin_reader;
CREATE PUBLICATION regress_sequin_given FOR TABLE regress_given;
RESET ROLE;
ALTER TABLE regress_given OWNER TO CURRENT_USER;
SET ROLE regress_sequin_reader;
SELECT attempt($$SELECT sequin.create_source('x', 'secret', publication => 'regress_sequin_given', backfill => false)$$);
RESET ROLE;
DROP PUBLICATION regress_sequin_given;
DROP TABLE regress_given;
\pset tuples_only off
\pset format aligned

SELECT sequin.drop_stream('secret', force => true);
DROP FUNCTION tried, shown;
DROP OWNED BY regress_sequin_owner, regress_sequin_reader;
DROP ROLE regress_sequin_owner, regress_sequin_reader;
