-- Times are seconds since the epoch. JSON columns hold no NaN: see codec.py. Rows are never deleted.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE studies (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE CHECK (name <> ''),
    space       TEXT NOT NULL,
    objectives  TEXT NOT NULL,
    seed        INTEGER NOT NULL,
    config      TEXT NOT NULL,
    environment TEXT NOT NULL,
    created     REAL NOT NULL
) STRICT;

-- Every change of state, with what it takes to rebuild it (replay.py).
CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    study   INTEGER NOT NULL REFERENCES studies (id),
    number  INTEGER,
    kind    TEXT NOT NULL,
    payload TEXT NOT NULL,
    created REAL NOT NULL
) STRICT;
CREATE INDEX events_by_study ON events (study, id);
CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_last BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TABLE trials (
    id            INTEGER PRIMARY KEY,
    study         INTEGER NOT NULL REFERENCES studies (id),
    number        INTEGER NOT NULL CHECK (number >= 0),
    attempt       INTEGER NOT NULL CHECK (attempt >= 1),
    state         TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'paused', 'complete', 'stopped', 'failed')),
    params        TEXT NOT NULL,
    source        TEXT NOT NULL CHECK (source IN ('default', 'engine', 'advisor', 'queue')),
    proposer      TEXT NOT NULL,
    seed          INTEGER NOT NULL,
    error         TEXT,
    fidelity      INTEGER,
    resume_from   INTEGER,
    created       REAL NOT NULL,
    started       REAL,
    finished      REAL,
    event         INTEGER REFERENCES events (id),
    owner_host    TEXT,
    owner_boot    TEXT,
    owner_pid     INTEGER,
    owner_started REAL,
    UNIQUE (study, number),
    CHECK ((state IN ('complete', 'stopped', 'failed')) = (event IS NOT NULL)),
    CHECK ((finished IS NULL) = (event IS NULL))
) STRICT;
CREATE INDEX trials_by_state ON trials (study, state, number);
CREATE INDEX trials_by_event ON trials (study, event) WHERE event IS NOT NULL;

CREATE TABLE "values" (
    trial     INTEGER NOT NULL REFERENCES trials (id),
    objective INTEGER NOT NULL CHECK (objective >= 0),
    value     REAL NOT NULL,
    PRIMARY KEY (trial, objective)
) STRICT, WITHOUT ROWID;

-- Results that came after a trial had ended.
CREATE TABLE repeats (
    id       INTEGER PRIMARY KEY,
    trial    INTEGER NOT NULL REFERENCES trials (id),
    attempt  INTEGER NOT NULL CHECK (attempt >= 1),
    state    TEXT NOT NULL CHECK (state IN ('complete', 'stopped', 'failed')),
    "values" TEXT,
    error    TEXT,
    created  REAL NOT NULL
) STRICT;
CREATE INDEX repeats_by_trial ON repeats (trial);

-- SQLite keeps NaN as NULL, so a value that is not finite is NULL and `kind` says which it was.
CREATE TABLE metrics (
    trial  INTEGER NOT NULL REFERENCES trials (id),
    metric TEXT NOT NULL,
    step   REAL NOT NULL,
    value  REAL,
    kind   TEXT CHECK (kind IN ('nan', 'inf', '-inf')),
    PRIMARY KEY (trial, metric, step),
    CHECK ((value IS NULL) = (kind IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE queue (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    study    INTEGER NOT NULL REFERENCES studies (id),
    params   TEXT NOT NULL,
    note     TEXT,
    taken_by INTEGER,
    created  REAL NOT NULL,
    UNIQUE (study, taken_by),
    FOREIGN KEY (study, taken_by) REFERENCES trials (study, number)
) STRICT;
CREATE INDEX queue_open ON queue (study, id) WHERE taken_by IS NULL;

CREATE TABLE decisions (
    trial   INTEGER PRIMARY KEY REFERENCES trials (id),
    body    TEXT NOT NULL,
    created REAL NOT NULL
) STRICT;

CREATE TABLE prompts (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,
    version TEXT NOT NULL,
    hash    TEXT NOT NULL,
    text    TEXT NOT NULL,
    UNIQUE (name, version, hash)
) STRICT;

-- Content-addressed: sha256 of role, a zero byte and the content.
CREATE TABLE messages (
    hash    TEXT PRIMARY KEY CHECK (length(hash) = 64),
    role    TEXT NOT NULL,
    content TEXT NOT NULL
) STRICT;

CREATE TABLE threads (
    id      INTEGER PRIMARY KEY,
    study   INTEGER REFERENCES studies (id),
    title   TEXT NOT NULL,
    created REAL NOT NULL
) STRICT;

CREATE TABLE thread_messages (
    thread   INTEGER NOT NULL REFERENCES threads (id),
    position INTEGER NOT NULL CHECK (position >= 0),
    message  TEXT NOT NULL REFERENCES messages (hash),
    created  REAL NOT NULL,
    PRIMARY KEY (thread, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE llm_calls (
    id             INTEGER PRIMARY KEY,
    study          INTEGER NOT NULL REFERENCES studies (id),
    number         INTEGER,
    attempt        INTEGER NOT NULL CHECK (attempt >= 1),
    advisor        TEXT NOT NULL,
    model          TEXT,
    prompt         INTEGER NOT NULL REFERENCES prompts (id),
    request        TEXT NOT NULL, -- a list of message hashes
    thread         INTEGER REFERENCES threads (id),
    reserve_tokens INTEGER CHECK (reserve_tokens >= 0),
    reserve_usd    REAL CHECK (reserve_usd >= 0),
    status         TEXT NOT NULL CHECK (status IN ('open', 'answered', 'failed', 'abandoned')),
    error          TEXT,
    answer         TEXT,
    tokens_in      INTEGER,
    tokens_cached  INTEGER,
    tokens_out     INTEGER,
    usd            REAL,
    seconds        REAL,
    owner_host     TEXT NOT NULL,
    owner_boot     TEXT NOT NULL,
    owner_pid      INTEGER NOT NULL,
    owner_started  REAL NOT NULL,
    created        REAL NOT NULL,
    finished       REAL,
    CHECK ((status = 'open') = (finished IS NULL))
) STRICT;
CREATE INDEX llm_calls_by_trial ON llm_calls (study, number);
CREATE INDEX llm_calls_open ON llm_calls (id) WHERE status = 'open';

CREATE TABLE proposals (
    id        INTEGER PRIMARY KEY,
    study     INTEGER NOT NULL REFERENCES studies (id),
    number    INTEGER, -- the trial whose turn it was made for
    taken_by  INTEGER, -- the trial it became
    made_by   TEXT NOT NULL CHECK (made_by IN ('engine', 'advisor')),
    source    TEXT NOT NULL,
    params    TEXT NOT NULL,
    status    TEXT NOT NULL CHECK (status IN ('taken', 'displaced', 'held', 'open', 'rejected', 'expired')),
    ask_index INTEGER,
    call      INTEGER REFERENCES llm_calls (id),
    rationale TEXT,
    reason    TEXT,
    tags      TEXT NOT NULL,
    created   REAL NOT NULL,
    FOREIGN KEY (study, taken_by) REFERENCES trials (study, number)
) STRICT;
CREATE INDEX proposals_by_trial ON proposals (study, number);
CREATE INDEX proposals_by_ask ON proposals (study, ask_index) WHERE ask_index IS NOT NULL;
CREATE INDEX proposals_waiting ON proposals (study, status) WHERE status IN ('held', 'open');

CREATE VIRTUAL TABLE texts USING fts5 (
    text, kind UNINDEXED, study UNINDEXED, number UNINDEXED, ref UNINDEXED
);
