CREATE TABLE deliveries (                   -- webhooks that were taken
  id INTEGER PRIMARY KEY,
  guid TEXT NOT NULL UNIQUE,                -- GitHub's; not signed, so that
  digest TEXT NOT NULL UNIQUE,              -- the SHA-256 of the body tells a replay under another one
  event TEXT NOT NULL,
  action TEXT,
  repository INTEGER,                       -- the number that the forge gave it
  name TEXT,
  ref TEXT,
  pull_request INTEGER,
  hook INTEGER,
  received_at TEXT NOT NULL,
  outcome TEXT                              -- NULL until somebody has looked into it
) STRICT;
CREATE INDEX deliveries_pending ON deliveries (id) WHERE outcome IS NULL;
CREATE INDEX deliveries_by_age ON deliveries (received_at);
