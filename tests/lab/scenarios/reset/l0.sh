load_kvm
hugepages 256

# The second question can only come from a second boot, as L1 asks once in its life.
for method in acpi kbd triple pci; do
    vmm_start run "l1-$method.json"
    await 1 'L1 asks' && echo reboot >&3
    await 2 'L1 asks' && echo poweroff >&3
    vmm_wait
    say "two boots with reboot=$method: $(grep -c 'L1 asks' console)"
done
