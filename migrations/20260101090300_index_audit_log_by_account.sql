-- Finds one account's history, newest first.
--
-- A plain `create index` locks the table against writes until it is done; CONCURRENTLY does not, but cannot run inside
-- a transaction. Hence `transaction:false`, and hence a file of its own with exactly one statement: without a
-- transaction nothing would undo the first statement when the second fails.
--
-- No `if not exists`: a run that fails half-way leaves an INVALID index of this name, and `if not exists` would take it
-- for the real one. After such a failure: `drop index concurrently audit_log_account_id_occurred_at_idx;`, migrate again.

-- migrate:up transaction:false
create index concurrently audit_log_account_id_occurred_at_idx on audit_log (account_id, occurred_at desc);

-- migrate:down transaction:false
drop index concurrently audit_log_account_id_occurred_at_idx;
