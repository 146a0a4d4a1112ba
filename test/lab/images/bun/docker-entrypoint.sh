#!/bin/sh
# Puts bun in front of anything that is not a program: a flag, an unknown word, a file that is not executable.
set -e

is_program() {
  case "$1" in -*) return 1 ;; esac
  command -v "$1" >/dev/null 2>&1 || return 1
  [ ! -f "$1" ] || [ -x "$1" ]
}

is_program "$1" || set -- /usr/local/bin/bun "$@"
exec "$@"
