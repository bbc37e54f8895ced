load_modules
load_kvm
hugepages 64
vmm run l2.json
