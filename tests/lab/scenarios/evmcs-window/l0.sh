load_kvm
pause=0.02

untouched() { :; }

saved() { # WINDOW
    if [ "$1" = 11 ]; then # wherever it is
        met=
        for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
            paused=$([ $((i % 2)) = 0 ] && echo --paused)
            crash_and_restore "window 11, $i" $paused
            [ -z "$paused" ] || aerie ctl control cont >/dev/null
            met="$met$levels"
            sleep 0.0$i
        done
        say "window 11: saved in $met"
        return
    fi
    if [ "$1" = 5 ]; then # what was restored and has not run is saved again
        crash_and_restore "window 5" --paused
        crash_and_restore "window 5 again" --lazy
    else
        crash_and_restore "window $1"
    fi
    enlightened=$(sed -n 's/^  enlightened *//p' view)
    say "window $1: saved in ${levels% }, enlightened ${enlightened:-no}"
}

moved() { # WINDOW
    machine_move "window $1" l1.json
    [ "$1" = 11 ] && for i in 2 3 4; do machine_move "window 11, $i" l1.json; done
    :
}

# By post-copy, at once: the pages that KVM wants for its first entry are still on the other side.
followed() { # WINDOW
    destination l1.json || { say "moving failed (window $1): nobody to take it" && return 1; }
    aerie ctl control migrate-set-parameters max-bandwidth=1M postcopy-ram=true
    aerie ctl control migrate uri=unix:moving >ctl.out 2>&1 && aerie ctl control migrate-start-postcopy >ctl.out 2>&1 ||
        { say "moving failed (window $1): $(tail -1 ctl.out)" && return 1; }
    until progress_ended; do sleep 0.05; done
    grep -q '"completed"' ctl.out || { say "moving failed (window $1): $(cat ctl.out)" && return 1; }
    say "window $1: followed, $(number postcopy-requests) pages were asked for"
    follow
}

# L1 goes through all its windows, and in each this is done to it.
all_windows() { # WHAT
    machine_start l1.json
    for window in 1 2 3 4 5 6 7 8 9 10 11; do
        await 1 "^window $window:" && "$1" $window && printf g >&3
        await 1 "^window $window [oF]" || break
        say "$1: $(grep "^window $window [oF]" console)"
    done
    vmm_wait
}

all_windows untouched
all_windows saved
all_windows moved
all_windows followed
