load_modules
load_kvm
hugepages 48
probe dirty 24 0 & # all of it again and again, much faster than L0 lets it go
vmm run l2.json
