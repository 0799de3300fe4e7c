-- The search for devices by a part of their name or key, without an extension.

-- The trigrams of the texts in lower case, each as the code points of its three characters, of 21 bits each. A text contains
-- another only if its trigrams contain those of the other. As a loop it takes a fifth of the time of a query.
CREATE FUNCTION trigrams(VARIADIC texts text[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 2000 AS $$
DECLARE
    whole   text;
    latest  bigint;
    two     CONSTANT bigint := (1::bigint << 42) - 1;
    found   bigint[] := '{}';
BEGIN
    FOREACH whole IN ARRAY texts LOOP
        whole := lower(whole);
        latest := ascii(whole)::bigint << 21 | ascii(substr(whole, 2, 1));
        FOR place IN 3 .. char_length(whole) LOOP
            latest := (latest & two) << 21 | ascii(substr(whole, place, 1));
            found := found || latest;
        END LOOP;
    END LOOP;
    RETURN found;
END $$;
CREATE INDEX devices_by_trigrams ON devices USING gin (trigrams(name, key));
