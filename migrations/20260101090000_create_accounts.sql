-- Accounts: one row for each person or service that can sign in.

-- migrate:up
create table accounts (
  id bigint generated always as identity primary key,
  email text not null,
  -- What the password hash function returned, for instance `$argon2id$v=19$…`; never a password.
  password_hash text not null,
  created_at timestamptz not null default now(),
  -- Set instead of deleting the row, so that the audit log keeps its subject.
  disabled_at timestamptz,
  constraint accounts_email_has_at check (email like '%_@_%')
);

-- Unique without regard to case, but stored as the person typed it.
create unique index accounts_email_key on accounts (lower(email));

-- migrate:down
drop table accounts;
