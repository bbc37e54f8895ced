dmesg | grep -E 'Hypervisor detected|Hyper-V: (privilege|Host Build|Nested features|Using)|clocksource' | sed 's/.*\] /LAB L1 says: /'
say "clocksource $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
say "clock event $(cat /sys/devices/system/clockevents/clockevent0/current_device)"
load_kvm
hugepages 64
vmm run l2.json
