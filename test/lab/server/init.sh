#!/bin/bash
# Process 1 of a lab server once its file systems are mounted: name, network, then the services that Debian's packages have
# registered, in the way of System V. What is installed and enabled later starts at the next boot, as on any server.
#   lab-init HOSTNAME ADDRESS/PREFIX GATEWAY
umount --lazy /mnt
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
hostname "$1"
# cgroup v2 gives controllers only to a group that holds no processes itself.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir -p /sys/fs/cgroup/init
  echo $$ >/sys/fs/cgroup/init/cgroup.procs
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control; done
fi

ip link set lo up
# The cable is plugged in from outside.
until [ -e /sys/class/net/eth0 ]; do sleep 0.02; done
ip address add "$2" dev eth0
ip link set eth0 up
ip route add default via "$3"

for service in /etc/rcS.d/S* /etc/rc2.d/S*; do
  if [ -x "$service" ]; then "$service" start; fi
done
# bash reaps whatever is handed to process 1.
while true; do
  sleep 3600 &
  wait $!
done
