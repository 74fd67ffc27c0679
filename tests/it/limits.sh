# What runs into each limit, the same on cgroup v1, hybrid and v2: one line a check, for tests/it/limits.rs and tests/it/vm.rs.
# DDOCK is the program, IMAGE one with busybox that is in the store, DISK a block device of 4 MiB or more, WORK a directory.

# The machines have no modules for a bridge.
run() { "$DDOCK" run --rm --network none "$@"; }
# In the container: the first of the files below /sys/fs/cgroup that is there.
show='show() { for file; do cat "/sys/fs/cgroup/$file" 2>/dev/null && return; done; echo none; }; '

# In force before the command runs, and read from within.
run -m 64m --memory-swap 96m --memory-reservation 32m "$IMAGE" sh -c "$show"'echo "memory" $(
    show memory/memory.limit_in_bytes memory.max) $(
    show memory/memory.memsw.limit_in_bytes memory.swap.max) $(
    show memory/memory.soft_limit_in_bytes memory.low)'
run -m 64m --memory-swap=-1 "$IMAGE" sh -c "$show"'echo "swap" $(show memory/memory.memsw.limit_in_bytes memory.swap.max)'
run -c 512 --cpu-period 50000 --cpu-quota 25000 "$IMAGE" sh -c "$show"'echo "cpu" $(
    show cpu/cpu.shares cpu.weight) $(show cpu/cpu.cfs_quota_us cpu.max) $(show cpu/cpu.cfs_period_us)'
run --cpuset-cpus 0 --cpuset-mems 0 "$IMAGE" sh -c "$show"'echo "cpuset" $(
    show cpuset/cpuset.cpus cpuset.cpus.effective) $(show cpuset/cpuset.mems cpuset.mems.effective) $(
    sed -n "s/^Cpus_allowed_list:\t//p" /proc/self/status)'
run --blkio-weight 500 "$IMAGE" sh -c "$show"'echo "weight" $(show blkio/blkio.bfq.weight io.bfq.weight io.weight)' 2>"$WORK/told" ||
    echo "weight" "$(sed -n '/cannot limit I\/O by weight/p; /^hint: /p' "$WORK/told" | wc -l)"
number=$((0x$(stat -c %t "$DISK"))):$((0x$(stat -c %T "$DISK")))
run --device-read-bps "$DISK:1m" --device-write-iops "$DISK:50" "$IMAGE" sh -c "$show"'echo "rates" $(
    show blkio/blkio.throttle.read_bps_device io.max) $(show blkio/blkio.throttle.write_iops_device)' | sed "s/$number/DISK/g"
run --memory-swappiness 10 -m 64m --oom-kill-disable "$IMAGE" sh -c "$show"'echo "version 1" $(
    show memory/memory.swappiness) $(show memory/memory.oom_control | head -n 1)' 2>"$WORK/told"
echo "told" "$(grep -c discarded "$WORK/told")"

# Felt.
run -m 64m "$IMAGE" tail /dev/zero 2>"$WORK/told"; echo "killed $? $(grep -c 'memory limit' "$WORK/told")"
run -m 64m "$IMAGE" sh -c 'tail /dev/zero; exit 5' 2>"$WORK/told"; echo "killed below $? $(grep -c 'memory limit' "$WORK/told")"
run -m 64m "$IMAGE" sh -c 'exit 5' 2>"$WORK/told"; echo "not killed $? $(grep -c 'memory limit' "$WORK/told")"
run --pids-limit 20 "$IMAGE" sh -c 'i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done; echo all' >"$WORK/out" 2>"$WORK/told"
echo "bomb" "$(grep -c all "$WORK/out") $(grep -c fork "$WORK/told")"
half() {
    # With the greatest share of what others want too, so that a busy machine gives it its half.
    run --cpus 0.5 --cpu-shares 262144 --cgroup-parent / "$IMAGE" sh -c 'time -p timeout 3 sh -c "while :; do :; done"' 2>"$WORK/told"
    awk '$1 == "real" { passed = $2 } $1 == "user" || $1 == "sys" { used += $2 } END { printf "%.2f", used / passed }' "$WORK/told"
}
# Never more; less only if the machine itself was held up.
for _ in 1 2 3 4 5; do
    used=$(half)
    case $used in 0.4[5-9] | 0.5[0-5]) used=half; break ;; 0.[0-4]*) ;; *) break ;; esac
done
echo "$used"
begin=$(date +%s)
run --device "$DISK:/dev/disk:r" --device-read-bps "$DISK:1m" "$IMAGE" sh -c 'head -c 3145728 /dev/disk | wc -c'
[ $(($(date +%s) - begin)) -ge 2 ] && echo "slow" || echo "fast"

# A process's own limits, and the machine's parameters.
run --ulimit nofile=100:200 --ulimit core=0 "$IMAGE" sh -c 'echo "ulimit" $(ulimit -n; ulimit -Hn; ulimit -c)'
run --ulimit nofile=10:9999999999 "$IMAGE" true 2>"$WORK/told"; echo "ulimit $? $(grep -c 'nofile' "$WORK/told") $(grep -c 'fs.nr_open' "$WORK/told")"
run --sysctl net.core.somaxconn=77 --sysctl kernel.shm_rmid_forced=1 "$IMAGE" sh -c 'cd /proc/sys; echo "sysctl" $(
    cat net/core/somaxconn kernel/shm_rmid_forced net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range)'
run --sysctl vm.swappiness=1 "$IMAGE" true 2>"$WORK/told"; echo "sysctl $? $(grep -c 'not allowed' "$WORK/told")"
"$DDOCK" run --rm --net host --sysctl net.core.somaxconn=77 "$IMAGE" true 2>"$WORK/told"; echo "sysctl $? $(grep -c 'host network' "$WORK/told")"
run --oom-score-adj 500 "$IMAGE" sh -c 'echo "score" $(cat /proc/self/oom_score_adj)'

# Devices: made, allowed and not allowed.
run --device /dev/zero:/dev/nought:r "$IMAGE" sh -c 'echo "device" $(stat -c "%t:%T %a" /dev/nought; head -c 5 /dev/nought | wc -c)'
run --device "$DISK:/dev/disk:r" "$IMAGE" sh -c 'head -c 5 /dev/disk | wc -c; echo x 2>&1 >/dev/disk' 2>&1
node="mknod /k b $(echo "$number" | tr : ' ')"
run "$IMAGE" sh -c "$node; head -c 1 /k" 2>&1
run --device-cgroup-rule "b $number r" "$IMAGE" sh -c "$node; (: </k) && echo 'opens'; (: >/k)" 2>&1
run --cap-drop MKNOD "$IMAGE" mknod /k c 1 3 2>&1

# Its cgroup, where it was asked for, and nothing of it afterwards.
run --cgroup-parent /ddock-test/../ddock-test/below -i "$IMAGE" sh -c 'read wait' <"$WORK/wait" &
exec 3>"$WORK/wait"
for _ in $(seq 200); do
    own=$(find /sys/fs/cgroup -path '*/ddock-test/below/*' -type d | grep -Ec '/below/[0-9a-f]{64}$')
    [ "$own" != 0 ] && break
    sleep 0.05
done
echo "parent" "$([ "$own" != 0 ] && echo there)"
exec 3>&-
wait
echo "left" $(find /sys/fs/cgroup -path '*/ddock-test/below/*' -type d)
for _ in 1 2; do find /sys/fs/cgroup -depth -path '*/ddock-test*' -type d -exec rmdir {} + 2>/dev/null; done
