load_kvm
hugepages 240
truncate -s 16M disk.img
pause=0.02

machine_start l1.json
await 1 'COUNT 3 '
sleep 3 # L1 writes by then

# 24 MiB are dirty after every round, and 64 MiB/s carry 19 of them in the 300 ms for which the guest may stand.
aerie ctl control migrate-set-parameters max-bandwidth=64M downtime-limit=300
destination l1.json 2>>dest.log
aerie ctl control migrate uri=unix:moving
until progress && [ "$(number dirty-sync-count)" -ge 6 ]; do sleep 0.1; done
grep -q '"status": *"active"' ctl.out && say "without help: not at its end after $(number dirty-sync-count) rounds, $(number transferred) bytes"
aerie ctl control migrate_cancel
until progress && grep -q '"cancelled"' ctl.out; do sleep 0.05; done
wait "$new_pid"
counts_on && say "cancelled: it goes on"

aerie ctl control migrate-set-parameters auto-converge=true cpu-throttle-initial=40 cpu-throttle-increment=20
destination l1.json 2>>dest.log
aerie ctl control migrate uri=unix:moving
until progress_ended; do
    percent=$(number cpu-throttle-percentage)
    [ "${percent:-0}" -gt "${slowest:-0}" ] && slowest=$percent
    sleep 0.1
done
grep -q '"completed"' ctl.out || say "moving failed: $(cat ctl.out)"
say "slowed down: at its end after $(number dirty-sync-count) rounds, vCPUs held for up to $slowest % of the time, downtime $(number downtime) ms, $(number transferred) bytes"
follow
counts_on && say "moved: it goes on"

stop_counting disk.img
