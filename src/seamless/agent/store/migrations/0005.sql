ALTER TABLE deliveries ADD COLUMN commit_sha TEXT;                    -- about which something was said that a merge may wait for
ALTER TABLE deliveries ADD COLUMN copies INTEGER NOT NULL DEFAULT 0;  -- how often it came again under its GUID
