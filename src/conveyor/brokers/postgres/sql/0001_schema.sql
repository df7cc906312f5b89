-- Schema 1 of the PostgreSQL broker. It is run with the namespace as search_path.
-- Times are seconds since the epoch (UTC), blobs are MessagePack, states are numbered as in rows.py.
--
-- A task's row is written when it is pushed and again only when it is put back. Where a task is
-- follows from which of the narrow tables knows it: ready, due, parked, lease, finished. Every
-- change of state deletes its row from one and inserts it into another in one transaction, so
-- that these deletes are the locks: of two that race, one finds nothing.

-- The identity lets a session of the application prove that it is in this very database.
CREATE TABLE meta (version integer NOT NULL, identity uuid NOT NULL DEFAULT gen_random_uuid());
INSERT INTO meta (version) VALUES (1);

CREATE TABLE task (
    id        uuid PRIMARY KEY,
    queue     text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    priority  smallint NOT NULL,
    place     double precision NOT NULL,   -- its vtime in ready, or when it is due: finds it there
    execution integer NOT NULL DEFAULT 0,  -- number of the last execution that was put back
    counters  bytea,
    error     bytea,
    reason    text,
    body      bytea NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.2);

-- Waiting tasks in the order of the claim: vtime = available_at - 60 s x priority; within one
-- instant those that ran before come last. A level for each priority, so that time only moves
-- forward in each of them and a claim may begin where the last one ended (ADR 0008).
CREATE TABLE ready (
    queue     text COLLATE "C" NOT NULL,
    priority  smallint NOT NULL,
    vtime     double precision NOT NULL,
    execution integer NOT NULL,
    id        uuid NOT NULL,
    promoted  boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX ready_order ON ready (queue, priority, vtime, execution, id);
-- Cancelling finds a row by its place; only that of a promoted task is written nowhere else.
CREATE UNIQUE INDEX ready_promoted ON ready (id) WHERE promoted;

CREATE TABLE due (
    queue text COLLATE "C" NOT NULL,
    due   double precision NOT NULL,
    id    uuid NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 20000);
CREATE UNIQUE INDEX due_order ON due (queue, due, id);
CREATE UNIQUE INDEX due_id ON due (id);

-- Queued tasks that no live worker knows the name of.
CREATE TABLE parked (
    id uuid PRIMARY KEY, name text COLLATE "C" NOT NULL, queue text COLLATE "C" NOT NULL
);

CREATE TABLE lease (
    id        uuid PRIMARY KEY,
    execution integer NOT NULL,
    worker    text COLLATE "C" NOT NULL,
    at        double precision NOT NULL,
    queue     text COLLATE "C" NOT NULL,
    cancel    text,   -- reason, once someone asked it to stop
    note      bytea,  -- progress and logs
    gates     text[] COLLATE "C"  -- whose slots it is; NULL: of none. Lines: see slot
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0);
-- Nearly always empty: asking it costs a step nothing.
CREATE INDEX lease_cancel ON lease (worker) WHERE cancel IS NOT NULL;

CREATE TABLE finished (
    id        uuid PRIMARY KEY,
    state     smallint NOT NULL,
    execution integer NOT NULL,           -- number of the last execution
    at        double precision NOT NULL,
    prune_at  double precision NOT NULL,
    result    bytea,
    last      bytea,                      -- record of the last execution
    tail      bytea,                      -- counters, error, reason: when there are any
    reason    text                        -- of the one who cancelled it
) WITH (autovacuum_vacuum_insert_scale_factor = 0.2);
CREATE INDEX finished_prune ON finished (prune_at);
-- Dead letters, beside any number of successes.
CREATE INDEX finished_dead ON finished (state, id) WHERE state <> 5;

-- Executions that were not the last one of their task.
CREATE TABLE execution (
    id uuid, number integer, record bytea NOT NULL, PRIMARY KEY (id, number)
);

-- One task per key; expires is NULL while the task lives.
CREATE TABLE idem (
    queue   text COLLATE "C",
    name    text COLLATE "C",
    key     text COLLATE "C",
    id      uuid NOT NULL,
    digest  text NOT NULL,
    expires double precision,
    PRIMARY KEY (queue, name, key)
);
CREATE INDEX idem_id ON idem (id);
CREATE INDEX idem_expires ON idem (expires) WHERE expires IS NOT NULL;

-- `used` has a bit for each priority that a task of the queue ever had: only those are looked at.
CREATE TABLE queue (
    name text COLLATE "C" PRIMARY KEY, pause bytea, used integer NOT NULL DEFAULT 0
);
CREATE TABLE worker (
    id    text COLLATE "C" PRIMARY KEY,
    until double precision NOT NULL,
    gone  boolean NOT NULL DEFAULT false,  -- said goodbye: nothing lengthens its lease but itself
    swept boolean NOT NULL DEFAULT false,
    info  bytea
) WITH (fillfactor = 50);
CREATE TABLE leader (
    role text PRIMARY KEY, holder text NOT NULL, until double precision NOT NULL
) WITH (fillfactor = 50);

-- Changes of state: one row per write, queue, state and execution number. Rows are not committed in
-- the order of their numbers: see events.py.
CREATE TABLE event (
    seq       bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    at        double precision NOT NULL,
    queue     text COLLATE "C" NOT NULL,
    state     smallint NOT NULL,
    execution integer NOT NULL,
    ids       uuid[] NOT NULL
) WITH (toast_tuple_target = 8160);
-- Ids do not compress: trying costs more than it saves.
ALTER TABLE event ALTER COLUMN ids SET STORAGE EXTERNAL;
CREATE INDEX event_at ON event USING brin (at);
