-- Times are integers: microseconds since the Unix epoch. Ids are the 16 bytes of the UUID.
-- Every table bears the prefix, because the queue may live in the file of an application.

-- One row: the version of this schema. Not PRAGMA user_version, which is the application's.
CREATE TABLE conveyor_meta (
    version INTEGER NOT NULL
);

-- Queues and names of task definitions are numbered, so that hot rows stay narrow. Never deleted.
CREATE TABLE conveyor_queue (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL UNIQUE,
    pause BLOB
);
-- Nearly always empty: asking it costs a step nothing.
CREATE INDEX conveyor_queue_paused ON conveyor_queue (id) WHERE pause IS NOT NULL;

CREATE TABLE conveyor_name (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- The body never changes. A task that succeeds at its first execution never has its row written
-- again: where it is follows from the one other table that knows it (ready, due, parked, lease,
-- finished).
CREATE TABLE conveyor_task (
    seq       INTEGER PRIMARY KEY,         -- order of the pushes
    id        BLOB    NOT NULL,
    queue     INTEGER NOT NULL,
    name      INTEGER NOT NULL,
    priority  INTEGER NOT NULL,
    rank      INTEGER NOT NULL,            -- with ord: its place in ready or due, to find it there
    ord       INTEGER,                     -- NULL means seq: it was never queued again
    execution INTEGER NOT NULL DEFAULT 0,  -- number of the last execution before the current lease
    story     BLOB,                        -- NULL until it was settled once: counters, error, reason
    body      BLOB    NOT NULL
);
CREATE UNIQUE INDEX conveyor_task_id ON conveyor_task (id);

-- Waiting tasks in the order of the claim. rank = available_at - 60 s x priority; ord is a fresh
-- number whenever a task is queued, so that equal ranks are served first come first served.
CREATE TABLE conveyor_ready (
    queue    INTEGER NOT NULL,
    rank     INTEGER NOT NULL,
    ord      INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    PRIMARY KEY (queue, rank, ord)
) WITHOUT ROWID;

-- Scheduled tasks; here rank is when they are due.
CREATE TABLE conveyor_due (
    queue    INTEGER NOT NULL,
    rank     INTEGER NOT NULL,
    ord      INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    PRIMARY KEY (queue, rank, ord)
) WITHOUT ROWID;

-- Queued tasks that no live worker knows the name of.
CREATE TABLE conveyor_parked (
    seq   INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    name  INTEGER NOT NULL
);

-- Running tasks.
CREATE TABLE conveyor_lease (
    seq       INTEGER PRIMARY KEY,
    execution INTEGER NOT NULL,
    worker    INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    cancel    INTEGER NOT NULL DEFAULT 0,  -- 1 asked for, 2 asked for and told by a step
    why       TEXT,                        -- reason of the cancellation
    note      BLOB                         -- progress and logs
);
CREATE INDEX conveyor_lease_cancel ON conveyor_lease (worker) WHERE cancel > 0;

-- Finished tasks. check_at is when housekeeping looks next: the result's end, then the record's. It
-- has no index, which would cost the hot path as much as half the row: see conveyor_prune.
CREATE TABLE conveyor_finished (
    seq         INTEGER PRIMARY KEY,
    state       INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    check_at    INTEGER NOT NULL,
    execution   INTEGER NOT NULL,          -- number of the last execution
    result      BLOB,
    record      BLOB    NOT NULL           -- last execution, counters, error, reason
);
-- Dead letters, beside any number of successes: failed and cancelled.
CREATE INDEX conveyor_finished_dead ON conveyor_finished (state, seq) WHERE state <> 5;

-- What to look at when: one row per verb that finished tasks, their seqs packed as 8 bytes each. A
-- task that is no longer due then (revived, discarded) is passed over.
CREATE TABLE conveyor_prune (
    id   INTEGER PRIMARY KEY,
    at   INTEGER NOT NULL,
    seqs BLOB    NOT NULL
);
CREATE INDEX conveyor_prune_at ON conveyor_prune (at);

-- Executions that were not the last one of their task.
CREATE TABLE conveyor_execution (
    seq    INTEGER NOT NULL,
    number INTEGER NOT NULL,
    record BLOB    NOT NULL,
    PRIMARY KEY (seq, number)
) WITHOUT ROWID;

-- Idempotency keys; expires is NULL while the task lives.
CREATE TABLE conveyor_key (
    queue   INTEGER NOT NULL,
    name    INTEGER NOT NULL,
    key     TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    digest  TEXT,
    expires INTEGER,
    PRIMARY KEY (queue, name, key)
) WITHOUT ROWID;
CREATE INDEX conveyor_key_seq ON conveyor_key (seq);
CREATE INDEX conveyor_key_expires ON conveyor_key (expires) WHERE expires IS NOT NULL;

CREATE TABLE conveyor_worker (
    id    INTEGER PRIMARY KEY,
    token TEXT    NOT NULL UNIQUE,
    until INTEGER NOT NULL,                -- end of the lease; 0 after a goodbye
    swept INTEGER NOT NULL DEFAULT 0,
    info  BLOB
);

CREATE TABLE conveyor_leader (
    role   TEXT PRIMARY KEY,
    holder TEXT    NOT NULL,
    until  INTEGER NOT NULL
) WITHOUT ROWID;

-- One row per verb that changed states, written with the change. The newest row is never pruned:
-- the next seq, and with it every order number, is counted from it.
CREATE TABLE conveyor_event (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    changes BLOB    NOT NULL
);

-- Everything known of every task, one row each: what the inspector reads.
CREATE VIEW conveyor_tasks AS
SELECT t.seq, t.id, q.name AS queue, n.name AS name, t.priority,
       CASE WHEN f.seq IS NOT NULL THEN f.state
            WHEN l.seq IS NOT NULL THEN 3
            WHEN d.seq IS NOT NULL THEN 1
            ELSE 2 END AS state,
       coalesce(f.execution, l.execution, t.execution) AS execution,
       d.rank AS due_at,
       w.token AS worker, l.at AS leased_at, l.cancel, l.note,
       p.seq IS NOT NULL AS parked,
       f.finished_at, f.record, t.story, t.body
FROM conveyor_task t
LEFT JOIN conveyor_queue q ON q.id = t.queue
LEFT JOIN conveyor_name n ON n.id = t.name
LEFT JOIN conveyor_finished f ON f.seq = t.seq
LEFT JOIN conveyor_lease l ON l.seq = t.seq
LEFT JOIN conveyor_worker w ON w.id = l.worker
LEFT JOIN conveyor_due d
       ON d.queue = t.queue AND d.rank = t.rank AND d.ord = coalesce(t.ord, t.seq)
LEFT JOIN conveyor_parked p ON p.seq = t.seq;

-- ---------------------------------------------------------------------------------------------
-- Small shared facts beside the tasks: see conveyor.brokers.documents.

CREATE TABLE conveyor_document (
    kind    TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    version INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;

-- The size is kept beside the members: counting them at every arrival would be quadratic.
CREATE TABLE conveyor_tally (
    key  TEXT    PRIMARY KEY,
    size INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE conveyor_tally_member (
    key    TEXT NOT NULL,
    member TEXT NOT NULL,
    PRIMARY KEY (key, member)
) WITHOUT ROWID;
