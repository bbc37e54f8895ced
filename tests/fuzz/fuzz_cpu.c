/*
 * A recorded host that anybody may have written, and a wish. Byte 0: a JSON text follows ('{'), or a
 * hand-made host is patched; byte 1: which model; byte 2: nested. Then patches of 8 bytes: what, where (2),
 * register, value (4).
 *
 * Rules: refused with a message, or a model in which every given feature was offered, has all it needs and is
 * in its word, nothing else is, and no capability MSR asks of KVM what it would refuse.
 */
#include "fuzz.h"

#include "../../src/cpu/feature_table.h"
#include "../cpu/hosts.h"
#include "base/bytes.h"
#include "cpu/record.h"

#include <stdlib.h>

static void patch(struct cpu_host *host, struct cpu_config *asked, const uint8_t *p)
{
	uint32_t where = load_le16(p + 1), value = load_le32(p + 4);
	const char *name = cpu_feature_at(where % cpu_feature_count())->name;
	switch (p[0] % 6) {
	case 0:
		(&host->cpuid.entries[where % host->cpuid.count].eax)[p[3] % 4] = value;
		break;
	case 1:
		(&host->cpuid.entries[where % host->cpuid.count].eax)[p[3] % 4] ^= value;
		break;
	case 2:
		if (p[3] & 1)
			host->msrs[where % host->msr_count].value ^= (uint64_t)value << 32;
		else
			host->msrs[where % host->msr_count].value ^= value;
		break;
	case 3:
		host->cpuid.count = 1 + where % host->cpuid.count;
		break;
	case 4:
		if (asked->disable_count < CONFIG_CPU_FEATURES_MAX)
			asked->disable[asked->disable_count++] = name;
		break;
	default:
		if (asked->prefer_count < CONFIG_CPU_FEATURES_MAX)
			asked->prefer[asked->prefer_count++] = name;
		break;
	}
}

static uint64_t bits_of(const struct cpu_host *host, const struct cpu_model *model, enum feature_word word)
{
	const struct feature_word_info *info = &feature_words[word];
	if (info->kind == WORD_CPUID)
		return feature_cpuid_get(&model->cpuid, info);
	for (uint32_t i = 0; i < model->msr_count; i++) {
		uint64_t value = model->msrs[i].value, was;
		if (model->msrs[i].index != info->msr)
			continue;
		FUZZ_CHECK(feature_msr(host, info->msr, &was));
		if (info->kind != WORD_CONTROL)
			return value;
		/* What KVM requires of KVM_SET_MSRS. */
		FUZZ_CHECK((was & ~value & UINT32_MAX) == 0);
		FUZZ_CHECK((value & ~was) >> 32 == 0);
		return (value >> 32) & ~(value & info->default1);
	}
	return 0;
}

static void check(const struct cpu_host *host, const struct cpu_model *model, const struct cpu_report *report)
{
	FUZZ_CHECK(model->cpuid.count <= CPUID_ENTRIES_MAX && model->msr_count <= CPU_HOST_MSRS_MAX);
	for (size_t id = 1; id < F_COUNT; id++) {
		const struct feature_row *row = &feature_rows[id];
		uint64_t mask = feature_mask((enum feature_id)id);
		if (report->features[id - 1].fate != CPU_GIVEN)
			continue;
		FUZZ_CHECK(feature_offered(host, row->word) & mask);
		for (const uint16_t *need = row->needs; *need; need++)
			FUZZ_CHECK(report->features[*need - 1].fate == CPU_GIVEN);
		char reason[64];
		cpu_report_reason(report, id - 1, reason, sizeof(reason));
		FUZZ_CHECK(strlen(reason) < sizeof(reason));
	}
	for (int word = 0; word < WORD_COUNT; word++) {
		uint64_t bits = bits_of(host, model, (enum feature_word)word);
		for (size_t id = 1; id < F_COUNT; id++)
			if (feature_rows[id].word == word && bits & feature_mask((enum feature_id)id))
				FUZZ_CHECK(report->features[id - 1].fate == CPU_GIVEN);
	}
}

static struct cpu_host *read_host(const uint8_t *data, size_t size)
{
	struct cpu_host *host = calloc(1, sizeof(*host));
	struct err err = ERR_INIT;
	FUZZ_CHECK(host);
	if (cpu_record_parse("fuzz", (const char *)data, size, host, &err) < 0) {
		FUZZ_CHECK(err.text[0]);
		free(host);
		return NULL;
	}
	return host;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cpu_model model;
	struct cpu_report report;
	struct cpu_config asked = {0};
	enum nested_mode nested = NESTED_AUTO;
	struct cpu_host *host;

	if (size < 3)
		return 0;
	if (data[0] == '{') {
		host = read_host(data, size);
	} else {
		host = data[0] & 1 ? host_intel(data[0] & 2) : host_amd(data[0] & 2);
		asked.model = cpu_model_at(data[1] % 6)->name;
		nested = (enum nested_mode)(data[2] % 4);
		for (data += 3, size -= 3; size >= 8; data += 8, size -= 8)
			patch(host, &asked, data);
	}
	if (!host)
		return 0;
	struct err err = ERR_INIT;
	if (cpu_resolve(host, &asked, nested, &model, &report, &err) < 0)
		FUZZ_CHECK(err.text[0]);
	else
		check(host, &model, &report);
	free(host);
	return 0;
}
