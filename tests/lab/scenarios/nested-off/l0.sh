load_kvm
hugepages 256
vmm run l1-payload.json
vmm run l1.json
