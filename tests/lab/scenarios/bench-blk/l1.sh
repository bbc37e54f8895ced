load_modules
probe disk-read /dev/vda 500 8 >/dev/null # everything has been touched once
for depth in 1 32; do
    say "instructions for a read at depth $depth: $(probe disk-read /dev/vda 4000 $depth)"
done
