-- What the functions of table sources leave behind: settings, publications, backfills, slots. What is captured is
-- tested with real clients.
CREATE TABLE orders (id integer PRIMARY KEY, total numeric);
CREATE TABLE "Order Lines" ("order" integer, line integer, PRIMARY KEY ("order", line));
CREATE TABLE whole (id integer);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE years (year integer PRIMARY KEY) PARTITION BY RANGE (year);
CREATE TABLE years_2000 PARTITION OF years FOR VALUES FROM (2000) TO (3000);
SELECT sequin.create_stream('changes');
SELECT sequin.create_stream('others');

-- Its publication, and a backfill of each table. A table without a key has none.
SELECT sequin.create_source('shop', 'changes', tables => ARRAY['orders', '"Order Lines"', 'orders', 'whole', 'years']::regclass[]);
SELECT tablename FROM pg_publication_tables WHERE pubname = 'sequin_shop' ORDER BY 1;
SELECT pubviaroot, puballtables, pg_get_userbyid(pubowner) FROM pg_publication WHERE pubname = 'sequin_shop';
SELECT tbl::regclass, condition, owner FROM sequin.backfills WHERE source = 'shop' ORDER BY id;
-- The slot is there when the function returns, unless its transaction had written before.
SELECT count(*) FROM pg_replication_slots r JOIN sequin.source_stats s ON s.slot = r.slot_name WHERE s.source = 'shop' AND plugin = 'pgoutput';
BEGIN;
INSERT INTO orders VALUES (1, 1);
SELECT sequin.create_source('late', 'changes', tables => '{orders}', backfill => false);
SELECT count(*) FROM pg_replication_slots r JOIN sequin.source_stats s ON s.slot = r.slot_name WHERE s.source = 'late';
SELECT status, captured_total, backfills_pending FROM sequin.source_stats WHERE source = 'late';
ROLLBACK;
SELECT count(*) FROM pg_publication WHERE pubname = 'sequin_late';

-- Other settings, other tables: those that are new are backfilled.
CREATE TABLE added (id integer PRIMARY KEY);
SELECT sequin.alter_source('shop', stream => 'others', tables => '{orders,added}', key_format => '{table}.{pk}');
SELECT stream, key_format FROM sequin.sources;
SELECT tablename FROM pg_publication_tables WHERE pubname = 'sequin_shop' ORDER BY 1;
SELECT tbl::regclass FROM sequin.backfills WHERE source = 'shop' ORDER BY id DESC LIMIT 1;
SELECT sequin.alter_source('shop', stream => 'changes');
SELECT stream, key_format FROM sequin.sources;

SELECT sequin.pause_source('shop');
SELECT status FROM sequin.source_stats;
SELECT sequin.backfill('shop', 'orders', 'id > 10 -- the new ones') > 0 AS asked_for;
SELECT condition FROM sequin.backfills ORDER BY id DESC LIMIT 1;
SELECT sequin.resume_source('shop');
SELECT paused, generation FROM sequin.sources;

-- One that came with a dump has no slot here: it starts anew, with another.
UPDATE sequin.sources SET database = 1;
SELECT status, slot, last_error FROM sequin.source_stats;
SELECT sequin.resume_source('shop');
SELECT paused, generation, database = d.oid AS is_here FROM sequin.sources, pg_database d WHERE datname = current_database();
SELECT count(*) FROM pg_replication_slots r JOIN sequin.source_stats s ON s.slot = r.slot_name;
SELECT tbl::regclass FROM sequin.backfills WHERE source = 'shop' ORDER BY id DESC LIMIT 2;

-- A publication that somebody has dropped can be had again.
DROP PUBLICATION sequin_shop;
SELECT sequin.alter_source('shop', tables => '{orders}');
SELECT tablename FROM pg_publication_tables WHERE pubname = 'sequin_shop' ORDER BY 1;

-- All tables; later only some.
DROP TABLE IF EXISTS keyless;
SELECT sequin.create_source('all_of_it', 'changes', backfill => false);
SELECT puballtables FROM pg_publication WHERE pubname = 'sequin_all_of_it';
SELECT sequin.alter_source('all_of_it', tables => '{orders}');
SELECT tablename FROM pg_publication_tables WHERE pubname = 'sequin_all_of_it' ORDER BY 1;
SELECT sequin.drop_source('all_of_it');

-- The user's own publication stays.
CREATE PUBLICATION own FOR TABLE orders;
SELECT sequin.create_source('own', 'changes', publication => 'own');
SELECT sequin.drop_source('own');
SELECT count(*) FROM sequin.backfills WHERE source = 'own';
SELECT pubname FROM pg_publication ORDER BY 1;
DROP PUBLICATION own;

-- DROP EXTENSION drops what sequin made.
SELECT deptype, refclassid::regclass FROM pg_depend
WHERE classid = 'pg_publication'::regclass AND objid = (SELECT oid FROM pg_publication WHERE pubname = 'sequin_shop');
SELECT sequin.drop_stream('others');
SELECT sequin.drop_stream('changes', force => true);
SELECT count(*) FROM sequin.sources;
SELECT count(*) FROM pg_publication;
DROP TABLE orders, "Order Lines", whole, years, added;
