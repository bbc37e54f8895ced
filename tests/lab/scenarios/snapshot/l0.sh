load_kvm
hugepages 136
truncate -s 64M disk.img
pause=0.02 # between two looks at the console: L2 takes a few milliseconds for a step

# Two vCPUs in L1, where the emulator is fast enough for it.
cpus=1
[ "$HOST" = svm ] && cpus=2

machine_start l1.json --set cpus.count=$cpus
await 1 'L1 idles'
crash_and_restore idle
say "survived: L1 idle"

# L2's kernel boots: L1's aerie has set it up and is busy with its exits.
echo count >&3
await 1 'L1 starts: aerie'
sleep 1
crash_and_restore starting
say "survived: L2 being started, $levels"

await 1 'L2 text'
await 1 'COUNT 3 '
text=$(sed -n 's/.*L2 text \([0-9a-f]*-[0-9a-f]*\).*/\1/p' console)
text_start=$((0x80000000 + 0x${text%-*})) # nokaslr: the text is mapped 0xffffffff80000000 above where it lies
text_end=$((0x80000000 + 0x${text#*-}))

# Until both have been met: L2 with its own code running, and L1 that handles an exit of L2.
for i in $(seq 24); do
    counted=$(grep -c COUNT console)
    any_moment $i
    [ $i -gt 2 ] && lazy='--lazy --set memory.hugepages=off' # huge pages cannot be read as they are touched
    crash_and_restore counting --paused $lazy
    case $levels in *L2*) met_l2=yes ;; esac
    case $levels in
    *L2*) ;;
    *) # a machine that has not run since is saved once more: KVM must not be asked for all that it was given
        [ -z "$met_l1" ] && crash_and_restore again --paused $lazy
        met_l1=yes
        ;;
    esac
    aerie ctl control cont >/dev/null
    grep -q '^  enlightened *yes' view && enlightened=yes
    for rip in $rips; do
        low=0x${rip#0xffffffff}
        [ ${#low} = 10 ] && [ $((low)) -ge $text_start ] && [ $((low)) -lt $text_end ] && met_text=$rip && cp view view.text
    done
    await $((counted + 2)) COUNT
    say "counts on: $(grep -c COUNT console) after $i, last in $levels" # minutes pass here under Bochs
    [ "$met_l1$met_l2" = yesyes ] && [ -n "$met_text" ] && [ $i -ge 4 ] && break
done
say "survived: L2 counting, $i times"
say "met L2 running: ${met_l2:-no}, L1 handling an exit: ${met_l1:-no}"
say "enlightened: ${enlightened:-no}"
[ -n "$met_text" ] && say "L2's RIP $met_text is in its kernel's text" && head -n $([ "$HOST" = vmx ] && echo 8 || echo 200) view.text | sed 's/^/| /' # a line takes Bochs 2 s

stop_counting disk.img
