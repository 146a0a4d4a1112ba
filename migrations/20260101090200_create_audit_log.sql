-- Audit log: what was done, by whom. The app only ever adds rows.

-- migrate:up
create table audit_log (
  id bigint generated always as identity primary key,
  occurred_at timestamptz not null default now(),
  -- Null for what the system did by itself, and for accounts that have been erased.
  account_id bigint references accounts (id) on delete set null,
  -- A short fixed word, for instance `account.signed_in`; what varies belongs in details.
  action text not null,
  details jsonb not null default '{}',
  constraint audit_log_details_is_object check (jsonb_typeof(details) = 'object')
);

-- migrate:down
drop table audit_log;
