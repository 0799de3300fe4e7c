-- An ingestor of the version before, which goes on between the migration and its restart, gives none of the columns of
-- 0010. Without these its dead letters were refused, and it stood still with all that came after them: as 0010 does for
-- what was there, each of its rows is one element, or a whole message.
CREATE FUNCTION complete_dead_letter() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.payload_bytes := octet_length(NEW.payload);
    NEW.reasons := jsonb_build_object(NEW.reason, 1);
    NEW.faults := jsonb_build_array(jsonb_build_object('index', NULL, 'reason', NEW.reason, 'detail', NEW.detail));
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION complete_dead_letter() FROM PUBLIC;

CREATE TRIGGER dead_letters_are_complete BEFORE INSERT ON dead_letters
    FOR EACH ROW WHEN (NEW.payload_bytes IS NULL) EXECUTE FUNCTION complete_dead_letter();
