load_modules
load_kvm
hugepages 48
{
    sleep 2 # L2 comes up meanwhile; from then on no word of L1's own, which would fall into one of L2's
    exec probe dirty 24 0 # all of it again and again, much faster than L0 lets it go
} &
vmm run l2.json
