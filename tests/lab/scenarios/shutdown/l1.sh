load button
load evdev
for device in /sys/class/input/event*; do
    grep -q 'Power Button' "$device/device/name" && button=/dev/input/${device##*/}
done
say "awaits the power button, ${button:-which it does not have}"
head -c 24 "$button" >/dev/null && say "power button pressed" # 24 bytes are one input event
