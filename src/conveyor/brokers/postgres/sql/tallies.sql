-- Add members; tells for each pair how many its key has afterwards. The keys' rows are locked first,
-- in the order of the keys: two calls with the same keys wait for each other and never in a ring.
CREATE OR REPLACE FUNCTION arrive(keys text[], members text[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    sizes bigint[];
BEGIN
    INSERT INTO tally AS t SELECT DISTINCT k COLLATE "C", 0 FROM unnest(keys) AS k ORDER BY 1
    ON CONFLICT (key) DO UPDATE SET size = t.size;
    WITH fresh AS (
        INSERT INTO arrival SELECT k, m FROM unnest(keys, members) AS p (k, m)
        ON CONFLICT DO NOTHING RETURNING key
    ), grown AS (
        SELECT key, count(*) AS n FROM fresh GROUP BY key
    )
    UPDATE tally t SET size = t.size + g.n FROM grown g WHERE t.key = g.key;
    SELECT array_agg(t.size ORDER BY p.n) INTO sizes
    FROM unnest(keys) WITH ORDINALITY AS p (key, n) JOIN tally t ON t.key = p.key;
    RETURN coalesce(sizes, '{}');
END $$;

-- Forget tallies. Locks like `arrive`, so that who adds meanwhile adds before or to a new one.
CREATE OR REPLACE FUNCTION drop_tallies(keys text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM tally t WHERE t.key = ANY (keys) ORDER BY t.key FOR UPDATE;
    DELETE FROM arrival a WHERE a.key = ANY (keys);
    DELETE FROM tally t WHERE t.key = ANY (keys);
END $$;
