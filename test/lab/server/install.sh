#!/bin/sh
# Turns a folder that holds the unpacked essential packages into a Debian system: installs packages there as dpkg does it
# on any machine, maintainer scripts and package database included. Started in mount and PID namespaces of its own.
#   install.sh ROOT FOLDER-OF-DEBS NAME.deb...
set -eu
root=$1
archives=$2
shift 2

mount --make-rprivate /
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --mkdir --bind "$archives" "$root/archives"

# No service is started now, whatever a package asks for: 101 means "forbidden by policy".
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
printf 'path-exclude=/usr/share/%s/*\n' doc man info locale >"$root/etc/dpkg/dpkg.cfg.d/lab"

cd "$archives"
# --force-depends: all of them come at once, and dpkg itself finds the order to configure them in.
chroot "$root" env --ignore-environment --chdir=/archives \
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  HOME=/root DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8 \
  dpkg --force-depends --force-unsafe-io --install "$@"
rm "$root/usr/sbin/policy-rc.d"
umount "$root/archives" "$root/proc" "$root/dev"
rmdir "$root/archives"
