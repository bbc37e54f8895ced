load msr
probe cpuid
probe msrs
say "vmx flags: $(sed -n 's/^vmx flags[^:]*: //p' /proc/cpuinfo | head -n 1)"
case " $(cat /proc/cmdline) " in
*" l2 "*)
	load_kvm
	for parameter in ept npt vpid unrestricted_guest flexpriority enable_apicv pml; do
		value=$(cat /sys/module/kvm_*/parameters/$parameter 2>/dev/null) && parameters="$parameters $parameter=$value"
	done
	say "its kvm has$parameters"
	hugepages 64
	vmm run l2.json
	;;
esac
