-- What this is for, in one sentence. `migrate new NAME` begins each file with this text: delete what you have read.
--
-- Roll forward: a file that has been applied anywhere is never edited, and never taken back on a server. What turns out
-- wrong is put right by the next file.
--
-- While a deploy runs, the old and the new version of the app use this schema at the same time. So change it in two
-- deploys:
--   expand    add what is new; the old version must not notice: new tables, nullable columns, columns with a default,
--             indexes made CONCURRENTLY, constraints added NOT VALID and validated in a later file
--   contract  only when no running version uses the old thing any more: drop it, rename it, make it NOT NULL
-- docs/migrations.md has the SQL for each case, and `migrate lint` finds what is dangerous.
--
-- Locks: migrations run with lock_timeout (see compose.yaml). A statement that cannot get its lock in time fails and is
-- rolled back, instead of making every query of the app queue up behind it; `migrate up` tries it four times.
--
-- One file is one transaction with one `migrate:up` and one `migrate:down`. What cannot run inside a transaction
-- (CREATE INDEX CONCURRENTLY, VACUUM) goes into a file of its own, with exactly one
-- statement after `-- migrate:up transaction:false`.

-- migrate:up


-- migrate:down

