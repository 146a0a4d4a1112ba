#!/bin/sh
# One monitor, one store in memory, one gateway: the least of Ceph that speaks S3.
set -eu
mkdir -p /etc/ceph /var/run/ceph /var/log/ceph /var/lib/ceph/mon/ceph-a /var/lib/ceph/osd/ceph-0 /var/lib/ceph/radosgw/ceph-rgw
fsid=$(cat /proc/sys/kernel/random/uuid)
cat >/etc/ceph/ceph.conf <<CONF
[global]
fsid = $fsid
mon_host = [v2:127.0.0.1:3300,v1:127.0.0.1:6789]
public_addr = 127.0.0.1
# All in one container: nobody to keep out. The crc lines are needed with it, or the gateway loops on error -13.
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
ms_mon_service_mode = crc
ms_mon_cluster_mode = crc
# A monitor alone need not wait for others: creating the user takes 0.6 s instead of 9.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
osd_objectstore = memstore
memstore_device_bytes = 2147483648
[client.rgw]
rgw_frontends = beast port=7480
rgw_rados_pool_pg_num_min = 1
# A "day" of lifecycle rules lasts 10 s.
rgw_lc_debug_interval = 10
CONF

monmaptool --create --fsid "$fsid" --addv a '[v2:127.0.0.1:3300,v1:127.0.0.1:6789]' /tmp/monmap
ceph-mon --mkfs -i a --monmap /tmp/monmap
ceph-mon -i a
osd=$(cat /proc/sys/kernel/random/uuid)
ceph osd new "$osd" 0
ceph-osd -i 0 --mkfs --osd-uuid "$osd"
ceph-osd -i 0
radosgw-admin -n client.rgw user create --uid=lab --display-name=lab
printf '[client.rgw]\n\tkey = AQBXXXXXAAAAABAAdummydummydummydummydummydum==\n' >/var/lib/ceph/radosgw/ceph-rgw/keyring
exec radosgw -n client.rgw -f
