CREATE TABLE outbox (                       -- messages to far ends; see agent/outbox.py
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  channel TEXT NOT NULL,                    -- who sends it: "github_status", "slack"
  key TEXT NOT NULL,                        -- of two with the same key only the first is taken
  topic TEXT NOT NULL,                      -- messages of one topic are sent in their order, one at a time
  service TEXT,
  body TEXT NOT NULL,                       -- JSON, what the channel sends
  created_at TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  next_try_at TEXT NOT NULL,
  problem TEXT,                             -- why the last attempt failed
  ended_at TEXT,
  outcome TEXT,                             -- 'delivered', 'replaced' or 'given_up', once it has ended
  UNIQUE (channel, key)
) STRICT;
CREATE INDEX outbox_waiting ON outbox (channel, topic, id) WHERE ended_at IS NULL;
