say "flags: $(grep -m1 '^flags' /proc/cpuinfo | grep -owE 'vmx|svm' || echo neither)"

# VM_CR on AMD, VMX_BASIC and FEATURE_CONTROL on Intel.
load msr
for msr in 0xc0010114 0x480 0x3a; do
    value=$(dd if=/dev/cpu/0/msr bs=8 count=1 skip=$((msr)) iflag=skip_bytes 2>/dev/null | hexdump -e '8/1 "%02x"')
    say "MSR $msr: ${value:-refused}"
done

load irqbypass
load kvm
load $KVM_MODULE 2>/dev/null && say "kvm loads" || say "kvm refuses to load"
[ -e /dev/kvm ] && say "/dev/kvm is there" || say "/dev/kvm is not there"
