ALTER TABLE events ADD COLUMN origin TEXT;  -- from where an action was asked for, as far as the host tells
