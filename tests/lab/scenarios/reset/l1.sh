say "asks: $(grep -o 'reboot=[a-z]*' /proc/cmdline)?"
read -r order
if [ "$order" = reboot ]; then
    reboot -f
    sleep 1000
fi
