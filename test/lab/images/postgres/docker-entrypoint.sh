#!/usr/bin/env bash
# Behaves as the official image's entry script does; CONTRACT.md lists what that is. As root: prepare folders, step down.
# As postgres, with an empty data directory: initdb, a server on the socket only, the init files, stop. Then the real server.
set -Eeo pipefail

# Takes NAME from NAME_FILE, or the default. Both at once is a mistake.
take() {
  local name="$1" file="$1_FILE"
  if [ "${!name:-}" ] && [ "${!file:-}" ]; then
    echo "error: both $name and $file are set (but are exclusive)" >&2
    exit 1
  fi
  local value="${!name:-${2:-}}"
  if [ "${!file:-}" ]; then value="$(<"${!file}")"; fi
  export "$name=$value"
  unset "$file"
}

prepare_folders() {
  mkdir -p "$PGDATA" /var/run/postgresql || :
  chmod 700 "$PGDATA" || :
  chmod 3775 /var/run/postgresql || :
  local folders=("$PGDATA" /var/run/postgresql)
  if [ "${POSTGRES_INITDB_WALDIR:-}" ]; then
    mkdir -p "$POSTGRES_INITDB_WALDIR"
    chmod 700 "$POSTGRES_INITDB_WALDIR"
    folders+=("$POSTGRES_INITDB_WALDIR")
  fi
  if [ "$(id -u)" = 0 ]; then find "${folders[@]}" ! -user postgres -exec chown postgres '{}' +; fi
}

require_password() {
  if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
    echo "Error: Database is uninitialized and superuser password is not specified." >&2
    echo "       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser." >&2
    exit 1
  fi
}

refuse_old_layout() {
  local old
  if [ "$PGDATA" != "/var/lib/postgresql/$PG_MAJOR/docker" ]; then return; fi
  for old in /var/lib/postgresql /var/lib/postgresql/data /var/lib/postgresql/*/docker; do
    if [ -s "$old/PG_VERSION" ]; then
      echo "Error: in 18+, the data directory is $PGDATA, but there appears to be PostgreSQL data in: $old" >&2
      exit 1
    fi
  done
  if grep -q " /var/lib/postgresql/data " /proc/mounts; then
    echo "Error: in 18+, mount /var/lib/postgresql; /var/lib/postgresql/data is an unused mount" >&2
    exit 1
  fi
}

# During init the socket trusts everybody, so neither a password nor a host is wanted.
process_sql() {
  local database=()
  if [ "$POSTGRES_DB" ]; then database=(--dbname "$POSTGRES_DB"); fi
  PGHOST= PGHOSTADDR= psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --no-password --no-psqlrc "${database[@]}" "$@"
}
# Sourced init scripts call the official script's function by its name.
docker_process_sql() { process_sql "$@"; }

create_database() {
  local exists
  exists="$(POSTGRES_DB= process_sql --dbname postgres --set db="$POSTGRES_DB" --tuples-only <<<"SELECT 1 FROM pg_database WHERE datname = :'db';")"
  if [ -z "$exists" ]; then
    POSTGRES_DB= process_sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
  fi
}

process_files() {
  local file
  for file; do
    case "$file" in
      *.sh)
        if [ -x "$file" ]; then echo "$0: running $file"; "$file"
        else echo "$0: sourcing $file"; . "$file"
        fi
        ;;
      *.sql) echo "$0: running $file"; process_sql -f "$file" ;;
      *.sql.gz) echo "$0: running $file"; gunzip -c "$file" | process_sql ;;
      *.sql.xz) echo "$0: running $file"; xzcat "$file" | process_sql ;;
      *.sql.zst) echo "$0: running $file"; zstd -dc "$file" | process_sql ;;
      *) echo "$0: ignoring $file" ;;
    esac
  done
}

# The server's own arguments, without the word "postgres" in front.
initialize() {
  require_password
  refuse_old_layout
  ls /docker-entrypoint-initdb.d/ >/dev/null
  local waldir=()
  if [ "${POSTGRES_INITDB_WALDIR:-}" ]; then waldir=(--waldir "$POSTGRES_INITDB_WALDIR"); fi
  eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") '"$POSTGRES_INITDB_ARGS"' "${waldir[@]}"'
  local method="${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption "$@")}"
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

  export PGPASSWORD="${PGPASSWORD:-$POSTGRES_PASSWORD}"
  # Socket only: whoever looks over TCP must not see a server that is about to stop again.
  set -- "$@" -c listen_addresses='' -p "${PGPORT:-5432}"
  PGUSER="${PGUSER:-$POSTGRES_USER}" pg_ctl -D "$PGDATA" -o "$(printf '%q ' "$@")" -w start
  create_database
  process_files /docker-entrypoint-initdb.d/*
  PGUSER="${PGUSER:-postgres}" pg_ctl -D "$PGDATA" -m fast -w stop
  unset PGPASSWORD
  printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

wants_help() {
  local argument
  for argument; do
    case "$argument" in -'?' | --help | --describe-config | -V | --version) return 0 ;; esac
  done
  return 1
}

if [ "${1:0:1}" = - ]; then set -- postgres "$@"; fi
if [ "$1" = postgres ] && ! wants_help "$@"; then
  take POSTGRES_PASSWORD
  take POSTGRES_USER postgres
  take POSTGRES_DB "$POSTGRES_USER"
  take POSTGRES_INITDB_ARGS
  prepare_folders
  if [ "$(id -u)" = 0 ]; then exec gosu postgres "${BASH_SOURCE[0]}" "$@"; fi
  if [ -s "$PGDATA/PG_VERSION" ]; then
    printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
  else
    initialize "${@:2}"
  fi
fi
exec "$@"
