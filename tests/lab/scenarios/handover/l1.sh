load_modules
load_kvm
hugepages 64
say "idles"
read -r order
say "was told: $order"
vmm run l2.json
vmm run l2-second.json
