# What L2 writes to its disk goes through L1's disk to L0, so that requests are in flight at both levels.
load_modules
grep -q second /proc/cmdline && say "a second L2, after all that" && return
say "text $(sed -n 's/ *\(.*\) : Kernel code/\1/p' /proc/iomem)"
count run /dev/vda 100000 "$MIB" # until it is told to stop; the more MIB of work a step, the more often L2 has its own code running
