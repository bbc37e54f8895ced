load_kvm
hugepages 256

# Each question comes from a new boot, as L1 asks once in its life; and aerie stays the same process.
vmm_start run l1.json
boot=0
for order in 'reboot -f' 'probe outb 0x64 0xfe' 'probe outb 0xcf9 0x06' poweroff; do
    boot=$((boot + 1))
    await $boot 'L1 asks' && echo "$order" >&3
done
vmm_wait

# Linux does a triple fault only when its command line says so.
vmm_start run l1-triple.json
await 1 'L1 asks' && echo 'reboot -f' >&3
await 2 'L1 asks' && echo poweroff >&3
vmm_wait
