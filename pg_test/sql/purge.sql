-- Deleting messages.
SELECT sequin.create_stream('purged');
SELECT sequin.create_consumer('purged', 'purged_reader');
SELECT min(seq) AS first FROM sequin.publish_many('purged', '{a,b,c,d,e}', '{1,2,3,4,5}') seq \gset
SELECT sequin.purge('purged', before_seq => :first + 2);
SELECT key FROM sequin.receive('purged_reader', wait => '10 s');
SELECT clock_timestamp() AS noon \gset
SELECT sequin.publish('purged', 'f', '6') > 0 AS published;
SELECT sequin.purge('purged', before_seq => :first + 3, before_time => :'noon');
SELECT sequin.purge('purged', before_time => '2000-01-01');
-- What is out doesn't come back.
SELECT sequin.nack('purged_reader', array(SELECT ack_id FROM sequin.in_flight('purged_reader'))) AS nacked;
SELECT key FROM sequin.receive('purged_reader', 10, wait => '10 s') ORDER BY key;
BEGIN;
SELECT sequin.purge('purged', before_time => :'noon');
ROLLBACK;
SELECT sequin.purge('purged', before_time => 'infinity');
SELECT sequin.purge('purged', before_time => 'infinity');
SELECT sequin.nack('purged_reader', array(SELECT ack_id FROM sequin.in_flight('purged_reader'))) AS nacked;
SELECT key FROM sequin.receive('purged_reader', 10);
SELECT sequin.publish('purged', 'g', '7') - :first AS next;
SELECT key FROM sequin.receive('purged_reader', 10, wait => '10 s');

-- Who may: SQL's own rule for a DELETE that reads the columns it goes by.
CREATE ROLE regress_sequin_purger;
SELECT sequin.publish('purged', 'h', '8') > 0 AS published;
\pset format unaligned
\pset tuples_only on
SET ROLE regress_sequin_purger;
SELECT attempt($$SELECT sequin.purge('purged')$$);
SELECT attempt($$SELECT sequin.purge('purged', 1)$$);
RESET ROLE;
GRANT DELETE, SELECT ON sequin_stream.purged TO regress_sequin_purger;
SET ROLE regress_sequin_purger;
SELECT sequin.purge('purged', before_time => 'infinity');
SELECT attempt($$SELECT sequin.purge('missing', 1)$$);
SELECT attempt($$SELECT sequin.purge(NULL, 1)$$);
SELECT attempt($$SELECT sequin.purge('no-name', 1)$$);
RESET ROLE;
\pset tuples_only off
\pset format aligned

SELECT sequin.drop_stream('purged', force => true);
DROP ROLE regress_sequin_purger;
