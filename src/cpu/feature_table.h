/*
 * The feature table as the files of the resolver share it: ids, words and rows (rows_cpuid.inc,
 * rows_nested.inc).
 */
#ifndef AERIE_CPU_FEATURE_TABLE_H
#define AERIE_CPU_FEATURE_TABLE_H

#include "cpu/features.h"

#include <stdbool.h>
#include <stdint.h>

/* Ids count from 1, so that lists of them end with 0; the index that others see is one less. */
enum feature_id {
	F_NONE,
#define ROW(id, ...) id,
#include "rows_cpuid.inc"
#include "rows_nested.inc"
#undef ROW
	F_COUNT
};
_Static_assert((int)F_COUNT <= (int)CPU_FEATURES_MAX, "cpu_report has room for every row");

enum feature_word {
	WORD_1_EDX,
	WORD_1_ECX,
	WORD_6_EAX,
	WORD_7_0_EBX,
	WORD_7_0_ECX,
	WORD_7_0_EDX,
	WORD_7_1_EAX,
	WORD_7_1_EDX,
	WORD_7_2_EDX,
	WORD_D_1_EAX,
	WORD_12_0_EAX,
	WORD_12_0_EBX,
	WORD_12_1_EAX,
	WORD_14_0_EBX,
	WORD_14_0_ECX,
	WORD_24_0_EBX,
	WORD_40000001_EAX,
	WORD_40000001_EDX,
	WORD_80000001_EDX,
	WORD_80000001_ECX,
	WORD_80000007_EBX,
	WORD_80000007_EDX,
	WORD_80000008_EBX,
	WORD_8000000A_EDX,
	WORD_80000021_EAX,
	WORD_80000021_ECX,
	WORD_80000022_EAX,
	WORD_C0000001_EDX,
	WORD_ARCH_CAPABILITIES,
	WORD_PERF_CAPABILITIES,
	WORD_VMX_BASIC,
	WORD_VMX_MISC,
	WORD_VMX_PIN,
	WORD_VMX_PROC,
	WORD_VMX_PROC2,
	WORD_VMX_PROC3,
	WORD_VMX_EXIT,
	WORD_VMX_EXIT2,
	WORD_VMX_ENTRY,
	WORD_VMX_EPT_VPID,
	WORD_VMX_VMFUNC,
	WORD_COUNT
};

enum word_kind {
	WORD_CPUID,
	WORD_MSR,     /* one bit, one feature */
	WORD_CONTROL, /* bits 31:0: must be 1; 63:32: may be 1 (SDM 3D, A.3 to A.5) */
};

enum cpu_vendor { VENDOR_ANY, VENDOR_INTEL, VENDOR_AMD };

struct feature_word_info {
	const char *label; /* "CPUID 7.0 EBX" */
	enum word_kind kind;
	enum cpu_vendor vendor;	  /* who alone can have it */
	uint32_t function, index; /* CPUID */
	uint8_t reg;		  /* CPUID: 0 to 3 for EAX, EBX, ECX, EDX */
	uint32_t msr;
	uint32_t default1; /* CONTROL: bits that are 1 where L1 has no choice (SDM 3D, A.2) */
	uint64_t fields;   /* bits that are numbers, not features, and stay the host's */
};

struct feature_row {
	struct cpu_feature is; /* its name and what it is */
	uint8_t word, bit;
	uint16_t needs[4]; /* ends with F_NONE */
};

extern const struct feature_row feature_rows[F_COUNT]; /* [F_NONE] is empty */
extern const struct feature_word_info feature_words[WORD_COUNT];

/* The bits of its word that make the feature: one, but for formats that are a number. */
uint64_t feature_mask(enum feature_id id);

/* Reads or writes one register of a CPUID leaf; a leaf that is not there reads 0 and is not written. */
uint32_t feature_cpuid_get(const struct cpuid_table *table, const struct feature_word_info *word);
void feature_cpuid_put(struct cpuid_table *table, const struct feature_word_info *word, uint32_t value);

/* The host's value of an MSR; false: it has none. */
bool feature_msr(const struct cpu_host *host, uint32_t index, uint64_t *ret);

enum cpu_vendor feature_vendor(const struct cpu_host *host);

/* What the host offers in a word, in the bits of rows: for a control, where L1 may be given the choice. */
uint64_t feature_offered(const struct cpu_host *host, enum feature_word word);
/* Controls that this host's KVM fixes to 1 although the architecture would not: they cannot be taken away. */
uint64_t feature_fixed(const struct cpu_host *host, enum feature_word word);

/* A model by name (models.c); NULL for one that there is not. */
struct model {
	struct cpu_feature is;
	enum cpu_vendor vendor; /* VENDOR_ANY: the host's own */
	const uint16_t *const
		*must; /* lists of ids, the last NULL; a host without one of them cannot run it */
	const uint16_t *const *may; /* taken where the host offers them */
	bool passes_host;	    /* everything that the host offers, with the host's own leaves */
};
enum { MODEL_PHYSICAL_BITS = 39 }; /* of all but "host" */

const struct model *model_find(const char *name);

/*
 * What a model has in place of the host's leaves: signature, brand, caches and all that is not a feature. The
 * feature leaves are the host's until model_build masks them. Room for `ret` is the host's table's.
 */
void model_leaves(const struct model *model, const struct cpu_host *host, const bool *given,
		  struct cpuid_table *ret);

/* CPUID and MSRs of what was given (features_build.c). `given`: F_COUNT flags. */
void model_build(const struct cpu_host *host, const struct model *model, const bool *given,
		 struct cpu_model *ret);

#endif
