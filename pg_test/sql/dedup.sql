-- Messages that are published once.
SELECT sequin.create_stream('once', dedup_window => '1 hour');
SELECT sequin.publish('once', 'a', '1', dedup_id => 'first');
SELECT sequin.publish('once', 'b', '2', dedup_id => 'first');
SELECT sequin.publish('once', 'b', '2', dedup_id => 'second');
SELECT * FROM sequin.publish_many('once', '{c,d,e}', '{3,4,5}', dedup_ids => '{third,NULL,first}');
SELECT seq, key, data FROM sequin_stream.once ORDER BY seq;
SELECT sequin.published_before('once', 'third'), sequin.published_before('once', 'fourth');
SELECT dedup_window FROM sequin.streams WHERE name = 'once';
SELECT duplicates_total FROM sequin.stream_stats WHERE stream = 'once';

-- An id has up to 255 bytes, of any characters.
SELECT sequin.publish('once', 'a', '1', dedup_id => repeat('é', 127));
SELECT sequin.publish('once', 'a', '1', dedup_id => repeat('é', 127));

-- What is wrong.
SELECT sequin.publish('once', 'a', '1', dedup_id => '');
SELECT sequin.publish('once', 'a', '1', dedup_id => repeat('é', 128));
SELECT * FROM sequin.publish_many('once', '{a,b}', '{1,2}', dedup_ids => '{x}');
SELECT * FROM sequin.publish_many('once', '{a}', '{1}', dedup_ids => '{""}');
SELECT sequin.published_before('once', NULL);
SELECT sequin.published_before('nowhere', 'x');
SELECT sequin.create_stream('bad', dedup_window => '999 ms');
SELECT sequin.create_stream('bad', dedup_window => '7 days 1 s');
SELECT sequin.create_stream('bad', dedup_window => NULL);
SELECT sequin.alter_stream('once', dedup_window => '0 s');
SELECT sequin.alter_stream('once', reset => '{dedup_windows}');
SELECT sequin.alter_stream('once', reset => NULL);
SELECT sequin.alter_stream('nowhere', dedup_window => '1 hour');

SELECT sequin.alter_stream('once', dedup_window => '3 hours');
SELECT dedup_window FROM sequin.streams WHERE name = 'once';
SELECT sequin.alter_stream('once', reset => '{dedup_window}');
SELECT dedup_window FROM sequin.streams WHERE name = 'once';
SELECT sequin.published_before('once', 'third');

-- Who may.
CREATE ROLE once_publisher;
CREATE ROLE once_nobody;
SELECT sequin.grant_publish('once', 'once_publisher');
SET ROLE once_publisher;
SELECT sequin.publish('once', 'a', '1', dedup_id => 'first');
SELECT sequin.publish('once', 'f', '6', dedup_id => 'sixth') > 0 AS published;
SELECT sequin.published_before('once', 'first');
SELECT sequin.alter_stream('once', dedup_window => '3 hours');
SELECT count(*) FROM sequin.dedup_1;
SET ROLE once_nobody;
SELECT sequin.publish('once', 'a', '1', dedup_id => 'first');
SELECT sequin.published_before('once', 'first');
RESET ROLE;

-- No part of a dump, and gone with the stream.
SELECT count(*) FROM pg_catalog.pg_extension, unnest(extconfig) t WHERE t::regclass::text LIKE 'sequin.dedup%';
SELECT sequin.drop_stream('once');
SELECT sequin.create_stream('once');
SELECT sequin.publish('once', 'a', '1', dedup_id => 'first');
SELECT sequin.drop_stream('once');
DROP ROLE once_publisher, once_nobody;
