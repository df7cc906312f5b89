-- Tasks with terms (conveyor.core.task.Terms) on their way in, and back from the dead. `a_` are the
-- gated tasks by their position, with their lanes; `t_` their gates; `u_` those with unique keys.

-- Note what gated tasks ask for. Gates come as one text per task, a tab between them. Positions are those of `ids`.
CREATE OR REPLACE FUNCTION note_terms(
    ids uuid[], a_at integer[], a_lanes uuid[], a_weights integer[], a_gates text[],
    a_keys text[], a_again boolean[],
    t_at integer[], t_n smallint[], t_gates text[], t_rates double precision[],
    t_bursts double precision[], t_costs double precision[], t_most integer[], t_lines boolean[],
    t_full text[], fresh uuid[]
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO gated
    SELECT ids[a.at], a.lane, a.weight, string_to_array(a.gates, E'\t'), a.key, a.again
    FROM unnest(a_at, a_lanes, a_weights, a_gates, a_keys, a_again)
        AS a (at, lane, weight, gates, key, again)
    WHERE fresh IS NULL OR ids[a.at] = ANY (fresh)
    ON CONFLICT DO NOTHING;
    INSERT INTO toll
    SELECT ids[t.at], t.n, t.gate, t.rate, t.burst, t.cost, t.most, t.line, t.on_full
    FROM unnest(t_at, t_n, t_gates, t_rates, t_bursts, t_costs, t_most, t_lines, t_full)
        AS t (at, n, gate, rate, burst, cost, most, line, on_full)
    WHERE fresh IS NULL OR ids[t.at] = ANY (fresh)
    ON CONFLICT DO NOTHING
$$;

-- Whether a row that can be seen was written by this transaction: its own number, or that of one of
-- its savepoints, is the only one still in progress. The row tells but the number's last 32 bits.
CREATE OR REPLACE FUNCTION is_ours(writer xid) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(writer = pg_current_xact_id()::xid OR pg_xact_status(CASE
        WHEN n.behind < 2147483648 THEN n.next - n.behind ELSE n.next - n.behind + 4294967296
    END::text::xid8) = 'in progress', false)
    FROM (
        SELECT s.next, (4294967296 + s.next % 4294967296 - writer::text::bigint) % 4294967296 AS behind
        FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) s
    ) n
$$;

-- `push` for tasks of which some have terms: takes their keys first, then stores those that got
-- theirs, then moves the gated ones to their lanes.
CREATE OR REPLACE FUNCTION push_terms(
    given double precision, ids uuid[], queues text[], names text[], priorities smallint[],
    delays double precision[], dues double precision[], bodies bytea[],
    keyed integer[], keys text[], digests text[],
    a_at integer[], a_lanes uuid[], a_weights integer[], a_gates text[], a_keys text[],
    a_again boolean[],
    t_at integer[], t_n smallint[], t_gates text[], t_rates double precision[],
    t_bursts double precision[], t_costs double precision[], t_most integer[], t_lines boolean[],
    t_full text[],
    u_at integer[], u_keys text[], u_ends double precision[], u_replaces boolean[],
    u_raises boolean[], u_debounces double precision[], u_longest double precision[]
) RETURNS TABLE (id uuid, holder uuid, conflict boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    clock double precision := now_or(given);
    u record;
    got record;
    kept integer[];
    refused integer[] := '{}';
    early uuid[] := '{}';
    late uuid[] := '{}';
    fresh uuid[];
BEGIN
    -- In the order of the keys, so that two pushes do not wait for each other in a ring.
    FOR u IN
        SELECT x.*, ids[x.at] AS id, array_position(keyed, x.at) AS k
        FROM unnest(u_at, u_keys, u_ends, u_replaces, u_raises, u_debounces, u_longest)
            AS x (at, key, ends, replaces, raises, debounce, longest)
        ORDER BY queues[x.at], names[x.at], x.key, x.at
    LOOP
        -- Neither a repeat nor a task that its idempotency key keeps out may take the key.
        CONTINUE WHEN EXISTS (SELECT 1 FROM task t WHERE t.id = u.id)
            OR u.k IS NOT NULL AND EXISTS (
                SELECT 1 FROM idem i
                WHERE i.queue = queues[u.at] AND i.name = names[u.at] AND i.key = keys[u.k]
                    AND i.id <> u.id AND coalesce(i.expires, 'infinity') > clock);
        got := take_key(clock, u.id, queues[u.at], names[u.at], u.key, clock + u.ends, u.replaces);
        IF u.replaces AND got.holder <> u.id AND got.holder = ANY (ids)
            AND NOT EXISTS (SELECT 1 FROM task t WHERE t.id = got.holder) THEN
            -- Its holder comes with this very call: it is replaced when it is stored.
            UPDATE uniq x SET id = u.id, expires = clock + u.ends
                WHERE x.queue = queues[u.at] AND x.name = names[u.at] AND x.key = u.key;
            early := early || got.holder;
            late := late || u.id;
            got.holder := u.id;
        END IF;
        IF got.holder <> u.id THEN
            IF u.debounce IS NOT NULL THEN
                PERFORM postpone(
                    clock, got.holder, least(clock + u.debounce, got.series + u.longest));
            END IF;
            refused := refused || u.at;
            id := u.id;
            holder := got.holder;
            conflict := u.raises;
            RETURN NEXT;
        ELSIF u.debounce IS NOT NULL THEN
            delays[u.at] := least(u.debounce, got.series + u.longest - clock);
            dues[u.at] := NULL;
        END IF;
    END LOOP;
    IF refused <> '{}' THEN
        kept := ARRAY(SELECT p FROM generate_subscripts(ids, 1) AS p WHERE p <> ALL (refused));
        SELECT array_agg(array_position(kept, k.at)), array_agg(k.key), array_agg(k.digest)
        INTO keyed, keys, digests
        FROM unnest(keyed, keys, digests) AS k (at, key, digest) WHERE k.at = ANY (kept);
    END IF;
    FOR got IN SELECT * FROM push(
        given,
        CASE WHEN kept IS NULL THEN ids ELSE ARRAY(SELECT ids[p] FROM unnest(kept) AS p) END,
        CASE WHEN kept IS NULL THEN queues ELSE ARRAY(SELECT queues[p] FROM unnest(kept) AS p) END,
        CASE WHEN kept IS NULL THEN names ELSE ARRAY(SELECT names[p] FROM unnest(kept) AS p) END,
        CASE WHEN kept IS NULL THEN priorities
            ELSE ARRAY(SELECT priorities[p] FROM unnest(kept) AS p) END,
        CASE WHEN kept IS NULL THEN delays ELSE ARRAY(SELECT delays[p] FROM unnest(kept) AS p) END,
        CASE WHEN kept IS NULL THEN dues ELSE ARRAY(SELECT dues[p] FROM unnest(kept) AS p) END,
        CASE WHEN kept IS NULL THEN bodies ELSE ARRAY(SELECT bodies[p] FROM unnest(kept) AS p) END,
        coalesce(keyed, '{}'), coalesce(keys, '{}'), coalesce(digests, '{}')
    ) LOOP
        DELETE FROM uniq x WHERE x.id = got.id;
        id := got.id;
        holder := got.holder;
        conflict := got.conflict;
        RETURN NEXT;
    END LOOP;
    IF cardinality(a_at) > 0 THEN
        -- Of an id that was known before, the row is not of this transaction.
        fresh := ARRAY(
            SELECT t.id FROM unnest(a_at) AS a (at) JOIN task t ON t.id = ids[a.at]
            WHERE is_ours(t.xmin));
        PERFORM note_terms(ids, a_at, a_lanes, a_weights, a_gates, a_keys, a_again,
            t_at, t_n, t_gates, t_rates, t_bursts, t_costs, t_most, t_lines, t_full,
            CASE WHEN cardinality(fresh) < cardinality(a_at) THEN fresh END);
        PERFORM to_lanes(fresh, false);
    END IF;
    FOR p IN 1 .. cardinality(early) LOOP
        IF unseat(early[p]) THEN
            PERFORM ring(end_waiting(clock, early[p], 7::smallint, 'replaced by ' || late[p]));
        END IF;
    END LOOP;
END $$;

-- `requeue` for tasks of which some have terms.
CREATE OR REPLACE FUNCTION requeue_terms(
    given double precision, asked uuid[], ids uuid[],
    a_at integer[], a_lanes uuid[], a_weights integer[], a_gates text[], a_keys text[],
    a_again boolean[],
    t_at integer[], t_n smallint[], t_gates text[], t_rates double precision[],
    t_bursts double precision[], t_costs double precision[], t_most integer[], t_lines boolean[],
    t_full text[],
    u_at integer[], u_keys text[], u_ends double precision[]
) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    clock double precision := now_or(given);
    changed uuid[] := requeue(given, asked);
BEGIN
    -- A gated task that was only made due has given back its key for good, or has it.
    INSERT INTO uniq (queue, name, key, id, since, expires)
    SELECT t.queue, t.name, u.key, t.id, clock, clock + u.ends
    FROM unnest(u_at, u_keys, u_ends) AS u (at, key, ends) JOIN task t ON t.id = ids[u.at]
    WHERE t.id = ANY (changed) AND NOT EXISTS (SELECT 1 FROM gated g WHERE g.id = t.id)
    ORDER BY t.queue, t.name, u.key
    ON CONFLICT DO NOTHING;
    PERFORM note_terms(ids, a_at, a_lanes, a_weights, a_gates, a_keys, a_again,
        t_at, t_n, t_gates, t_rates, t_bursts, t_costs, t_most, t_lines, t_full, changed);
    PERFORM to_lanes(changed, false);
    RETURN changed;
END $$;

-- Housekeeping of what terms leave behind. Tells how many rows went.
CREATE OR REPLACE FUNCTION tidy_terms(clock double precision, most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    pruned integer := 0;
    more integer;
BEGIN
    DELETE FROM uniq WHERE ctid = ANY (ARRAY(
        SELECT u.ctid FROM uniq u WHERE u.expires <= clock LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS pruned = ROW_COUNT;
    DELETE FROM ruling r WHERE r.until <= clock AND r.rate IS NULL AND r.most IS NULL;
    GET DIAGNOSTICS more = ROW_COUNT;
    RETURN pruned + more + forget_gates(clock, most);
END $$;
