#!/bin/sh
# Runs what lies in /docker-entrypoint.d, in order, but only for nginx itself: *.envsh are sourced, *.sh are run.
set -e

note() {
  if [ -z "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ]; then echo "$0: $*"; fi
}

if [ "$1" = nginx ] || [ "$1" = nginx-debug ]; then
  # A pipe, as upstream: what an .envsh exports reaches the scripts after it, but not nginx.
  find /docker-entrypoint.d/ -follow -type f | sort -V | while read -r file; do
    if [ ! -x "$file" ]; then note "Ignoring $file, not executable"; continue; fi
    case "$file" in
      *.envsh) note "Sourcing $file"; . "$file" ;;
      *.sh) note "Launching $file"; "$file" ;;
      *) note "Ignoring $file" ;;
    esac
  done
  note "Configuration complete; ready for start up"
fi
exec "$@"
