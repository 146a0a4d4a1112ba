#!/bin/sh
# Puts deno in front of a flag or a deno command; anything else runs as it is. "check" is not among the commands upstream.
set -e

case "$1" in
  -*) set -- deno "$@" ;;
  add | bench | bundle | cache | compile | completions | coverage | doc | eval | fmt | help | init | info | install | jupyter) set -- deno "$@" ;;
  lint | lsp | publish | remove | repl | run | serve | task | test | types | uninstall | upgrade | vendor) set -- deno "$@" ;;
esac
exec "$@"
