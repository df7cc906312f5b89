-- Rounds that take one task of each lane, which is what they do when there are more lanes than
-- leases asked for.

-- `line_up` for the first task of each lane. All arrays have one entry for each of the `number` lanes;
-- `nexts` and `next_vtimes` tell of the task behind the first one, if there is one. The heads come
-- in the order of their lanes: the round ends where a second task of one, or of a lane behind the
-- last one, might come first. `most` is the lowest number of slots that they ask for when each asks
-- for a slot that is a lease and for nothing else, and is not there because something was freed.
CREATE OR REPLACE FUNCTION line_up_heads(
    clock double precision, sure double precision, which text, skipped uuid[],
    from_vtime double precision, from_turn bigint, from_id uuid, width integer,
    room integer, plain double precision[], ahead integer, before integer, want integer,
    OUT number integer, OUT looked integer, OUT places tid[], OUT ids uuid[],
    OUT executions integer[], OUT lane_places tid[], OUT lanes uuid[], OUT weights integer[],
    OUT stands double precision[], OUT turns bigint[], OUT aheads integer[], OUT wokens text[],
    OUT nexts uuid[], OUT next_vtimes double precision[], OUT of_tasks text[], OUT gates text[],
    OUT most integer
) LANGUAGE plpgsql AS $$
BEGIN
    WITH found AS MATERIALIZED (
        SELECT o.ctid AS lane_place, o.id, o.priority, o.vtime, o.turn, o.remain, o.gate, o.low
        FROM lane o
        WHERE o.queue = which AND o.at IS NULL AND o.id <> ALL (skipped)
            AND (o.vtime, o.turn, o.id) >= (from_vtime, from_turn, from_id)
        ORDER BY o.vtime, o.turn, o.id LIMIT width FOR NO KEY UPDATE SKIP LOCKED
    ), heads AS (
        SELECT o.*, h.place, h.task, h.execution, h.weight, h.is_simple, h.gates, h.most,
            b.task AS next, b.vtime AS next_vtime,
            coalesce(o.remain, h.weight) = 1 AS is_turn_over
        FROM (SELECT f.*, row_number() OVER () AS n FROM found f) o
        LEFT JOIN LATERAL (
            SELECT w.ctid AS place, w.id AS task, w.execution, w.vtime AS start, g.weight,
                g.key IS NULL AS is_simple, array_to_string(g.gates, E'\t') AS gates,
                CASE WHEN cardinality(g.gates) = 1 THEN CASE WHEN (g.carries[1]).rate = 0
                    AND NOT (g.carries[1]).line THEN (g.carries[1]).most END END AS most
            FROM waiting w JOIN gated g ON g.id = w.id WHERE w.queue = which AND w.lane = o.id
                AND w.vtime >= least(o.low, sure)
            ORDER BY w.vtime, w.execution, w.id LIMIT 1 FOR UPDATE OF w SKIP LOCKED) h ON true
        LEFT JOIN LATERAL (
            SELECT w.id AS task, w.vtime FROM waiting w
            WHERE w.queue = which AND w.lane = o.id
                AND (w.vtime, w.execution, w.id) > (h.start, h.execution, h.task)
            ORDER BY w.vtime, w.execution, w.id LIMIT 1) b ON true
    ), barred AS (
        SELECT h.*, greatest(ahead, width_bucket(h.vtime, plain)) AS plain_n,
            -- Where it stands afterwards: of equals, whose turn is over comes last.
            min(CASE WHEN h.next IS NOT NULL AND NOT coalesce(h.is_turn_over, false)
                THEN greatest(h.vtime, h.next_vtime) END) OVER before_it AS bar,
            min(CASE WHEN h.next IS NOT NULL AND h.is_turn_over
                THEN greatest(h.vtime, h.next_vtime, clock - 60 * h.priority)
                END) OVER before_it AS last_bar
        FROM heads h
        WINDOW before_it AS (ORDER BY h.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), decided AS (
        SELECT d.*, bool_and(coalesce(d.is_simple, false)
            AND d.n <= room AND d.n - 1 + before + d.plain_n < want
            AND d.vtime < coalesce(d.bar, 'infinity') AND d.vtime <= coalesce(d.last_bar, 'infinity')
        ) OVER (ORDER BY d.n) AS is_next
        FROM barred d
    )
    SELECT (count(*) FILTER (WHERE d.is_next))::integer, 2 * count(*)::integer,
        array_agg(d.place), array_agg(d.task), array_agg(d.execution + 1), array_agg(d.lane_place),
        array_agg(d.id), array_agg(d.weight), array_agg(d.vtime), array_agg(d.turn),
        array_agg(d.plain_n), array_agg(d.gate), array_agg(d.next), array_agg(d.next_vtime),
        array_agg(d.gates) FILTER (WHERE d.is_next),
        CASE WHEN bool_and(d.most IS NOT NULL AND d.gate IS NULL) FILTER (WHERE d.is_next)
            THEN min(d.most) FILTER (WHERE d.is_next) END
    INTO number, looked, places, ids, executions, lane_places, lanes, weights, stands, turns,
        aheads, wokens, nexts, next_vtimes, of_tasks, most
    FROM decided d;
    gates := ARRAY(SELECT DISTINCT g.gate COLLATE "C" FROM unnest(of_tasks) AS t (gates),
        unnest(string_to_array(t.gates, E'\t')) AS g (gate) ORDER BY 1);
END $$;

-- `pass_gates` where it needs no decision for each task: all ask for a slot, each of another gate, and
-- even the fullest of these has one. NULL: it is not so.
CREATE OR REPLACE FUNCTION pass_slots(
    gates text[], most integer, INOUT highest text, OUT number integer
) LANGUAGE plpgsql AS $$
DECLARE
    locked integer;
    fullest integer;
BEGIN
    IF EXISTS (SELECT 1 FROM ruling) THEN
        RETURN;
    END IF;
    IF gates[1] COLLATE "C" > highest THEN
        SELECT count(*), max(l.running) INTO locked, fullest FROM (
            SELECT g.running FROM gate g WHERE g.id = ANY (gates) ORDER BY g.id FOR UPDATE) l;
    ELSE
        SELECT count(*), max(l.running) INTO locked, fullest FROM (
            SELECT g.running FROM gate g WHERE g.id = ANY (gates) ORDER BY g.id
            FOR UPDATE SKIP LOCKED) l;
    END IF;
    IF locked = cardinality(gates) THEN
        highest := greatest(highest COLLATE "C", gates[cardinality(gates)]);
        IF fullest < most THEN
            UPDATE gate g SET running = g.running + 1 WHERE g.id = ANY (gates);
            number := locked;
        END IF;
    END IF;
END $$;
