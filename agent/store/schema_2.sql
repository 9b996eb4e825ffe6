-- Schema 2: leases and deaths, how long a trial trained and on how many devices, what its processes took.

ALTER TABLE trials ADD COLUMN beat REAL; -- the latest sign of life of the runner that holds it; NULL: it has no lease
ALTER TABLE trials ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0 CHECK (deaths >= 0); -- of processes that ran it
ALTER TABLE trials ADD COLUMN trained REAL NOT NULL DEFAULT 0 CHECK (trained >= 0); -- seconds, of runs that ended
ALTER TABLE trials ADD COLUMN devices REAL NOT NULL DEFAULT 0 CHECK (devices >= 0); -- that its latest run holds
ALTER TABLE trials ADD COLUMN device_seconds REAL NOT NULL DEFAULT 0 CHECK (device_seconds >= 0);

-- What the processes of one run took. NULL is unknown. Bytes, seconds, and shares of a device's time from 0 to 1.
CREATE TABLE resources (
    id         INTEGER PRIMARY KEY,
    trial      INTEGER NOT NULL REFERENCES trials (id),
    attempt    INTEGER NOT NULL CHECK (attempt >= 1),
    seconds    REAL NOT NULL,
    cpu        REAL,
    memory     INTEGER,
    gpu        REAL,
    gpu_memory INTEGER,
    created    REAL NOT NULL
) STRICT;
CREATE INDEX resources_by_trial ON resources (trial);

CREATE INDEX events_by_trial ON events (study, number);
