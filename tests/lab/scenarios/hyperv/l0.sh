load_kvm
hugepages 256
# The reference TSC page needs a TSC that L0 itself keeps time by.
echo tsc >/sys/devices/system/clocksource/clocksource0/current_clocksource
# Its own words apart: the guest's are in the same console.
vmm run l1-payload.json 2>said
sed 's/^/LAB L0 heard: /' said
vmm run l1-less.json
# configs/hyperv-amd.json, made smaller. A Linux that finds KVM, too, takes that.
vmm run -v l1.json --set cpus.count=1 --set memory.size=512M --set memory.hugepages=2M --set boot.initrd=l1.cpio \
    --set cpu.hyperv.kvm=false 2>said
sed 's/^/LAB L0 heard: /' said
