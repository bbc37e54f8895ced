say "nproc $(nproc)"
load_kvm
hugepages 64
vmm run l2.json
