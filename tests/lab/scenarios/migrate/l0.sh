load_kvm
hugepages 272
truncate -s 64M disk.img # a block for each step
pause=0.02
machine_start l1.json --set cpus.count="$CPUS"
await 1 'L1 idles'
machine_move idle l1.json --set cpus.count="$CPUS" && say "moved: L1 idle"
echo count >&3
await 1 'L1 starts: aerie'
sleep 1
machine_move starting l1.json --set cpus.count="$CPUS" && say "moved: L2 being started"
await 1 'COUNT 3 '
moved=2
in_l2=0
while [ $moved -lt "$TRIPS" ] || { [ $in_l2 = 0 ] && [ $moved -lt $((TRIPS + 20)) ]; }; do
    counted=$(grep -c COUNT console)
    aerie ctl control query-nested 2>/dev/null | grep -q evmcs && enlightened=yes
    sleep 0.0$((moved % 10)) # not always right behind a number, when L1 has just written it for L2
    machine_move "trip $moved" l1.json --set cpus.count="$CPUS" || break
    case $levels in *L2*) in_l2=$((in_l2 + 1)) ;; esac
    await $((counted + 2)) COUNT || break
    moved=$((moved + 1))
done
say "moved $moved times, enlightened: ${enlightened:-no}"
[ $moved -ge "$TRIPS" ] && say "moved: all trips, $in_l2 of them with L2 running"
stop_counting disk.img
