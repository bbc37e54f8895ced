load_kvm
hugepages 120
truncate -s 16M disk.img
pause=0.02

machine_start l1.json
await 1 'COUNT 3 '

# 24 MiB are dirty after every round, and 64 MiB/s never carry them in a millisecond. Pages come singly, huge ones cannot.
aerie ctl control migrate-set-parameters max-bandwidth=64M downtime-limit=1 postcopy-ram=true
destination l1.json --set memory.hugepages=off 2>>console
aerie ctl control migrate uri=unix:moving
until progress && [ "$(number dirty-sync-count)" -ge 2 ]; do sleep 0.1; done
grep -q '"status": *"active"' ctl.out && say "copied: not at its end after $(number dirty-sync-count) rounds"
aerie ctl control migrate-start-postcopy
until progress_ended; do sleep 0.05; done
grep -q '"completed"' ctl.out || say "moving failed: $(cat ctl.out)"
say "followed: all there after $(number total-time) ms, downtime $(number downtime) ms, $(number postcopy-requests) pages were asked for"
follow
counts_on && say "moved: it goes on"

stop_counting disk.img
