-- Who may do what.
CREATE ROLE regress_sequin_owner;
CREATE ROLE regress_sequin_stranger;
GRANT USAGE, CREATE ON SCHEMA sequin_stream TO regress_sequin_owner;

SET ROLE regress_sequin_owner;
SELECT sequin.create_stream('owned');
SELECT sequin.create_consumer('owned', 'mine');
SELECT sequin.publish('owned', 'a', '1') > 0 AS published;
SELECT key, data FROM sequin.receive('mine', wait => '10 s');
RESET ROLE;
SELECT pg_get_userbyid(relowner) AS owner FROM pg_class WHERE oid = 'sequin_stream.owned'::regclass;

\pset format unaligned
\pset tuples_only on
SET ROLE regress_sequin_stranger;
SELECT attempt(statement) FROM unnest(ARRAY[
    $$SELECT sequin.create_stream('x')$$,
    $$SELECT sequin.drop_stream('owned', force => true)$$,
    $$SELECT sequin.alter_stream('owned', NULL, NULL, NULL)$$,
    $$SELECT sequin.repair_stream('owned')$$,
    $$SELECT sequin.publish('owned', 'a', '1')$$,
    $$SELECT * FROM sequin.publish_many('owned', '{a}', '{1}')$$,
    $$INSERT INTO sequin_stream.owned (key, data) VALUES ('a', '1')$$,
    $$SELECT sequin.delete_key('owned', 'a')$$,
    $$SELECT sequin.grant_publish('owned', 'regress_sequin_stranger')$$,
    $$SELECT sequin.grant_consume('owned', 'regress_sequin_stranger')$$,
    $$SELECT sequin.create_consumer('owned', 'x')$$,
    $$SELECT sequin.alter_consumer('mine', max_deliver => 1)$$,
    $$SELECT sequin.drop_consumer('mine')$$,
    $$SELECT sequin.pause_consumer('mine')$$,
    $$SELECT sequin.resume_consumer('mine')$$,
    $$SELECT sequin.rewind('mine')$$,
    $$SELECT sequin.redeliver('mine', '{1}')$$,
    $$SELECT sequin.redrive('mine')$$,
    $$SELECT * FROM sequin.receive('mine')$$,
    $$SELECT sequin.ack('mine', '{1}')$$,
    $$SELECT sequin.nack('mine', '{1}')$$,
    $$SELECT sequin.extend('mine', '{1}')$$,
    $$SELECT sequin.reject('mine', '{1}')$$,
    $$SELECT * FROM sequin.in_flight('mine')$$,
    $$SELECT * FROM sequin.messages('owned')$$,
    $$INSERT INTO sequin.streams DEFAULT VALUES$$,
    $$DELETE FROM sequin.consumers$$,
    $$DELETE FROM sequin.acks$$]) statement;
RESET ROLE;
\pset tuples_only off
\pset format aligned

-- INSERT on the table is the right to publish; SELECT is the right to make a consumer; membership that to use it.
GRANT USAGE ON SCHEMA sequin_stream TO regress_sequin_stranger;
SET ROLE regress_sequin_owner;
SELECT sequin.grant_publish('owned', 'regress_sequin_stranger');
RESET ROLE;
SET ROLE regress_sequin_stranger;
SELECT sequin.publish('owned', 'b', '2') > 0 AS published;
INSERT INTO sequin_stream.owned (key, data) VALUES ('c', '3');
SELECT attempt($$SELECT sequin.create_consumer('owned', 'x')$$);
RESET ROLE;
SELECT sequin.grant_consume('owned', 'regress_sequin_stranger');
SET ROLE regress_sequin_stranger;
SELECT sequin.create_consumer('owned', 'theirs');
SELECT key, data FROM sequin.receive('theirs', 10, wait => '10 s');
RESET ROLE;
GRANT regress_sequin_owner TO regress_sequin_stranger;
SET ROLE regress_sequin_stranger;
SELECT sequin.ack('mine', array(SELECT ack_id FROM sequin.in_flight('mine'))) AS acked;
RESET ROLE;

-- pg_monitor sees the state of all.
SELECT key FROM sequin.receive('mine', 10, wait => '10 s');
REVOKE regress_sequin_owner FROM regress_sequin_stranger;
GRANT pg_monitor TO regress_sequin_stranger;
SET ROLE regress_sequin_stranger;
SELECT stream, messages > 0 AS filled FROM sequin.stream_stats;
SELECT consumer, stream FROM sequin.consumer_stats ORDER BY consumer;
SELECT key FROM sequin.in_flight('mine') ORDER BY key;
SELECT count(*) > 0 AS seen FROM sequin.workers;
RESET ROLE;

SELECT sequin.drop_stream('owned', force => true);
DROP OWNED BY regress_sequin_owner, regress_sequin_stranger;
DROP ROLE regress_sequin_owner, regress_sequin_stranger;
