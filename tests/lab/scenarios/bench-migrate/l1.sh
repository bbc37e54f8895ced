say "waits for its orders"
while read -r rate && [ "$rate" != end ]; do
    [ -z "$writer" ] || kill "$writer"
    writer=
    [ "$rate" = 0 ] || { probe dirty 64 "$rate" & writer=$!; }
    say "writes $rate MiB/s"
done
