/* What bits and numbers are called on AMD: APM volume 2, appendices B and C. */
#include "nested_layout.h"

#include "base/cleanup.h"

#define NAMES(table, list) const struct nested_names table = {list, ARRAY_LEN(list)}

#define SIXTEEN(r, how)                                                                                      \
	r "0" how, r "1" how, r "2" how, r "3" how, r "4" how, r "5" how, r "6" how, r "7" how, r "8" how,   \
		r "9" how, r "10" how, r "11" how, r "12" how, r "13" how, r "14" how, r "15" how

static const char *const cr[] = {SIXTEEN("cr", "-read"), SIXTEEN("cr", "-write")};
NAMES(nested_svm_cr, cr);
static const char *const dr[] = {SIXTEEN("dr", "-read"), SIXTEEN("dr", "-write")};
NAMES(nested_svm_dr, dr);

/* Intercepts and exit codes share their numbers: bit b of word 3 exits with 0x60 + b, of word 4 with 0x80 +
 * b, of word 5 with 0xa0 + b. */
static const char *const word3[] = {
	"intr",	       "nmi",	    "smi",	 "init",    "vintr",	  "cr0-selective-write",
	"idtr-read",   "gdtr-read", "ldtr-read", "tr-read", "idtr-write", "gdtr-write",
	"ldtr-write",  "tr-write",  "rdtsc",	 "rdpmc",   "pushf",	  "popf",
	"cpuid",       "rsm",	    "iret",	 "int-n",   "invd",	  "pause",
	"hlt",	       "invlpg",    "invlpga",	 "io",	    "msr",	  "task-switch",
	"ferr-freeze", "shutdown",
};
NAMES(nested_svm_word3, word3);

static const char *const word4[] = {
	"vmrun",	  "vmmcall",	    "vmload",	      "vmsave",
	"stgi",		  "clgi",	    "skinit",	      "rdtscp",
	"icebp",	  "wbinvd",	    "monitor",	      "mwait",
	"mwait-armed",	  "xsetbv",	    "rdpru",	      "efer-write-trap",
	"cr0-write-trap", "cr1-write-trap", "cr2-write-trap", "cr3-write-trap",
	"cr4-write-trap", "cr5-write-trap", "cr6-write-trap", "cr7-write-trap",
	"cr8-write-trap",
};
NAMES(nested_svm_word4, word4);

static const char *const word5[] = {"invlpgb", "invlpgb-illegal", "invpcid", "mcommit",
				    "tlbsync", "bus-lock",	  "idle-hlt"};
NAMES(nested_svm_word5, word5);

static const char *const int_ctl[] = {
	[8] = "v-irq",	       [9] = "v-gif",		[11] = "v-nmi",	       [12] = "v-nmi-mask",
	[20] = "v-ignore-tpr", [24] = "v-intr-masking", [25] = "v-gif-enable", [26] = "v-nmi-enable",
	[30] = "x2avic",       [31] = "avic",
};
NAMES(nested_svm_int_ctl, int_ctl);

static const char *const int_state[] = {"interrupt-shadow", "guest-interrupt-mask"};
NAMES(nested_svm_int_state, int_state);

static const char *const misc[] = {"nested-paging", "sev", "sev-es", "gmet", "sss-check", "vte"};
NAMES(nested_svm_misc, misc);

static const char *const misc2[] = {"lbr-virtualization", "virtual-vmload-vmsave"};
NAMES(nested_svm_misc2, misc2);

static const char *const hv[] = {"direct-flush", "msr-bitmap", "npt-tlb"};
NAMES(nested_svm_hv, hv);

static const char *const exceptions[32] = {
	"exception-#DE",
	"exception-#DB",
	"exception-NMI",
	"exception-#BP",
	"exception-#OF",
	"exception-#BR",
	"exception-#UD",
	"exception-#NM",
	"exception-#DF",
	NULL,
	"exception-#TS",
	"exception-#NP",
	"exception-#SS",
	"exception-#GP",
	"exception-#PF",
	NULL,
	"exception-#MF",
	"exception-#AC",
	"exception-#MC",
	"exception-#XM",
	NULL,
	"exception-#CP",
	NULL,
	NULL,
	NULL,
	NULL,
	NULL,
	NULL,
	"exception-#HV",
	"exception-#VC",
	"exception-#SX",
	NULL,
};

const char *nested_svm_exit(uint64_t code)
{
	static const struct {
		uint64_t first;
		struct nested_names names;
	} ranges[] = {
		{0x000, {cr, ARRAY_LEN(cr)}},
		{0x020, {dr, ARRAY_LEN(dr)}},
		{0x040, {exceptions, ARRAY_LEN(exceptions)}},
		{0x060, {word3, ARRAY_LEN(word3)}},
		{0x080, {word4, ARRAY_LEN(word4)}},
		{0x0a0, {word5, ARRAY_LEN(word5)}},
	};
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
		if (code >= ranges[i].first && code - ranges[i].first < ranges[i].names.count)
			return ranges[i].names.names[code - ranges[i].first];
	switch (code) {
	case 0x400:
		return "nested-page-fault";
	case 0x401:
		return "avic-incomplete-ipi";
	case 0x402:
		return "avic-no-acceleration";
	case 0x403:
		return "vmgexit";
	case UINT64_MAX:
	case UINT32_MAX: /* older KVM kept 32 bits of it */
		return "invalid-guest-state";
	default:
		return NULL;
	}
}
