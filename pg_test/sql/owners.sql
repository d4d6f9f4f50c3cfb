-- Whoever owns a consumer or a source can't be dropped unnoticed, and what he owns can be given to others.
CREATE ROLE regress_sequin_old;
CREATE ROLE regress_sequin_new;
CREATE ROLE regress_sequin_member IN ROLE regress_sequin_old, regress_sequin_new;
GRANT USAGE ON SCHEMA sequin_stream TO PUBLIC;
SELECT sequin.create_stream('shared') IS NOT NULL AS created;
-- By rights that come from elsewhere: nothing else depends on the role.
GRANT SELECT, INSERT ON sequin_stream.shared TO PUBLIC;
CREATE TABLE regress_captured (id int PRIMARY KEY);
ALTER TABLE regress_captured OWNER TO regress_sequin_old;
SET ROLE regress_sequin_old;
SELECT sequin.create_consumer('shared', 'one');
SELECT sequin.create_consumer('shared', 'two');
RESET ROLE;
CREATE VIEW owned AS
    SELECT 'consumer' AS what, c.name, c.owner FROM sequin.consumers c
    UNION ALL SELECT 'source', s.name, s.owner FROM sequin.sources s ORDER BY 1, 2;
\pset format unaligned
\pset tuples_only on
SELECT sequin.drop_consumer('one');
ALTER TABLE regress_captured OWNER TO CURRENT_USER;
SELECT attempt('DROP ROLE regress_sequin_old');

-- Given away by who has the rights of both roles.
SET ROLE regress_sequin_old;
SELECT attempt($$SELECT sequin.alter_consumer('two', owner => 'regress_sequin_new')$$);
RESET ROLE;
SET ROLE regress_sequin_new;
SELECT attempt($$SELECT sequin.alter_consumer('two', owner => 'regress_sequin_new')$$);
RESET ROLE;
SET ROLE regress_sequin_member;
SELECT sequin.alter_consumer('two', owner => 'regress_sequin_new');
RESET ROLE;
SELECT * FROM owned;
-- Nothing is left of the old one's.
DROP ROLE regress_sequin_old;
SELECT attempt('DROP ROLE regress_sequin_new');
REVOKE SELECT ON sequin_stream.shared FROM PUBLIC;
CREATE ROLE regress_sequin_old;
SELECT attempt($$SELECT sequin.alter_consumer('two', owner => 'regress_sequin_old')$$);
SELECT attempt($$SELECT sequin.alter_consumer('two', owner => 'regress_sequin_nobody')$$);
GRANT SELECT ON sequin_stream.shared TO PUBLIC;

-- Of sources, too; and by REASSIGN OWNED, which is for all that a role owns.
ALTER TABLE regress_captured OWNER TO regress_sequin_new;
SET ROLE regress_sequin_new;
SELECT sequin.create_source('feeds', 'shared', '{regress_captured}', backfill => false);
RESET ROLE;
ALTER TABLE regress_captured OWNER TO CURRENT_USER;
SELECT attempt('DROP ROLE regress_sequin_new');
SELECT sequin.alter_source('feeds', owner => 'regress_sequin_old');
SELECT * FROM owned;
REASSIGN OWNED BY regress_sequin_old, regress_sequin_new TO regress_sequin_member;
SELECT * FROM owned;
DROP ROLE regress_sequin_old, regress_sequin_new;
SELECT attempt('DROP ROLE regress_sequin_member');

-- Rows that come as a dump brings them.
CREATE TEMP TABLE copy AS SELECT * FROM sequin.consumers;
DELETE FROM sequin.consumers;
SELECT attempt('DROP ROLE regress_sequin_member');
INSERT INTO sequin.consumers OVERRIDING SYSTEM VALUE SELECT * FROM copy;
SELECT sequin.drop_source('feeds');
SELECT attempt('DROP ROLE regress_sequin_member');

-- An owner who is gone all the same.
UPDATE sequin.consumers SET owner = 4000000000::oid::regrole;
SELECT status, last_error FROM sequin.consumer_stats WHERE consumer = 'two';
SET ROLE regress_sequin_member;
SELECT attempt($$SELECT * FROM sequin.receive('two')$$);
RESET ROLE;
SELECT sequin.alter_consumer('two', owner => 'regress_sequin_member');
SELECT name, owner FROM owned;
-- What DROP OWNED drops.
SET ROLE regress_sequin_member;
SELECT sequin.create_consumer('shared', 'three');
SELECT sequin.create_consumer('shared', 'four');
DROP OWNED BY regress_sequin_member;
RESET ROLE;
SELECT * FROM owned;
DROP ROLE regress_sequin_member;
\pset tuples_only off
\pset format aligned
DROP VIEW owned;
DROP TABLE regress_captured, copy;
SELECT sequin.drop_stream('shared');
