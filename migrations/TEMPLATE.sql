-- Copy to migrations/YYYYMMDDHHMMSS_what_it_does.sql (UTC), and say here in one sentence what it is for.
--
-- While a deploy runs, the old and the new version of the app use this schema at the same time. So change it in two
-- deploys:
--   expand    add what is new; the old version must not notice: new tables, nullable columns, columns with a default,
--             indexes made CONCURRENTLY, constraints added NOT VALID and validated in a later file
--   contract  only when no running version uses the old thing any more: drop it, rename it, make it NOT NULL
--
-- Locks: migrations run with lock_timeout (see compose.yaml). A statement that cannot get its lock in time fails and is
-- rolled back, instead of making every query of the app queue up behind it. Run it again at a quieter moment.
--
-- One file is one transaction with one `migrate:up` and one `migrate:down`. What cannot run inside a transaction
-- (CREATE INDEX CONCURRENTLY, VACUUM) goes into a file of its own, with exactly one
-- statement after `-- migrate:up transaction:false`.
--
-- A file that has been applied anywhere is never edited: write a new one.

-- migrate:up


-- migrate:down

