/* What the run log says under -v of how fast this L1's guests can be. */
#include "run.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "doctor.h"
#include "host/kvm.h"

#include <stdlib.h>

/* The answers of the host and of the resolver; large. */
struct nesting {
	struct host_facts facts;
	struct cpu_host host;
	struct cpu_model model;
	struct cpu_report report;
};

void run_log_nesting(const struct machine_config *config)
{
	static const char *const pages[] = {
		[HUGEPAGES_OFF] =
			"of 4 KiB unless the kernel finds larger ones: more faults, and longer walks for L2",
		[HUGEPAGES_2M] = "of 2 MiB",
		[HUGEPAGES_1G] = "of 1 GiB",
	};
	_cleanup_free_ struct nesting *n = calloc(1, sizeof(*n));
	struct err err = ERR_INIT;
	_cleanup_close_ int fd = kvm_open(&err);
	if (!n || fd < 0 || host_facts_gather(NULL, &n->facts, &err) < 0 ||
	    cpu_host_read_quick(fd, &n->host, &err) < 0 ||
	    cpu_resolve(&n->host, &config->cpu, config->nested, &n->model, &n->report, &err) < 0)
		return; /* whatever it was, the machine has met it too and said so */
	doctor_log_for_l1(&n->facts, &n->report);
	log_info("nesting: L1's memory is in pages %s", pages[config->memory.hugepages]);
}
