# The same RAM goes from hand to hand: what one of these processes did to it after it had given it away, when its
# KVM takes L1's nested state apart, would show in L2's sequence or end L1.
load_kvm
truncate -s 64M disk.img # a block for each step
pause=0.02
hand_over() {
    aerie ctl control migrate-set-parameters mode=cpr-transfer >/dev/null || { say "moving failed ($1): no such mode" && return 1; }
    machine_move "$@"
}
machine_start l1.json
await 1 'L1 idles'
hand_over idle l1.json && say "handed over: L1 idle"
echo count >&3
await 1 'L1 starts: aerie'
sleep 1
hand_over starting l1.json && say "handed over: L2 being started"
await 1 'COUNT 3 '
moved=2
trips hand_over l1.json
say "handed over $moved times"
[ $moved -ge "$TRIPS" ] && say "handed over: all trips, $in_l2 of them with L2 running"
stop_counting disk.img
