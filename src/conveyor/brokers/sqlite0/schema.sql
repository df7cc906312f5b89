-- Schema 1 of the SQLite broker. Times are seconds since the epoch (UTC), blobs are MessagePack.
--
-- A task's row is written when it is pushed and once more when an execution ends; what changes in
-- between lives in narrow tables, so that the hot path rewrites few bytes. Where a task is follows
-- from where its id sits: `ready`, `due`, `lease`, `parked`, else its row's final state.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '1');

CREATE TABLE task (
    id         TEXT PRIMARY KEY,
    queue      TEXT NOT NULL,
    name       TEXT NOT NULL,
    blob       BLOB NOT NULL,
    place      REAL NOT NULL,                   -- its key in `ready` or `due`: finds it there
    state      TEXT NOT NULL DEFAULT 'queued',  -- 'queued' stands for every living state
    execution  INTEGER NOT NULL DEFAULT 0,      -- number of the last execution that ended
    counters   BLOB,                            -- what it has used up, when not nothing
    cancel     TEXT,                            -- reason, once someone asked it to stop
    finished   REAL,
    result     BLOB,
    expires    REAL,                            -- when the result may be forgotten
    error      BLOB,
    reason     TEXT,
    last       BLOB                             -- record of the last execution
);
-- Finished rows are pruned in the order of their end.
CREATE INDEX task_finished ON task (finished) WHERE finished IS NOT NULL;

-- Waiting tasks in the order they are claimed: vtime = available_at - 60 s x priority; within one
-- instant those that were leased before come last (`turn` is the number of that execution).
CREATE TABLE ready (
    queue TEXT, vtime REAL, turn INTEGER, id TEXT, PRIMARY KEY (queue, vtime, turn, id)
) WITHOUT ROWID;
CREATE TABLE due (queue TEXT, due REAL, id TEXT, PRIMARY KEY (queue, due, id)) WITHOUT ROWID;
CREATE TABLE lease (
    id TEXT PRIMARY KEY, worker TEXT NOT NULL, execution INTEGER NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE parked (name TEXT, id TEXT, queue TEXT NOT NULL, PRIMARY KEY (name, id)) WITHOUT ROWID;

-- Executions before the last one.
CREATE TABLE execution (
    id TEXT, number INTEGER, blob BLOB NOT NULL, PRIMARY KEY (id, number)
) WITHOUT ROWID;
CREATE TABLE note (id TEXT PRIMARY KEY, execution INTEGER NOT NULL, blob BLOB NOT NULL) WITHOUT ROWID;

-- One task per key; kept a day beyond the task's end.
CREATE TABLE idem (
    queue TEXT, name TEXT, key TEXT, id TEXT NOT NULL, digest TEXT NOT NULL, expires REAL,
    PRIMARY KEY (queue, name, key)
) WITHOUT ROWID;
CREATE INDEX idem_expires ON idem (expires) WHERE expires IS NOT NULL;

CREATE TABLE queue (name TEXT PRIMARY KEY, pause BLOB) WITHOUT ROWID;
CREATE TABLE worker (
    id TEXT PRIMARY KEY, until REAL NOT NULL, swept INTEGER NOT NULL DEFAULT 0, info BLOB
) WITHOUT ROWID;
CREATE TABLE leader (role TEXT PRIMARY KEY, holder TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
-- Changes of state, one row per write; the blob holds [id, queue, state, execution] entries.
CREATE TABLE event (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, blob BLOB NOT NULL);
