say "asks: what next?"
read -r order
[ "$order" = poweroff ] || {
    say "does: $order"
    sleep 1 # the lines so far shall come out first
    $order
    sleep 5
    say "is still here"
}
