CREATE TRIGGER on_publish BEFORE INSERT OR UPDATE OF seq ON sequin_stream."%stream%"
    FOR EACH STATEMENT EXECUTE FUNCTION sequin.on_publish();
ALTER TABLE sequin_stream."%stream%" ENABLE ALWAYS TRIGGER on_publish;
