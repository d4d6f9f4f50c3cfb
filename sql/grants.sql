-- Settings and statistics are for everybody, dead letters for members of the consumer's owner, backfills for those of
-- the source's owner, journals for nobody. Functions check their caller themselves.

GRANT SELECT ON sequin.streams, sequin.consumers, sequin.dead_letters, sequin.scheduled, sequin.sources, sequin.backfills TO PUBLIC;
GRANT SELECT ON sequin.stream_stats, sequin.consumer_stats, sequin.source_stats, sequin.workers TO PUBLIC;

-- No policy may be on a table that is dumped: it would keep a role without BYPASSRLS from dumping it.
ALTER TABLE sequin.backfills ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_sources_owner ON sequin.backfills FOR SELECT USING (
    EXISTS (
        SELECT FROM sequin.sources s
        WHERE s.name = backfills.source AND pg_catalog.pg_has_role(s.owner, 'USAGE')
    )
);
