-- Times are ISO 8601 in UTC; JSON is text. `run` columns hold a run's id, never a key of ours.

CREATE TABLE services (
  name TEXT PRIMARY KEY,
  last_number INTEGER NOT NULL DEFAULT 0,   -- of the newest run; numbers are never used again
  problem TEXT                              -- why its repository could not be read last time
) STRICT;

CREATE TABLE heads (                        -- what the remote's refs were last seen to be
  service TEXT NOT NULL,
  ref TEXT NOT NULL,
  commit_sha TEXT NOT NULL,
  seen_at TEXT NOT NULL,
  PRIMARY KEY (service, ref)
) STRICT;

CREATE TABLE runs (
  id TEXT PRIMARY KEY,
  service TEXT NOT NULL,
  number INTEGER NOT NULL,
  trigger TEXT NOT NULL,
  trust TEXT NOT NULL,
  ref TEXT NOT NULL,
  commit_sha TEXT NOT NULL,
  base TEXT,
  subject TEXT NOT NULL,
  author TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT,
  requested_by TEXT NOT NULL,
  created_at TEXT NOT NULL,
  started_at TEXT,
  ended_at TEXT,
  parameters TEXT NOT NULL,
  options TEXT NOT NULL,
  rerun_of TEXT,
  cancel TEXT,
  approval TEXT,
  clock TEXT,
  cleaned INTEGER NOT NULL DEFAULT 0,       -- 1 when nothing of it is left on the engine or the disk
  UNIQUE (service, number)
) STRICT;
CREATE INDEX runs_active ON runs (state) WHERE state IN ('idle', 'in_progress', 'awaiting_approval');
CREATE INDEX runs_uncleaned ON runs (id) WHERE cleaned = 0;

CREATE TABLE stages (
  run TEXT NOT NULL REFERENCES runs (id),
  position INTEGER NOT NULL,
  name TEXT NOT NULL,
  state TEXT NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0,
  interruptions INTEGER NOT NULL DEFAULT 0,
  reason TEXT,
  exit_code INTEGER,
  started_at TEXT,
  ended_at TEXT,
  detail TEXT NOT NULL DEFAULT '{}',
  journal TEXT NOT NULL DEFAULT '{}',
  clock TEXT,
  PRIMARY KEY (run, name)
) STRICT;

CREATE TABLE images (
  id INTEGER PRIMARY KEY,
  service TEXT NOT NULL,
  commit_sha TEXT NOT NULL,
  digest TEXT NOT NULL,
  kind TEXT NOT NULL,
  repository TEXT,
  tag TEXT NOT NULL,
  run TEXT NOT NULL,
  build_key TEXT NOT NULL,
  trusted INTEGER NOT NULL,
  checks_passed INTEGER NOT NULL DEFAULT 0,
  built_at TEXT NOT NULL,
  gone_at TEXT,
  UNIQUE (service, run)
) STRICT;
CREATE INDEX images_by_commit ON images (service, commit_sha);

CREATE TABLE deployments (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  service TEXT NOT NULL,
  environment TEXT NOT NULL,
  run TEXT NOT NULL,
  trigger TEXT NOT NULL,
  commit_sha TEXT NOT NULL,
  digest TEXT NOT NULL,
  kind TEXT NOT NULL,
  repository TEXT,
  state TEXT NOT NULL,
  reason TEXT,
  created_at TEXT NOT NULL,
  ended_at TEXT,
  journal TEXT NOT NULL DEFAULT '{}',
  detail TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX deployments_by_place ON deployments (service, environment, id);
-- One deploy at a time for a service and environment: the lock is this index.
CREATE UNIQUE INDEX deployment_lock ON deployments (service, environment)
  WHERE state IN ('recorded', 'in_progress');

CREATE TABLE holds (
  service TEXT PRIMARY KEY,
  why TEXT NOT NULL,
  by TEXT NOT NULL,
  since TEXT NOT NULL,
  commit_sha TEXT,
  released_by_run TEXT
) STRICT;

CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL,
  kind TEXT NOT NULL,
  service TEXT,
  run TEXT,
  stage TEXT,
  name TEXT NOT NULL,
  from_state TEXT,
  to_state TEXT,
  reason TEXT,
  actor TEXT,
  data TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX events_by_run ON events (run, id);
CREATE INDEX events_by_kind ON events (kind, id);

CREATE TABLE trees (                        -- checkouts; immutable while a view names them
  id TEXT PRIMARY KEY,
  repository TEXT NOT NULL,                 -- the mirror's key, or "local"
  commit_sha TEXT,                          -- NULL: not known, to be mended
  used_at TEXT NOT NULL
) STRICT;

CREATE TABLE views (                        -- copy-on-write folders over a tree
  id TEXT PRIMARY KEY,                      -- "<run>-<stage>-<attempt>"
  run TEXT NOT NULL,
  stage TEXT NOT NULL,
  tree TEXT NOT NULL REFERENCES trees (id),
  folder TEXT NOT NULL,                     -- below views/; shared when a rerun keeps a stage
  kept_until TEXT                           -- NULL: goes with its run
) STRICT;
CREATE INDEX views_by_run ON views (run);

CREATE TABLE caches (
  service TEXT NOT NULL,
  path TEXT NOT NULL,                       -- in the container
  layers TEXT NOT NULL,                     -- JSON list of folders below caches/, the newest first
  written_by TEXT NOT NULL,
  PRIMARY KEY (service, path)
) STRICT;
