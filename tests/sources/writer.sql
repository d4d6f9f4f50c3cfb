-- writer.change() changes, inserts or deletes random rows of a random table of schema public. Keys change, too.
-- Values are drawn from what the tables were like at first.
CREATE SCHEMA writer;
CREATE SCHEMA pool;

-- The referential constraints would keep most changes from being made.
DO $$
DECLARE c record;
BEGIN
    FOR c IN SELECT conrelid::regclass AS tbl, conname FROM pg_constraint WHERE contype = 'f' LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.tbl, c.conname);
    END LOOP;
END $$;

CREATE TABLE writer.tables AS
SELECT relname::text AS name,
       (SELECT array_agg(attname::text) FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns
FROM pg_class c
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'marker';

DO $$
DECLARE t record;
BEGIN
    FOR t IN SELECT * FROM writer.tables LOOP
        EXECUTE format('CREATE TABLE pool.%I AS TABLE public.%1$I', t.name);
    END LOOP;
END $$;

CREATE FUNCTION writer.change() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t writer.tables;
    picked text;
    dice float := random();
BEGIN
    SELECT * INTO t FROM writer.tables ORDER BY random() LIMIT 1;
    picked := t.columns[1 + floor(random() * cardinality(t.columns))];
    IF dice < 0.6 THEN
        EXECUTE format('UPDATE public.%1$I SET %2$I = (SELECT %2$I FROM pool.%1$I ORDER BY random() LIMIT 1)
                        WHERE ctid = (SELECT ctid FROM public.%1$I ORDER BY random() LIMIT 1)', t.name, picked);
    ELSIF dice < 0.75 THEN
        EXECUTE format('DELETE FROM public.%1$I
                        WHERE ctid IN (SELECT ctid FROM public.%1$I ORDER BY random() LIMIT 2)', t.name);
    ELSIF dice < 0.998 THEN
        EXECUTE format('INSERT INTO public.%1$I SELECT * FROM pool.%1$I ORDER BY random() LIMIT 4
                        ON CONFLICT DO NOTHING', t.name);
    ELSE
        EXECUTE format('TRUNCATE public.%1$I', t.name);
        EXECUTE format('INSERT INTO public.%1$I SELECT * FROM pool.%1$I WHERE random() < 0.9', t.name);
    END IF;
EXCEPTION WHEN unique_violation OR not_null_violation THEN
    NULL;
END $$;
