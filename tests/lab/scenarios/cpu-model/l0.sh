# For each config: what `aerie cpu show` says here, then what a program in L1 reads, then whether they are the same.
load_kvm
hugepages 256
case $KVM_MODULE in
*amd*) vendor=svm ;;
*) vendor=vmx ;;
esac

# "CPUID leaf eax ebx ecx edx", "MSR index value" and "FLAG name", of either side. Left out is what the guest's own system
# changes: OSXSAVE, OSPKE, the size of the XSAVE area in use; leaves of zeros; topology levels that are not there.
cat >lines.awk <<'AWK'
function without(hex, digit, weight,    at, value) {
	at = digit + 2
	value = index("0123456789abcdef", substr(hex, at, 1)) - 1
	if (int(value / weight) % 2)
		value -= weight
	return substr(hex, 1, at - 1) substr("0123456789abcdef", value + 1, 1) substr(hex, at + 1)
}
{ gsub(/\r/, "") }
$1 == "CPUID" && NF == 6 {
	sub(/\.0$/, "", $2)
	if ($2 == "0x00000001") $5 = without($5, 2, 8)
	if ($2 == "0x00000007") $5 = without($5, 7, 1)
	if ($2 == "0x0000000d" || $2 == "0x0000000d.1") $4 = "-"
	if ($2 ~ /^0x000000(0b|1f)/ && substr($5, 7, 2) == "00") next
	if ($3 $4 $5 $6 ~ /^(0x0+|-)+$/) next
	print $1, $2, $3, $4, $5, $6
}
$1 == "MSR" && NF == 3 { print $1, $2, $3 }
AWK

# The flags that L1's Linux makes of the capability MSRs, by the features that they stand for.
cat >flags <<'MAP'
vnmi vmx-vnmi
preemption_timer vmx-preemption-timer
posted_intr vmx-posted-intr
invvpid vmx-invvpid
ept_x_only vmx-ept-execonly
ept_ad vmx-eptad
ept_1gb vmx-ept-1gb
flexpriority vmx-flexpriority vmx-apicv-xapic
apicv vmx-apicv-register vmx-apicv-vid vmx-posted-intr
tsc_offset vmx-tsc-offset
vtpr vmx-flexpriority
mtf vmx-mtf
vapic vmx-apicv-xapic
ept vmx-ept
vpid vmx-vpid
unrestricted_guest vmx-unrestricted-guest
vapic_reg vmx-apicv-register
vid vmx-apicv-vid
ple vmx-ple
shadow_vmcs vmx-shadow-vmcs
pml vmx-pml
ept_mode_based_exec vmx-mbec
tsc_scaling vmx-tsc-scaling
MAP

predicted() {
	awk '/^CPUID of/ { kind = "CPUID" } /^Capability/ { kind = "MSR" }
		/^  0x/ { print kind, $1, $2, (kind == "MSR" ? "" : $3 " " $4 " " $5) }' shown | awk -f lines.awk
	[ $vendor = svm ] || sed -n '/ features:$/,/^$/p' shown | tr ' ' '\n' | grep '^vmx-' | awk '
		NR == FNR { has[$1] = 1; next }
		{ all = 1; for (i = 2; i <= NF; i++) all = all && has[$i]; if (all) print "FLAG", $1 }' - flags
}

measured() {
	awk -f lines.awk console
	sed -n 's/\r$//; s/^LAB L1 vmx flags: //p' console | tr ' ' '\n' | sed -n 's/^\(.\+\)$/FLAG \1/p'
}

configs=0 same=0 wanted=0 ran=0
for config in l1-$vendor-*.json; do
	name=${config#l1-$vendor-} name=${name%.json}
	configs=$((configs + 1))
	aerie cpu show $config >shown || say "config $name differs: cannot be shown"
	vmm run $config </dev/null >console 2>&1
	grep '^LAB \|^aerie: ' console | grep -v 'vmx flags' | sed 's/^/| /'
	predicted | sort >want
	measured | sort >got
	if cmp -s want got; then
		same=$((same + 1))
		say "config $name: as predicted, $(grep -c CPUID got) CPUID leaves, $(grep -c MSR got) MSRs, $(grep -c FLAG got) flags"
	else
		diff want got | grep '^[-+][^-+]' | sed "s/^/LAB L0 config $name differs: /" # -: predicted, +: read
	fi
	grep -q '"cmdline": ".*l2"' $config || continue
	wanted=$((wanted + 1))
	grep -q 'LAB L2 hello' console && ran=$((ran + 1)) || say "config $name: L2 did not run"
done
[ $same = $configs ] && say "$configs configs, all as predicted"
say "L2 ran in $ran of $wanted"
