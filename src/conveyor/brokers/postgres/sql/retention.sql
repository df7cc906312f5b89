-- How long what ended is kept, in seconds: the constants of base.py. They are inlined by the planner.
CREATE OR REPLACE FUNCTION retention() RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$ SELECT 86400.0::double precision $$;
CREATE OR REPLACE FUNCTION dead_retention() RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$ SELECT 30 * 86400.0::double precision $$;
