load_kvm
hugepages 64
grep -m 1 -E '^vmx flags' /proc/cpuinfo
vmm run l2.json
