# What an ordinary user can limit on cgroup v2, without a cgroup of the own and with one: one line a check, for tests/it/vm.rs.

echo 'alice:x:1000:1000::/home/alice:/bin/sh' >>/etc/passwd
echo 'alice:x:1000:' >>/etc/group
# A store needs user attributes, which this kernel's tmpfs has not.
truncate -s 64M home && mke2fs -F home >/dev/null 2>&1
mkdir -p /home/alice && losetup /dev/loop1 home && mount -t ext4 /dev/loop1 /home/alice && chown 1000:1000 /home/alice
chmod 755 /root
as_alice() { HOME=/home/alice DDOCK_ROOT=/home/alice/store su -p -c 'exec "$@"' -- alice sh "$@"; }
run() { as_alice "$DDOCK" run --rm --network none "$@"; }
as_alice "$DDOCK" pull -q "$IMAGE" >/dev/null
# The exit code, whether the reason is said, and whether the cure is.
refused() {
    reason=$1
    shift
    run "$@" "$IMAGE" true 2>told
    echo "refused $? $(grep -c "$reason" told) $(grep -c '^hint: ' told)"
}

refused 'cannot limit memory' --memory 64m
refused 'cannot limit cpu' --cpus 0.5
refused 'cannot limit cpu' -c 512
refused 'cannot limit pids' --pids-limit 20
refused 'cannot limit cpuset' --cpuset-cpus 0
refused 'cannot limit I/O' --blkio-weight 500
refused 'cannot enforce the device rule' --device-cgroup-rule 'c 1:* r'
refused 'cannot enforce `r`' --device /dev/zero:r
refused 'cannot set the limit `nofile`' --ulimit nofile=99999999
refused 'cannot lower the OOM score' --oom-score-adj -5
run "$IMAGE" echo "no limit, no refusal"
run --device /dev/zero:/dev/nought "$IMAGE" sh -c 'head -c 5 /dev/nought | wc -c'
run --sysctl net.ipv4.ip_default_ttl=77 "$IMAGE" sh -c 'cd /proc/sys/net/ipv4; echo "sysctl" $(cat ip_default_ttl ip_unprivileged_port_start)'

# As systemd hands it to a user: the processes are in a cgroup beside the container's.
cd /sys/fs/cgroup || exit
echo '+memory +pids +cpu +cpuset' >cgroup.subtree_control
mkdir -p user/own && echo '+memory +pids +cpu +cpuset' >user/cgroup.subtree_control
chown 1000 user user/cgroup.procs user/cgroup.subtree_control user/own user/own/cgroup.procs
echo 0 >user/own/cgroup.procs
cd "$WORK" || exit
run -m 64m --cpus 0.5 --pids-limit 20 -c 512 --cpuset-cpus 0 "$IMAGE" sh -c '
    cd /sys/fs/cgroup; echo "handed down" $(cat memory.max cpu.max pids.max cpu.weight cpuset.cpus.effective)'
run -m 64m "$IMAGE" tail /dev/zero 2>told; echo "killed $? $(grep -c 'memory limit' told)"
run --pids-limit 5 "$IMAGE" sh -c 'for i in 1 2 3 4 5 6; do sleep 9 & done; echo all' 2>&1 | grep -c fork
refused 'cannot limit I/O' --blkio-weight 500
run --cgroup-parent mine --pids-limit 20 "$IMAGE" true; echo "parent" "$(cd /sys/fs/cgroup/user && echo mine*)"
echo "left" $(find /sys/fs/cgroup -type d -name '????????????????????????????????????????????????????????????????')
