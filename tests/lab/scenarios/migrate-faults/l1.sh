load_modules
load_kvm
hugepages 48
vmm run l2.json
