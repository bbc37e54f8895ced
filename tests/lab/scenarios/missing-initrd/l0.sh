load_kvm
hugepages 256
vmm run l1.json --set boot.initrd=nowhere.cpio

# Without an initrd the kernel finds no root, panics and (panic=-1) reboots, for ever: a second panic shows that the reset
# was a real one; then a signal ends the machine in good order.
vmm_start run l1-bare.json
await 2 'Kernel panic'
kill -TERM "$vmm_pid"
vmm_wait
