load_kvm
hugepages 256
# The reference TSC page needs a TSC that L0 itself keeps time by.
echo tsc >/sys/devices/system/clocksource/clocksource0/current_clocksource
# Its own words apart: the guest's are in the same console.
vmm run l1-payload.json 2>said
sed 's/^/LAB L0 heard: /' said
vmm run l1-less.json
vmm run -v l1.json 2>said
sed 's/^/LAB L0 heard: /' said
