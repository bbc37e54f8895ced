load_kvm
hugepages 164
cmdline=$(sed -n 's/.*"cmdline": "\(.*\)".*/\1/p' l1.json)
# Each life has a socket of its own: QEMU removes the name of its when it ends, whose ever that is by then.
lives=0
migration() { aerie ctl $control query-migrate --json >ctl.out 2>&1; }

under_aerie() { # OPTION...
    exec aerie run "$@" l1.json
}

# The same guest, by its memory and its devices.
under_qemu() { # OPTION...
    exec qemu-system-x86_64 -L share -accel kvm -cpu host -nodefaults -display none -no-reboot -serial stdio -m 160 \
        -object memory-backend-memfd,id=ram,size=160M,hugetlb=on,share=on -machine q35,memory-backend=ram \
        -kernel vmlinuz -initrd l1.cpio -append "$cmdline" "$@"
}

starts() { # VMM SOCKET [URI]: $pid is its process
    rm -f "$2" moving
    case $1 in
    aerie) under_aerie --control "$2" ${3:+--incoming "$3"} <input >>console 2>>vmm.log & ;;
    QEMU) under_qemu -qmp "unix:$2,server=on,wait=off" ${3:+-incoming "$3"} <input >>console 2>>vmm.log & ;;
    esac
    pid=$!
    until [ -S "$2" ] && [ -S "${3:+moving}" -o -z "$3" ]; do
        kill -0 $pid || { say "case failed: $1: $(tail -1 vmm.log)" && return 1; }
        sleep 0.1
    done
}

moves() { # VMM RATE
    said=$(grep -c "writes $2 MiB/s" console)
    echo "$2" >&3
    await $((said + 1)) "writes $2 MiB/s"
    sleep 1
    lives=$((lives + 1))
    starts "$1" control-$lives unix:moving || return
    aerie ctl $control migrate-set-parameters max-bandwidth=128M downtime-limit=300 >/dev/null
    aerie ctl $control migrate uri=unix:moving >/dev/null
    until migration && grep -Eq '"(completed|failed|cancelled)"' ctl.out; do sleep 0.1; done
    grep -q '"completed"' ctl.out || say "case failed: $(cat ctl.out)"
    say "moved under $1, $2 MiB/s: $(number transferred) bytes, $(number dirty-sync-count) rounds, $(number downtime) ms down, $(number total-time) ms in all"
    aerie ctl $control quit >/dev/null
    wait $vmm_pid
    vmm_pid=$pid
    control=control-$lives
}

for vmm in aerie QEMU; do
    rm -f input console && mkfifo input && : >console
    exec 4<>input 3>input 4<&- # for a moment both ends, since each alone waits for the other
    control=control-$vmm
    starts $vmm $control || continue
    vmm_pid=$pid
    await 1 'waits for its orders'
    for rate in 0 8 32 96; do
        moves $vmm $rate
    done
    echo end >&3
    wait $vmm_pid
    say "$vmm ended with $?"
    exec 3>&-
done
