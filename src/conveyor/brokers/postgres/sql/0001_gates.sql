-- Part of schema 1: tasks that ask for more than the plain line. A plain task has no row here.

-- A living task that waits in a lane whenever it waits. Its row goes when it is final, so that
-- "is there any" is all that a queue of plain tasks ever asks.
CREATE TABLE gated (
    id     uuid PRIMARY KEY,
    lane   uuid NOT NULL,
    weight integer,                        -- of its turn; NULL: the lane takes no turns
    gates  text[] COLLATE "C" NOT NULL,    -- the ids of its gates, in their order
    key    text COLLATE "C",               -- unique until its lease
    again  boolean NOT NULL DEFAULT false  -- and taken back when it is put back
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 20000);

-- A gate as a task carries it (conveyor.core.gates.Gate). `gate` is Gate.id: limit, newline, key.
CREATE TABLE toll (
    id      uuid,
    n       smallint,                      -- its place among the gates of the task
    gate    text COLLATE "C" NOT NULL,
    rate    double precision NOT NULL,
    burst   double precision NOT NULL,
    cost    double precision NOT NULL,
    most    integer NOT NULL,
    line    boolean NOT NULL,
    on_full text COLLATE "C" NOT NULL,
    PRIMARY KEY (id, n)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 20000);
-- Who still needs a gate? Asked before it is forgotten.
CREATE INDEX toll_gate ON toll (gate);

-- Gated tasks that wait, in the order of their lane; vtime as in ready.
CREATE TABLE waiting (
    queue     text COLLATE "C" NOT NULL,
    lane      uuid NOT NULL,
    vtime     double precision NOT NULL,
    execution integer NOT NULL,
    id        uuid NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX waiting_order ON waiting (queue, lane, vtime, execution, id);
CREATE UNIQUE INDEX waiting_id ON waiting (id);

-- A lane with waiting tasks. Only steps change and delete these rows; who adds a task holds a
-- KEY SHARE lock, which keeps a lane from being deleted and nothing else.
CREATE TABLE lane (
    queue    text COLLATE "C",
    id       uuid,                         -- of the lane; of the task that goes first in a line
    priority smallint NOT NULL,
    vtime    double precision NOT NULL,    -- where it stands in the order of the claim
    turn     bigint NOT NULL DEFAULT 0,    -- number of its last turn: decides between equals
    remain   integer,                      -- tasks left in its turn; NULL: a turn begins
    low      double precision NOT NULL,    -- no task of it has a lower vtime (ADR 0008)
    at       double precision,             -- NULL: look at it; else when to; infinity: when woken
    gate     text COLLATE "C",             -- the gate that refused it last, or that woke it since
    PRIMARY KEY (queue, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lane_open ON lane (queue, vtime, turn, id) WHERE at IS NULL;
CREATE INDEX lane_timed ON lane (queue, at) WHERE at < 'infinity';
-- Whom a gate wakes first, and whether one of its lanes has a timer already.
CREATE INDEX lane_refused ON lane (gate, queue, vtime, turn, id) WHERE at IS NOT NULL;
CREATE INDEX lane_timer ON lane (gate, queue, at) WHERE at < 'infinity';
CREATE SEQUENCE turn CACHE 100;

-- What a limit knows of a key (conveyor.core.gates.GateState). `running` is the number of its
-- slots, changed with them under the lock of this row.
CREATE TABLE gate (
    id      text COLLATE "C" PRIMARY KEY,
    tat     double precision NOT NULL DEFAULT 0,
    running integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
-- Of all gates: an index that names 'running' would make every change of it write to every index.
CREATE INDEX gate_idle ON gate (tat);

CREATE TABLE slot (
    id   uuid,
    gate text COLLATE "C",
    line boolean NOT NULL,                 -- kept until the task is final
    at   double precision NOT NULL,
    PRIMARY KEY (id, gate)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX slot_gate ON slot (gate, at);

-- What people said of a limit (its name) or of one key of it (Gate.id).
CREATE TABLE ruling (
    id     text COLLATE "C" PRIMARY KEY,
    until  double precision,               -- closed until then
    pause  bytea,
    rate   double precision,
    most   integer
);

-- One task per key while it is held. `expires` is set when time alone frees it.
CREATE TABLE uniq (
    queue   text COLLATE "C",
    name    text COLLATE "C",
    key     text COLLATE "C",
    id      uuid NOT NULL,
    since   double precision NOT NULL,     -- first push of the series, for debouncing
    expires double precision,
    PRIMARY KEY (queue, name, key)
);
CREATE INDEX uniq_id ON uniq (id);
CREATE INDEX uniq_expires ON uniq (expires) WHERE expires IS NOT NULL;
