-- A consumer's life: settings, pause, rewind, redelivery, drop.
SELECT sequin.create_stream('events');
SELECT count(*) FROM sequin.publish_many('events', '{a,b,c,d,e,f}', '{1,2,3,4,5,6}');
SELECT min(seq) AS seq FROM sequin_stream.events \gset first_
SELECT sequin.create_consumer('events', 'audit', ack_wait => '1 min', max_ack_pending => 5, max_deliver => 3, backoff => '{1 s, 1 min}');
SELECT stream, name, filters, ack_wait, max_ack_pending, max_deliver, backoff, ordered FROM sequin.consumers;
SELECT sequin.alter_consumer('audit', max_ack_pending => 100, backoff => '{0 s}');
SELECT stream, name, filters, ack_wait, max_ack_pending, max_deliver, backoff, ordered FROM sequin.consumers;
SELECT sequin.alter_consumer('audit', max_deliver => 0, backoff => '{}');
SELECT max_deliver, backoff FROM sequin.consumers;

-- Receive, and end the deliveries in every way.
CREATE TEMPORARY TABLE got AS SELECT * FROM sequin.receive('audit', 4, wait => '10 s');
SELECT seq - :first_seq AS seq, key, data, headers, deliver_count FROM got ORDER BY seq;
SELECT key, deliver_count, deadline > now() + '50 s' AS in_time FROM sequin.in_flight('audit') ORDER BY key;
SELECT sequin.ack('audit', array(SELECT ack_id FROM got WHERE key = 'a')) AS acked,
       sequin.nack('audit', array(SELECT ack_id FROM got WHERE key = 'b')) AS nacked,
       sequin.extend('audit', array(SELECT ack_id FROM got WHERE key = 'c'), ack_wait => '1 h') AS extended,
       sequin.reject('audit', array(SELECT ack_id FROM got WHERE key = 'd'), reason => 'no such customer') AS rejected;
SELECT key, deadline > now() + '50 min' AS extended FROM sequin.in_flight('audit') ORDER BY key;
SELECT consumer, seq - :first_seq AS seq, key, data, headers, deliver_count, reason FROM sequin.dead_letters;
SELECT key, deliver_count FROM sequin.receive('audit', 10, wait => '10 s');
SELECT sequin.ack('audit', '{}') AS none, sequin.ack('audit', '{-1,0,42,NULL,9223372036854775807}') AS unknown;
SELECT sequin.ack('audit', array(SELECT ack_id FROM sequin.in_flight('audit'))) AS acked;
SELECT ready, in_flight, delayed, withheld, acked_total, dead_total, lag FROM sequin.consumer_stats WHERE consumer = 'audit';

-- Back from the dead.
SELECT sequin.redrive('audit') AS redriven;
SELECT key, data, deliver_count FROM sequin.receive('audit', 10, wait => '10 s');
SELECT count(*) FROM sequin.dead_letters;
SELECT sequin.ack('audit', array(SELECT ack_id FROM sequin.in_flight('audit'))) AS acked;

-- Once more from the start, from a seq, and only some.
SELECT sequin.rewind('audit');
SELECT key, deliver_count FROM sequin.receive('audit', 10, wait => '10 s');
SELECT sequin.rewind('audit', to_seq => :first_seq + 4);
SELECT key, deliver_count FROM sequin.receive('audit', 10, wait => '10 s');
SELECT sequin.ack('audit', array(SELECT ack_id FROM sequin.in_flight('audit'))) AS acked;
SELECT sequin.rewind('audit', to_time => 'infinity');
SELECT key FROM sequin.receive('audit', 10, wait => '100 ms');
SELECT sequin.redeliver('audit', array(SELECT seq FROM sequin_stream.events WHERE data IN ('2', '5'))) AS again;
SELECT key FROM sequin.receive('audit', 10, wait => '10 s');
SELECT sequin.ack('audit', array(SELECT ack_id FROM sequin.in_flight('audit'))) AS acked;

-- Paused, it keeps what comes.
SELECT sequin.pause_consumer('audit');
SELECT status FROM sequin.consumer_stats WHERE consumer = 'audit';
SELECT sequin.publish('events', 'g', '7') > 0 AS published;
SELECT key FROM sequin.receive('audit', wait => '100 ms');
SELECT sequin.resume_consumer('audit');
SELECT key FROM sequin.receive('audit', wait => '10 s');

-- A filter is changed: what is already behind the consumer stays there.
SELECT sequin.alter_consumer('audit', filters => '{x.>}');
SELECT count(*) FROM sequin.publish_many('events', '{x.1,y.1}', '{8,9}');
SELECT key FROM sequin.receive('audit', 10, wait => '10 s');

SELECT sequin.drop_consumer('audit');
SELECT count(*) FROM sequin.consumers;
-- The same name again is a new consumer.
SELECT sequin.create_consumer('events', 'audit', new_only => true);
SELECT key FROM sequin.receive('audit', 10, wait => '100 ms');
SELECT sequin.drop_consumer('audit');
SELECT sequin.drop_stream('events');
DROP TABLE got;
