-- Part of schema 1: small shared facts beside the tasks. Ids are compared byte by byte, so that a
-- page of a listing ends and begins at the same place whatever the database's locale.

CREATE TABLE document (
    kind    text COLLATE "C",
    id      text COLLATE "C",
    version bigint NOT NULL,
    body    bytea NOT NULL,
    PRIMARY KEY (kind, id)
);

-- `size` is the number of arrivals under the key; its row is the lock of those who add to it.
CREATE TABLE tally (key text COLLATE "C" PRIMARY KEY, size bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE arrival (
    key    text COLLATE "C",
    member text COLLATE "C",
    PRIMARY KEY (key, member)
);
