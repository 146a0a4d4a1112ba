-- Changes nothing. With one migration applied, "migrated" can be told from "never migrated", and dbmate has something to
-- do. Your tables go into files of their own: see TEMPLATE.sql.

-- migrate:up
SELECT 1;

-- migrate:down
SELECT 1;
