# What ddock's containers may do where the kernel has AppArmor. Loaded by the first that starts.
profile ddock-default flags=(attach_disconnected,mediate_deleted) {
  # In general everything: capabilities, seccomp and namespaces decide.
  file,
  network,
  unix,
  capability,
  umount,

  # Nobody mounts, not even with CAP_SYS_ADMIN: what is covered would come to light.
  deny mount,

  # Signals and looks at memory among the container's own processes, and from the host.
  signal (send, receive) peer=ddock-default,
  signal (receive) peer=unconfined,
  ptrace (trace, read, tracedby, readby) peer=ddock-default,

  # Of /proc no more than processes' own directories is written, and of /proc/sys the limits of shared memory.
  deny /proc/* w,
  deny /proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  # Of /sys the container's cgroups.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
