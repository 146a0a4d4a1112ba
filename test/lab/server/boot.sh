#!/bin/sh
# Process 1 of a lab server, as a boot loader and an initramfs are for other machines: mounts the disk over the root file
# system, and hands over to init.sh in there. All mounts are the server's own and go when its last process goes.
#   boot.sh ROOT DISK SEED FOLDER HOSTNAME ADDRESS/PREFIX GATEWAY
set -eu
lower=$1
disk=$2
seed=$3
folder=$4
shift 4

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$folder"
mkdir "$folder/disk" "$folder/root"
# Detached by the kernel when nobody uses it any more, however that came to be.
mount -t ext4 -o loop "$disk" "$folder/disk"
# At the first boot only. The disk may come from another server, whose changes are not ours.
if [ -d "$seed" ]; then
  rm -rf "$folder/disk/changes" "$folder/disk/work"
  cp -a "$seed" "$folder/disk/changes"
  rm -rf "$seed"
fi
mkdir -p "$folder/disk/changes" "$folder/disk/work" "$folder/disk/docker" "$folder/disk/containerd"
root=$folder/root
mount -t overlay -o "lowerdir=$lower,upperdir=$folder/disk/changes,workdir=$folder/disk/work" overlay "$root"
# An overlay on an overlay is refused: the engine's own layers go straight to the disk.
for name in docker containerd; do mount --mkdir --bind "$folder/disk/$name" "$root/var/lib/$name"; done

# What belongs to the kernel is shared with the host and stays as it is, apart from the network's settings.
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm" "$root/run/lock"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
# None of the host's disks among them.
while read -r name major minor; do mknod -m 666 "$root/dev/$name" c "$major" "$minor"; done <<DEVICES
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
DEVICES
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"; done

# In a cgroup namespace each hierarchy shows the server's own part of it as the whole.
grep cgroup /proc/self/mounts >"$folder/hierarchies"
while read -r _ where type options _; do
  case $type:$where in
    tmpfs:/sys/fs/cgroup) mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup" ;;
    cgroup:* | cgroup2:*) mount --mkdir -t "$type" -o "$options" "$type" "$root$where" ;;
  esac
done <"$folder/hierarchies"

cd "$root"
pivot_root . mnt
exec chroot . /bin/bash /usr/local/sbin/lab-init "$@" </dev/null
