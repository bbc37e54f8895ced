load irqbypass
load kvm
load kvm-intel nested=1 ept=1 enable_shadow_vmcs=0 && say "kvm loaded without VMCS shadowing"
hugepages 256
vmm run l1-cost.json
vmm run l1-noshadow.json
rmmod kvm_intel && load $KVM_MODULE && say "kvm loaded: $KVM_MODULE"
vmm run l1-shadow.json
# configs/hyperv-intel.json, made smaller. A Linux that finds KVM, too, takes that.
sed -i "s/\"cmdline\": \"/&lab=evmcs /" l1-evmcs.json
vmm run -v l1-evmcs.json --set cpus.count=1 --set memory.size=512M --set memory.hugepages=2M --set boot.initrd=l1.cpio \
    --set cpu.hyperv.kvm=false 2>said
sed "s/^/LAB L0 heard: /" said
