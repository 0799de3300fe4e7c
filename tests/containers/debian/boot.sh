# systemd mounts credentials for a service, which requires shared propagation.
mount --make-rshared /
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then exec /sbin/init; fi
# On a host with cgroups version 1, systemd gets its own tree of version 2.
mkdir /cgroups && mount -t cgroup2 none /cgroups && mkdir -p "/cgroups/test-$HOSTNAME"
echo $$ > "/cgroups/test-$HOSTNAME/cgroup.procs" && umount /cgroups
exec unshare --cgroup sh -c 'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec /sbin/init'
