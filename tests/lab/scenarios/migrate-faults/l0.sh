load_kvm
hugepages 240
disk=disk.img
truncate -s 16M $disk
date -s "@$(cat today)" >/dev/null # certificates were made then
pause=0.02

# The numbers of the messages are those of src/migrate/wire.h.
messages="1:HELLO 2:WELCOME 3:CONFIG 4:ACCEPTED 5:REHEARSAL 6:REHEARSED 7:PAGES 8:ROUND 9:ROUND_DONE 10:STATE 11:READY 12:RUN 13:RUNNING"

status_of() { aerie ctl "$1" query-status 2>/dev/null | sed -n 's/^status: //p'; }
migration() { aerie ctl control query-migrate --json 2>/dev/null; }
counted() { grep -c 'COUNT [0-9]* [0-9a-f]\{16\}' console; }
alive() { kill -0 "$1" 2>/dev/null; }

goes_on() { # WHAT
    await $(($(counted) + 1)) COUNT || say "case failed ($1): it does not go on"
}

# A destination, and between the two what does the damage.
listen() { # RELAY_ARGUMENT... : with DEST in place of the destination's process, SOURCE in place of the source's
    rm -f control-new moving between
    aerie run --incoming unix:moving --control control-new l1.json --set devices.0.path=$disk $dest_options <input >>console 2>>dest.log &
    new_pid=$!
    until [ -S control-new ]; do
        alive $new_pid || { say "case failed ($*): nobody to take it" && return 1; }
        sleep 0.02
    done
    arguments=
    for word in "$@"; do
        case $word in
        SOURCE) word=$vmm_pid ;;
        DEST) word=$new_pid ;;
        esac
        arguments="$arguments $word"
    done
    relay between moving $arguments >relay.log &
    relay_pid=$!
    until [ -S between ]; do sleep 0.02; done
}

forget() { # PID
    kill -9 "$1" 2>/dev/null
    wait "$1" 2>/dev/null
    return 0
}

# Where the machine is when all has come to an end: source, dest, nobody, doubt (nobody, and the source does not know), two.
# One that neither runs nor ends any more after its connection is gone waits for another source.
look() {
    while alive $vmm_pid && ! migration | grep -Eq '"(completed|failed|cancelled)"'; do sleep 0.02; done
    wait $relay_pid
    for i in 1 2 3 4 5 6 7 8 9 10; do
        there=$(status_of control-new)
        [ "$there" = running ] && break
        alive $new_pid || break
        sleep 0.05
    done
    here=$(status_of control)
    case "$here $there" in
    "running running") where=two ;;
    "running "*) where=source ;;
    *" running") where=dest ;;
    *) where=nobody ;;
    esac
    [ $where = nobody ] && alive $vmm_pid && migration | grep -q '"in-doubt"' && where=doubt
}

# The disk has all that was said; what was being said when it died does not count.
inspect_dead() { # WHAT
    grep 'COUNT [0-9]* [0-9a-f]\{16\}' console >said
    last=$(wc -l <said)
    said=$(count check "$last" <said) || say "case failed ($1): $said"
    said=$(count check-disk $disk "$last") || say "case failed ($1): $said"
}

bring_back() {
    cp saved.console console
    rm -f control $disk
    lives=$((lives + 1))
    disk=disk-$lives.img # the snapshot's own may not have been written since
    cp saved.img $disk
    aerie restore saved --lazy --set memory.hugepages=off --set devices.0.path=$disk --control control <input >>console 2>>source.log &
    vmm_pid=$!
    until [ -S control ]; do
        alive $vmm_pid || { say "restoring failed: $(tail -1 source.log)" && return 1; }
        sleep 0.05
    done
}

# Whoever has the machine is the next source.
go_on() { # WHAT
    case $where in
    source)
        forget $new_pid
        goes_on "$1"
        ;;
    dest)
        forget $vmm_pid
        vmm_pid=$new_pid
        mv control-new control
        goes_on "$1"
        ;;
    doubt)
        alive $new_pid && say "case failed ($1): the destination is still there"
        aerie ctl control migrate-resume-here >ctl.out 2>&1 || say "case failed ($1): $(cat ctl.out)"
        goes_on "$1"
        ;;
    nobody)
        forget $vmm_pid
        forget $new_pid
        inspect_dead "$1"
        bring_back
        goes_on "$1"
        ;;
    *) say "case failed ($1): $where run" ;;
    esac
}

attempt() { # WHAT EXPECTED RELAY_ARGUMENT...
    what=$1 expected=$2
    shift 2
    listen "$@" || return
    aerie ctl control migrate uri=unix:between >ctl.out 2>&1 || say "case failed ($what): $(tail -1 ctl.out)"
    look
    case " $expected " in
    *" $where "*) cases=$((cases + 1)) ;;
    *) say "case failed ($what): $where ($here, $there) instead of $expected: $(migration)" ;;
    esac
    say "$what: $where; $(cat relay.log)"
    go_on "$what"
}

machine_start l1.json
await 1 'COUNT 3 ' || { sed 's/^/| /' console && return; }
aerie ctl control snapshot-save dir=saved >ctl.out 2>&1 || say "saving failed: $(tail -1 ctl.out)"
cp console saved.console
cp $disk saved.img
aerie ctl control cont >/dev/null

cases=0 lives=0 wanted=0
for message in $messages; do
    type=${message%:*} name=${message#*:}
    case ,$MESSAGES, in
    ,all, | *,$name,*) wanted=$((wanted + 3)) ;;
    *) continue ;;
    esac
    cut=source kill_dest=source kill_source=nobody
    case $name in
    READY) kill_dest=doubt ;;
    RUN) cut=doubt kill_dest=doubt kill_source=dest ;;
    RUNNING) cut=dest kill_dest=nobody kill_source=dest ;;
    esac
    attempt "cut in $name" $cut "$type" 12 cut
    attempt "destination killed in $name" $kill_dest "$type" 12 kill DEST
    attempt "source killed in $name" $kill_source "$type" 12 kill SOURCE
done
say "every message: $cases of $wanted cases as they must be"

bytes=0
while [ $bytes -lt "$BYTES" ]; do
    place=$(((RANDOM * 32768 + RANDOM) % 60000000))
    case $((bytes % 3)) in
    0) action=cut may="source doubt dest" ;;
    1) action="kill DEST" may="source doubt nobody dest" ;;
    2) action="kill SOURCE" may="nobody dest" ;;
    esac
    cases=0
    attempt "$action at byte $place" "$may" 0 $place $action
    bytes=$((bytes + cases))
    [ $cases = 1 ] || break
done
say "random bytes: $bytes"

# What is refused while the machine runs on: not so much as a stop is heard of.
aerie ctl control --events --json >events 2>&1 &
refuse() { # WHAT WHY URI
    aerie ctl control migrate uri="$3" >ctl.out 2>&1 || say "case failed ($1): $(tail -1 ctl.out)"
    until migration | grep -Eq '"(completed|failed|cancelled)"'; do sleep 0.05; done
    migration >ctl.out
    grep -q "$2" ctl.out && [ "$(status_of control)" = running ] && refused=$((refused + 1)) || say "case failed ($1): $(cat ctl.out)"
    say "refused, $1: $(sed -n 's/.*"error-desc": *"\(.*\)".*/\1/p' ctl.out)"
    goes_on "$1"
}
directly() { # WHAT WHY DESTINATION_OPTION...
    what=$1 why=$2
    shift 2
    dest_options=$*
    listen && forget $relay_pid && refuse "$what" "$why" unix:moving
    dest_options=
    forget $new_pid
}
doctored() { # WHAT WHY RELAY_ARGUMENT...
    what=$1 why=$2
    shift 2
    listen "$@" && refuse "$what" "$why" unix:between
    wait $relay_pid
    grep -q '^done [1-9]' relay.log || say "case failed ($what): $(cat relay.log)"
    forget $new_pid
}
refused=0
set -- $(aerie cpu show l1.json | sed -n 's/^ *0x00000007.0 *0x\([0-9a-f]*\) *0x\([0-9a-f]*\) .*/\1 \2/p') # eax ebx of leaf 7
head=000000070000000000000001$1
doctored "weaker CPU" "the guest uses avx512f .*which this host lacks" 5 0 swap $head$2 $head$(printf '%08x' $((0x$2 | 1 << 16)))
doctored "other vendor" 'made on a CPU of vendor .*GenuineIntel' 5 0 swap 68747541444d416369746e65 756e65476c65746e49656e69
doctored "an old version" "version 0" 2 0 version 0
directly "other config" "memory.size: 201326592 here" --set memory.size=192M
directly "other CPU model" "cpu.model" --set cpu.model=x86-64-v2
refuse garbage "not a migration of aerie" "exec:head -c 4096 /dev/urandom"
aerie ctl control migrate-set-parameters tls-creds=ours tls-hostname=l0
directly "wrong certificate" "certificate" --incoming-tls theirs
aerie ctl control migrate-set-parameters tls-creds= tls-hostname=
directly "no certificate" "" --incoming-tls theirs
grep -q '"MIGRATION"' events || say "case failed: no events: $(head -1 events)"
say "refusals: $refused of 8, the machine stopped $(grep -c '"STOP"' events) times"

stop_counting $disk
