/* All vCPUs of a saved state, one after the other; cpu/vcpu.h has the nodes' format. */
#include "base/cleanup.h"
#include "cpu/nested_view.h"
#include "vcpus_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* KVM's structs, copied out: in the tree they are aligned to 4 bytes. */
struct saved_vcpu {
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_vcpu_events events;
	struct nested_source source;
};

static int read_vcpu(const struct state_file *file, int node, struct saved_vcpu *vcpu, struct err *err)
{
	int r = state_read_exact(file, node, VCPU_REGS, &vcpu->regs, sizeof(vcpu->regs), err);
	if (r == 0)
		r = state_read_exact(file, node, VCPU_SREGS, &vcpu->sregs, sizeof(vcpu->sregs), err);
	if (r == 0)
		r = state_read_exact(file, node, VCPU_EVENTS, &vcpu->events, sizeof(vcpu->events), err);
	if (r < 0)
		return r;
	vcpu->source.regs = &vcpu->regs;
	vcpu->source.sregs = &vcpu->sregs;
	vcpu->source.events = &vcpu->events;
	if (!state_has(file, node, VCPU_NESTED))
		return 0; /* its host could not nest */
	vcpu->source.nested = state_read_bytes(file, node, VCPU_NESTED, &vcpu->source.nested_bytes, err);
	return vcpu->source.nested ? 0 : -EINVAL;
}

static int report_vcpu(const struct state_file *file, int vcpus, uint32_t index, bool json, FILE *out,
		       struct err *err)
{
	struct saved_vcpu vcpu = {.source.index = index};
	struct nested_view view;
	int node = state_node_numbered(file, vcpus, "vcpu", index, err);
	int r = node < 0 ? node : read_vcpu(file, node, &vcpu, err);
	if (r == 0)
		r = nested_view_init(&vcpu.source, &view, err);
	if (r < 0)
		return err_prepend(err, "vcpu%u", index);
	_cleanup_free_ char *text = json ? nested_view_json(&view) : nested_view_text(&view);
	if (!text)
		return err_sys(err, -ENOMEM, "vcpu%u", index);
	(void)fprintf(out, "%s%s", index == 0 ? "" : json ? ", " : "\n", text);
	return 0;
}

int nested_report(const struct state_file *file, bool json, char **ret, struct err *err)
{
	char *text = NULL;
	size_t bytes = 0;
	int vcpus = state_node(file, 0, "vcpus", err);
	if (vcpus < 0)
		return vcpus;
	FILE *out = open_memstream(&text, &bytes);
	if (!out)
		return err_sys(err, -errno, "nested report");
	uint32_t count = state_node_count(file, vcpus);
	int r = 0;
	(void)fputs(json ? "[" : "", out);
	for (uint32_t i = 0; r == 0 && i < count; i++)
		r = report_vcpu(file, vcpus, i, json, out, err);
	(void)fputs(json ? "]" : "", out);
	if (fclose(out) != 0 && r == 0)
		r = err_sys(err, -errno, "nested report");
	if (r < 0)
		free(text);
	else
		*ret = text;
	return r;
}
