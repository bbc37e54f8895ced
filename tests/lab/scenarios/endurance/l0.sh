load_kvm
hugepages 136
truncate -s 64M disk.img
pause=0.02
machine_start l1.json
await 1 'COUNT 1 '
in_l2=0
survived=0
while [ $survived -lt "$CYCLES" ]; do
    counted=$(grep -c COUNT console)
    any_moment $survived
    crash_and_restore "cycle $survived" --lazy --set memory.hugepages=off || break
    await $((counted + 1)) COUNT || break
    survived=$((survived + 1))
    case $levels in *L2*) in_l2=$((in_l2 + 1)) ;; esac
    [ $((survived % 10)) = 0 ] && say "survived $survived cycles, $in_l2 of them with L2 running"
done
[ $survived = "$CYCLES" ] && say "survived all cycles, $in_l2 of them with L2 running"
stop_counting disk.img
