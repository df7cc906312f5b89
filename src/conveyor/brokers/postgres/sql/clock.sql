-- The time a verb goes by: the given one (tests travel in time), else that of this server.
CREATE OR REPLACE FUNCTION now_or(given double precision) RETURNS double precision
LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(given, extract(epoch FROM clock_timestamp())::double precision)
$$;
