/* A machine out of a snapshot. First everything that can be refused is; only then is anything made. */
#include "base/cleanup.h"
#include "base/log.h"
#include "cpu/vcpu.h"
#include "host/kvm.h"
#include "memory/memory.h"
#include "open.h"
#include "ram.h"

#include <errno.h>
#include <inttypes.h>

static int check_memory(const struct snapshot *snapshot, const struct machine_config *config, struct err *err)
{
	uint64_t bytes = snapshot->manifest.files[FILE_MEMORY].bytes;
	if (bytes == config->memory.size_bytes)
		return 0;
	return err_set(err, -EINVAL, "memory.size: %" PRIu64 " bytes, %" PRIu64 " in the snapshot",
		       config->memory.size_bytes, bytes);
}

static int check_host(const struct snapshot *snapshot, struct err *err)
{
	_cleanup_close_ int kvm_fd = kvm_open(err);
	if (kvm_fd < 0)
		return kvm_fd;
	int r = vcpus_state_check(&snapshot->state, 0, kvm_fd, err);
	return r < 0 ? err_prepend(err, "made on %s (%s, Linux %s)", snapshot->manifest.host.cpu,
				   snapshot->manifest.host.vendor, snapshot->manifest.host.kernel)
		     : 0;
}

int snapshot_check(const struct snapshot *snapshot, const struct machine_config *config, struct err *err)
{
	int r = check_memory(snapshot, config, err);
	if (r == 0)
		r = manifest_check_disks(&snapshot->manifest, config, err);
	if (r == 0)
		r = check_host(snapshot, err);
	return r < 0 ? err_prepend(err, "%s", snapshot->path) : 0;
}

/* The lowest of the chain first, each then covers what is its own. */
static int fill(const struct snapshot *snapshot, struct guest_memory *memory, struct err *err)
{
	int r = snapshot->base ? fill(snapshot->base, memory, err) : 0;
	if (r < 0)
		return r;
	_cleanup_close_ int fd = snapshot_open_memory(snapshot, err);
	if (fd < 0)
		r = fd;
	else
		r = ram_read(memory, fd, snapshot->pages, snapshot->manifest.files[FILE_MEMORY].crc32c, err);
	return r < 0 ? err_prepend(err, "%s", snapshot->path) : 0;
}

int snapshot_restore(const struct snapshot *snapshot, const struct machine_config *config, bool lazy,
		     struct machine **ret, bool *ret_refused, struct err *err)
{
	struct machine *machine;
	_cleanup_close_ int ram_fd = -1;
	int r = snapshot_check(snapshot, config, err);
	if (ret_refused)
		*ret_refused = r < 0;
	if (r == 0 && lazy && !snapshot->base)
		ram_fd = r = snapshot_open_memory(snapshot, err);
	if (r >= 0)
		r = machine_create_incoming(config, ram_fd, &machine, err);
	if (r < 0)
		return r;
	if (!guest_memory_is_file(machine_memory(machine))) {
		if (lazy) /* slower, and otherwise the same */
			log_warn("restore: %s cannot be a mapping of a file: all of it is read now",
				 snapshot->base		 ? "RAM in a chain of snapshots"
				 : config->memory.shared ? "shared RAM"
							 : "RAM of huge pages");
		r = fill(snapshot, machine_memory(machine), err);
	}
	if (r == 0)
		r = machine_load_state(machine, &snapshot->state, false, err);
	if (r < 0) {
		machine_destroy(machine);
		return r;
	}
	*ret = machine;
	return 0;
}
