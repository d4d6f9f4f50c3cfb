CREATE TRIGGER on_upsert BEFORE INSERT ON sequin_stream."%stream%"
    FOR EACH ROW EXECUTE FUNCTION sequin.on_upsert();
ALTER TABLE sequin_stream."%stream%" ENABLE ALWAYS TRIGGER on_upsert;
