load_modules
load_kvm
hugepages 64
qemu-img convert -f qcow2 -O raw disk.qcow2 old.raw

# One life of aerie: it ends some time after the first flush. Its requests may outlive it by a moment, and their lock with them.
round() { # NUMBER MILLISECONDS
    vmm_start run l1.json
    await 1 '^flushed'
    usleep "$2"000
    kill -9 "$vmm_pid"
    wait "$vmm_pid" 2>/dev/null
    exec 3>&-
    until qemu-img info disk.qcow2 >/dev/null 2>&1; do sleep 0.1; done
    first=$(sed -n 's/^writes from //p' console | tr -d '\r')
    last=$(sed -n 's/^flushed \([0-9]*\)\r*$/\1/p' console | tail -1)
    qemu-img check -q disk.qcow2 >check.log
    code=$? # 3: only clusters that nobody uses
    say "round $1: qemu-img check says $code"
    [ $code = 0 ] || [ $code = 3 ] || cat check.log
    qemu-img convert -f qcow2 -O raw disk.qcow2 new.raw
    say "round $1: writes $first to $last: $(probe disk-check old.raw new.raw "$first" "$last")"
    mv new.raw old.raw
}

number=1
for milliseconds in 50 180 310; do
    round $number $((milliseconds + RANDOM % 100))
    number=$((number + 1))
done
