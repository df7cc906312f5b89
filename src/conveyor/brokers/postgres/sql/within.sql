-- Verbs for connections of others, inside their transactions: whatever their search path, and with
-- all arguments as one JSON value, which every driver can send. Blobs in it are Base64.

CREATE OR REPLACE FUNCTION texts(list jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY(
        SELECT e.value FROM jsonb_array_elements_text(list) WITH ORDINALITY AS e (value, n)
        ORDER BY e.n)
$$;

CREATE OR REPLACE FUNCTION blobs(list jsonb) RETURNS bytea[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY(
        SELECT decode(e.value, 'base64')
        FROM jsonb_array_elements_text(list) WITH ORDINALITY AS e (value, n) ORDER BY e.n)
$$;

-- `push`, or with more than ten columns `push_terms`. The time of such a task is that of its push, but
-- it comes into sight at the commit, perhaps much later: its bell (`l`) says so to who claims by floors.
CREATE OR REPLACE FUNCTION push_within(given double precision, c jsonb)
RETURNS TABLE (id uuid, holder uuid, conflict boolean) LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    which text;
BEGIN
    IF jsonb_array_length(c) = 10 THEN
        RETURN QUERY SELECT * FROM push(
            given, texts(c->0)::uuid[], texts(c->1), texts(c->2), texts(c->3)::smallint[],
            texts(c->4)::double precision[], texts(c->5)::double precision[], blobs(c->6),
            texts(c->7)::integer[], texts(c->8), texts(c->9));
    ELSE
        RETURN QUERY SELECT * FROM push_terms(
            given, texts(c->0)::uuid[], texts(c->1), texts(c->2), texts(c->3)::smallint[],
            texts(c->4)::double precision[], texts(c->5)::double precision[], blobs(c->6),
            texts(c->7)::integer[], texts(c->8), texts(c->9),
            texts(c->10)::integer[], texts(c->11)::uuid[], texts(c->12)::integer[], texts(c->13),
            texts(c->14), texts(c->15)::boolean[],
            texts(c->16)::integer[], texts(c->17)::smallint[], texts(c->18),
            texts(c->19)::double precision[], texts(c->20)::double precision[],
            texts(c->21)::double precision[], texts(c->22)::integer[], texts(c->23)::boolean[],
            texts(c->24),
            texts(c->25)::integer[], texts(c->26), texts(c->27)::double precision[],
            texts(c->28)::boolean[], texts(c->29)::boolean[], texts(c->30)::double precision[],
            texts(c->31)::double precision[]);
    END IF;
    FOR which IN SELECT DISTINCT q FROM unnest(texts(c->1)) AS q LOOP
        PERFORM pg_notify(current_schema(), 'l' || which);
    END LOOP;
END $$;

-- `finish` for one execution: id, execution, state, keep, result, record, tail, whether it has a
-- key, whether it has terms. False when the lease is not this very execution any more.
CREATE OR REPLACE FUNCTION finish_within(given double precision, e jsonb) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    ids uuid[] := ARRAY[(e->>0)::uuid];
    opened text[];
    got record;
BEGIN
    got := finish(
        now_or(given), ids, ARRAY[(e->>1)::integer], ARRAY[(e->>2)::smallint],
        ARRAY[(e->>3)::double precision], ARRAY[decode(e->>4, 'base64')],
        ARRAY[decode(e->>5, 'base64')], ARRAY[decode(e->>6, 'base64')],
        CASE WHEN (e->>7)::boolean THEN ids ELSE '{}' END);
    IF got.done = '{}' THEN
        RETURN false;
    END IF;
    IF (e->>8)::boolean THEN
        SELECT s.woken INTO opened FROM settle_terms(ids, '{}', got.freed) s;
        PERFORM ring(opened);
    END IF;
    RETURN true;
END $$;
