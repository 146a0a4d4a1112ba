-- Sessions: who is signed in, until when.

-- migrate:up
create table sessions (
  -- SHA-256 of the token in the cookie: whoever reads this table, or a backup of it, cannot sign in with it.
  token_hash bytea primary key,
  account_id bigint not null references accounts (id) on delete cascade,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint sessions_token_hash_is_sha256 check (octet_length(token_hash) = 32),
  constraint sessions_expire_after_creation check (expires_at > created_at)
);

-- Postgres does not index a foreign key by itself: without this, deleting an account reads every session.
create index sessions_account_id_idx on sessions (account_id);

-- For the job that removes expired sessions.
create index sessions_expires_at_idx on sessions (expires_at);

-- migrate:down
drop table sessions;
