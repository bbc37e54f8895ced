load_kvm
hugepages 120
truncate -s 16M disk.img
pause=0.02
migration() { aerie ctl control query-migrate --json >ctl.out 2>&1; }
number() { sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" ctl.out; }

machine_start l1.json
await 1 'COUNT 3 '

# 24 MiB are dirty after every round, and 64 MiB/s never carry them in a millisecond. Pages come singly, huge ones cannot.
aerie ctl control migrate-set-parameters max-bandwidth=64M downtime-limit=1 postcopy-ram=true
aerie run --incoming unix:moving --control control-new l1.json --set memory.hugepages=off <input >>console 2>&1 &
dest_pid=$!
until [ -S control-new ]; do sleep 0.1; done
aerie ctl control migrate uri=unix:moving
until migration && [ "$(number dirty-sync-count)" -ge 2 ]; do sleep 0.1; done
grep -q '"status": *"active"' ctl.out && say "copied: not at its end after $(number dirty-sync-count) rounds"
aerie ctl control migrate-start-postcopy
until migration && grep -Eq '"(completed|failed|cancelled|postcopy-paused)"' ctl.out; do sleep 0.05; done
grep -q '"completed"' ctl.out || say "moving failed: $(cat ctl.out)"
say "followed: all there after $(number total-time) ms, downtime $(number downtime) ms, $(number postcopy-requests) pages were asked for"
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
