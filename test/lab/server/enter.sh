#!/bin/sh
# The first step into a lab server: a place of its own in every cgroup hierarchy, then namespaces of its own, and in them
# boot.sh as process 1. When this process ends, so does the server.
#   enter.sh NAME boot.sh ARGUMENT...
set -eu
name=$1
shift

while read -r _ folder type _; do
  case $type in
    cgroup)
      mkdir -p "$folder/$name"
      # A new cpuset is empty, and nobody can enter an empty one.
      for file in cpuset.cpus cpuset.mems; do
        if [ -e "$folder/$file" ]; then cat "$folder/$file" >"$folder/$name/$file"; fi
      done
      ;;
    cgroup2)
      mkdir -p "$folder/$name"
      for controller in $(cat "$folder/cgroup.controllers"); do echo "+$controller" >"$folder/cgroup.subtree_control" || true; done
      ;;
    *) continue ;;
  esac
  echo $$ >"$folder/$name/cgroup.procs"
done </proc/self/mounts

exec unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child "$@"
