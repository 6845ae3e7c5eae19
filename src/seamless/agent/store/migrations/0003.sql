-- What of a repository was looked at for a service before. A ref or pull request that comes later is news.
CREATE TABLE watched (
  service TEXT NOT NULL,
  pattern TEXT NOT NULL,                    -- of full ref names
  PRIMARY KEY (service, pattern)
) STRICT;

CREATE TABLE pull_requests (                -- the open ones, as they were last decided about
  service TEXT NOT NULL,
  number INTEGER NOT NULL,
  head TEXT NOT NULL,
  waits INTEGER NOT NULL,                   -- 1: for being ready; nothing ran for this head
  PRIMARY KEY (service, number)
) STRICT;

CREATE INDEX runs_by_ref ON runs (service, ref);

CREATE TABLE repositories (                 -- the number that a forge gave to what an address leads to
  url TEXT PRIMARY KEY,
  id INTEGER NOT NULL
) STRICT;
