load_kvm
hugepages 272
truncate -s 64M disk.img # a block for each step
pause=0.02
move() {
    aerie ctl control query-nested 2>/dev/null | grep -q evmcs && enlightened=yes
    machine_move "$@"
}
machine_start l1.json --set cpus.count="$CPUS"
await 1 'L1 idles'
machine_move idle l1.json --set cpus.count="$CPUS" && say "moved: L1 idle"
echo count >&3
await 1 'L1 starts: aerie'
sleep 1
machine_move starting l1.json --set cpus.count="$CPUS" && say "moved: L2 being started"
await 1 'COUNT 3 '
moved=2
trips move l1.json --set cpus.count="$CPUS"
say "moved $moved times, enlightened: ${enlightened:-no}"
[ $moved -ge "$TRIPS" ] && say "moved: all trips, $in_l2 of them with L2 running"
stop_counting disk.img
