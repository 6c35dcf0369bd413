-- The functions of the fast path, in the schema of duroxide-pg's tables, which they leave as they are.
-- {schema} is the schema; {version} is drawn from this text, so that nodes of several versions work side by side.

CREATE OR REPLACE FUNCTION "{schema}".python_now_ms_{version}() RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;
