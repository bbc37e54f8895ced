load_kvm
hugepages 240
truncate -s 16M disk.img
pause=0.02
migration() { aerie ctl control query-migrate --json >ctl.out 2>&1; }
number() { sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" ctl.out; }

machine_start l1.json
await 1 'COUNT 3 '
sleep 3 # L1 writes by then

# 24 MiB are dirty after every round, and 64 MiB/s carry 19 of them in the 300 ms for which the guest may stand.
aerie ctl control migrate-set-parameters max-bandwidth=64M downtime-limit=300
aerie run --incoming unix:moving --control control-new l1.json <input >>console 2>>dest.log &
dest_pid=$!
until [ -S control-new ]; do sleep 0.1; done
aerie ctl control migrate uri=unix:moving
until migration && [ "$(number dirty-sync-count)" -ge 6 ]; do sleep 0.1; done
grep -q '"status": *"active"' ctl.out && say "without help: not at its end after $(number dirty-sync-count) rounds, $(number transferred) bytes"
aerie ctl control migrate_cancel
until migration && grep -q '"cancelled"' ctl.out; do sleep 0.05; done
wait $dest_pid
counted=$(grep -c COUNT console)
await $((counted + 2)) COUNT && say "cancelled: it goes on"

aerie ctl control migrate-set-parameters auto-converge=true cpu-throttle-initial=40 cpu-throttle-increment=20
rm -f control-new moving
aerie run --incoming unix:moving --control control-new l1.json <input >>console 2>>dest.log &
dest_pid=$!
until [ -S control-new ]; do sleep 0.1; done
aerie ctl control migrate uri=unix:moving
until migration && grep -Eq '"(completed|failed|cancelled)"' ctl.out; do
    percent=$(number cpu-throttle-percentage)
    [ "${percent:-0}" -gt "${slowest:-0}" ] && slowest=$percent
    sleep 0.1
done
grep -q '"completed"' ctl.out || say "moving failed: $(cat ctl.out)"
say "slowed down: at its end after $(number dirty-sync-count) rounds, vCPUs held for up to $slowest % of the time, downtime $(number downtime) ms, $(number transferred) bytes"
aerie ctl control quit >/dev/null
wait $vmm_pid
vmm_pid=$dest_pid
mv control-new control
counted=$(grep -c COUNT console)
await $((counted + 2)) COUNT && say "moved: it goes on"

echo stop >&3
vmm_wait
last=$(sed -n 's/.*COUNT \([0-9]*\) .*/\1/p' console | tail -1)
say "$(count check "$last" <console)"
say "$(count check-disk disk.img "$last")"
