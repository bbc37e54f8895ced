load_kvm
hugepages 256
# Disks of known content: every 4 KiB block says which one it is.
pattern() { # FILE MIB
    i=0
    while [ $i -lt $(($2 * 256)) ]; do
        printf '%-4096s' "block $i"
        i=$((i + 16))
        head -c 61440 /dev/zero
    done >"$1"
}
pattern disk.img 16
md5=$(md5sum <disk.img)
say "disk has ${md5%% *}"
cp disk.img packed.img
truncate -s 32M scratch.img
truncate -s 16M pmem.img
vmm run l1.json
say "console said: $(cat hvc0.log)"
say "scratch begins: $(head -c 13 scratch.img)"
say "pmem begins: $(head -c 15 pmem.img)"
