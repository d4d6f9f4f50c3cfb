-- What all the other files use. Each runs in the same database, one after the other, and cleans up after itself.
CREATE EXTENSION sequin;

-- The outcome of a statement that should fail: its SQLSTATE, message, detail and hint.
CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error: ' || statement;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS
        state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    -- A row in it has the time of its insertion.
    detail = regexp_replace(detail, '^(Failing row contains) .*', '\1 ...');
    RETURN concat_ws(E'\n', state || ': ' || message, '  detail: ' || nullif(detail, ''), '  hint: ' || nullif(hint, ''));
END $$;

-- Everything that a failed call could have changed: rows of the extension's tables, tables of streams.
CREATE FUNCTION state() RETURNS TABLE (what text, rows bigint) LANGUAGE sql AS $$
    SELECT 'streams', count(*) FROM sequin.streams
    UNION ALL SELECT 'consumers', count(*) FROM sequin.consumers
    UNION ALL SELECT 'dead letters', count(*) FROM sequin.dead_letters
    UNION ALL SELECT 'tables of streams', count(*) FROM pg_class
        WHERE relnamespace = 'sequin_stream'::regnamespace AND relkind IN ('r', 'p')
    UNION ALL SELECT 'sequences of streams', count(*) FROM pg_class
        WHERE relnamespace = 'sequin_stream'::regnamespace AND relkind = 'S'
$$;
