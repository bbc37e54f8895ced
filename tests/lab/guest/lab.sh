# Sourced at every level by init (and by the native host): the words a scenario's scripts are written in.
# LEVEL, HOST and KVM_MODULE stand in /lab.env, put there when the image was made.
. ./lab.env

say() { echo "LAB $LEVEL $*"; }

introduce() { say "up: kernel $(uname -r), hypervisor $(probe hypervisor), $1 s to userspace"; }

load() { # MODULE [PARAMETER]...
    name=$1
    shift
    insmod "modules/$name.ko" "$@"
}

load_modules() { # all that the scenario names, in its order
    for module in $MODULES; do
        load "$module"
    done
}

# Nested virtualization needs nothing else from L0 and L1 but this module and these parameters.
load_kvm() {
    load irqbypass && load kvm && load $KVM_MODULE && [ -c /dev/kvm ] && say "kvm loaded: $KVM_MODULE"
}

# Guests live on 2 MiB pages: under an emulator L2 comes up five times faster so.
hugepages() { echo "$1" >/proc/sys/vm/nr_hugepages; }

# In hundredths of a second. The 1 before the fraction keeps the shell from reading 08 as octal.
clock() { read -r now _ </proc/uptime && echo $((${now%.*} * 100 + 1${now#*.} - 100)); }

# A finished VMM leaves its exit code in the log, for the scenario to expect. Its time is told by this level's clock: under
# svm that counts instructions (1 s is 10^9), so that two commits can be compared exactly.
ended() {
    code=$?
    ticks=$(($(clock) - began))
    say "aerie exit code $code after $(printf '%d.%02d' $((ticks / 100)) $((ticks % 100))) s of this level's clock"
}

vmm() {
    say "starts: aerie $*"
    began=$(clock)
    aerie "$@"
    ended
}

# For scenarios that talk to a running VMM: its console goes to ./console, its input comes from descriptor 3.
vmm_start() {
    say "starts in background: aerie $*"
    began=$(clock)
    rm -f input console && mkfifo input && : >console
    aerie "$@" <input >console 2>&1 &
    vmm_pid=$!
    exec 3>input
}

# N lines that contain TEXT are awaited on that console. The lab's own limit ends a wait that is in vain.
await() { # N TEXT
    while [ "$(grep -c "$2" console)" -lt "$1" ]; do
        kill -0 "$vmm_pid" 2>/dev/null || { say "aerie is gone, and \"$2\" did not come $1 times" && return 1; }
        sleep "${pause:-0.2}"
    done
}

vmm_wait() {
    wait "$vmm_pid"
    ended >ended
    exec 3>&-
    sed 's/^/| /' console
    cat ended
}

# A machine with a control socket that is saved, lost and brought back. What it says before and after makes one ./console.
machine_start() { # CONFIG OPTION...
    say "starts with a control socket: aerie run $*"
    began=$(clock)
    saves=0
    rm -f input console && mkfifo input && : >console
    aerie run --control control "$@" <input >>console &
    vmm_pid=$!
    exec 3>input
    until [ -S control ]; do sleep 0.1; done
}

# The machine stays paused after it has been saved, so that what is on its disks is what it knows of them. Then aerie dies
# without having a say in it. $levels: who ran on each vCPU (L1 or L2); $rips: where each running L2 was.
crash_and_restore() { # WHAT OPTION...
    what=$1
    shift
    saves=$((saves + 1))
    aerie ctl control snapshot-save "dir=save-$saves" >ctl.out 2>&1 || say "saving failed ($what): $(tail -1 ctl.out)"
    kill -9 "$vmm_pid"
    wait "$vmm_pid" 2>/dev/null
    aerie inspect "save-$saves" >view || say "inspecting failed ($what)"
    levels=$(sed -n 's/^runs *//p' view | tr '\n' ' ')
    rips=$(awk '/^runs/ { runs = $2 } /^  rip/ { if (runs == "L2") print $2 }' view)
    rm -f control
    aerie restore "save-$saves" --control control "$@" <input >>console &
    vmm_pid=$!
    until [ -S control ]; do
        kill -0 "$vmm_pid" 2>/dev/null || { say "restoring failed ($what)" && return 1; }
        sleep "${pause:-0.1}"
    done
    rm -rf "save-$((saves - 1))" # its successor's memory is the one that is mapped now
}

# Who waits for the machine of machine_start: $new_pid, behind ./control-new. It speaks to the same ./console.
destination() { # CONFIG OPTION...
    rm -f control-new moving
    aerie run --incoming unix:moving --control control-new "$@" <input >>console &
    new_pid=$!
    until [ -S control-new ]; do
        kill -0 "$new_pid" 2>/dev/null || return 1
        sleep 0.1
    done
}

# How its migration stands, in ./ctl.out; whether that is its end; and a number that stands there.
progress() { aerie ctl control query-migrate --json >ctl.out 2>&1; }
progress_ended() { progress && grep -Eq '"(completed|failed|cancelled|postcopy-paused)"' ctl.out; }
number() { sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" ctl.out; }

# The machine is over there: the old aerie is ended, and the new one is the machine's.
follow() {
    aerie ctl control quit >/dev/null
    wait "$vmm_pid"
    vmm_pid=$new_pid
    mv control-new control
}

# All of that. $levels, as after crash_and_restore: the side that has given the machine away knows how it was then.
machine_move() { # WHAT CONFIG OPTION...
    what=$1
    shift
    destination "$@" || { say "moving failed ($what): nobody to take it" && return 1; }
    aerie ctl control migrate uri=unix:moving >ctl.out 2>&1 || { say "moving failed ($what): $(tail -1 ctl.out)" && return 1; }
    until progress_ended; do
        kill -0 "$vmm_pid" 2>/dev/null || { say "moving failed ($what): the machine has ended" && return 1; }
        sleep 0.1
    done
    grep -q '"completed"' ctl.out || { say "moving failed ($what): $(cat ctl.out)" && return 1; }
    aerie ctl control query-nested --json >view || say "inspecting failed ($what)"
    levels=$(sed -n 's/.*"runs":[[:space:]]*"\(L[12]\)".*/\1/p' view | tr '\n' ' ')
    follow
    say "$what: downtime $(number downtime) ms, $(number transferred) bytes"
}

# Before the I-th save or move, so that it is not always right behind a number, when L1 has just written it for L2.
any_moment() { sleep "0.0$(($1 % 10))"; } # I

# What MOVE does with the machine, until it has been moved $TRIPS times, and up to 20 times more until L2 was running then.
# $moved: how often it was, by the caller and here; $in_l2: how often here with L2 running.
trips() { # MOVE CONFIG OPTION...
    move=$1
    shift
    in_l2=0
    while [ $moved -lt "$TRIPS" ] || { [ $in_l2 = 0 ] && [ $moved -lt $((TRIPS + 20)) ]; }; do
        counted=$(grep -c COUNT console)
        any_moment $moved
        "$move" "trip $moved" "$@" || break
        case $levels in *L2*) in_l2=$((in_l2 + 1)) ;; esac
        await $((counted + 2)) COUNT || break
        moved=$((moved + 1))
    done
}

# Where an L2 counts (guest/count.c): it goes on, and what it has said and written is whole to LAST.
counts_on() { await $(($(grep -c COUNT console) + 2)) COUNT; }

counted_whole() { # DISK LAST
    say "$(count check "$2" <console)"
    say "$(count check-disk "$1" "$2")"
}

stop_counting() { # DISK
    echo stop >&3
    vmm_wait
    counted_whole "$1" "$(sed -n 's/.*COUNT \([0-9]*\) .*/\1/p' console | tail -1)"
}
