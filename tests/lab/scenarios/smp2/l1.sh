say "nproc $(nproc)"
# Every CPU does a piece of work, not just its start-up.
for cpu in $(seq 0 $(($(nproc) - 1))); do
    taskset -c "$cpu" sh -c 'read -r pid _ </proc/self/stat; set -- $(cat /proc/$pid/stat); echo "LAB L1 works on CPU ${39}"'
done
