load_modules
load_kvm
hugepages 48
{
    sleep 2 # L2 comes up meanwhile
    say "writes 24 MiB again and again, faster than L0 lets it go"
    exec probe dirty 24 0
} &
vmm run l2.json
