# systemd shows a service its credentials by a mount, which takes shared propagation.
mount --make-rshared /
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then exec /sbin/init; fi
# A host with cgroups of version 1: systemd gets a tree of version 2 to itself.
mkdir /cgroups && mount -t cgroup2 none /cgroups && mkdir -p "/cgroups/test-$HOSTNAME"
echo $$ > "/cgroups/test-$HOSTNAME/cgroup.procs" && umount /cgroups
exec unshare --cgroup sh -c 'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec /sbin/init'
