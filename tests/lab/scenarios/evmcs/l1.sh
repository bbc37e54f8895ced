# "lab=NAME" on the command line is which L1 this is.
me=$(sed 's/.*lab=\([^ ]*\).*/\1/' /proc/cmdline)
say "is $me: $(dmesg | sed -n 's/.*\(Hypervisor detected\)/\1/p')"
load_kvm
say "enlightened_vmcs: $(cat /sys/module/kvm_intel/parameters/enlightened_vmcs)"
dmesg | grep -i 'enlightened vmcs' | sed 's/^[^]]*\] */LAB L1 says: /'
hugepages 64
vmm run l2-cost.json --set "boot.cmdline=as=L2-$me"
[ "$me" = noshadow ] || vmm run l2.json
