load_kvm
hugepages 256
vmm_start run l1.json
await 1 'awaits the power button'
kill -PWR "$vmm_pid"
vmm_wait
