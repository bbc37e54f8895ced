load_kvm
say "its kvm has $(cd /sys/module/kvm_*/parameters && grep . ept npt 2>/dev/null | tr ':' '=' | head -n 1)"
hugepages 64
vmm run l2.json
