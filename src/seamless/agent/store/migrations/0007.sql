ALTER TABLE images ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;  -- 1: gone for everybody, and still to be removed where it lies
ALTER TABLE images ADD COLUMN refused TEXT;                        -- why its registry does not delete it
