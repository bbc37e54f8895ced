/* aerie cpu: which processor features there are, here, on other hosts, and in an L1. */
#include "cpu.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cpu/record.h"
#include "host/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/stat.h>

static const char help[] =
	"Usage: aerie cpu list [--host FILE] [--json]\n"
	"       aerie cpu show CONFIG [--set KEY=VALUE]... [--host FILE] [--vcpu N] [--json]\n"
	"       aerie cpu dump\n"
	"       aerie cpu compare A B [--config CONFIG [--set KEY=VALUE]...] [--json]\n"
	"       aerie cpu baseline A [B]... [--json]\n"
	"\n"
	"  list      every feature by name, and whether this host offers it, else why not\n"
	"  show      what the guest of CONFIG gets: features, CPUID leaves, capability MSRs\n"
	"  dump      this host as JSON, for the commands that take a FILE, A or B\n"
	"  compare   can a guest made on host A run on host B? If not, what is in the way\n"
	"  baseline  the largest processor common to all, as the \"cpu\" of a config\n"
	"\n"
	"Exit status: 0 yes or done, 1 no (compare, baseline) or the host failed, 2 bad usage, config or "
	"file.\n";

enum { FILE_BYTES_MAX = 1 << 20 };

int cpu_fail(const struct err *err)
{
	log_error("%s", err->text);
	return err->code == -EINVAL || err->code == -ENOENT ? CLI_USAGE : CLI_FAILED;
}

int cpu_print_json(cJSON *tree, int code)
{
	char *text = tree ? cJSON_Print(tree) : NULL;
	if (text)
		print_out("%s\n", text);
	else
		log_error("cpu: %s", strerror(ENOMEM));
	bool good = text && print_flush() == 0;
	cJSON_free(text);
	cJSON_Delete(tree);
	return good ? code : CLI_FAILED;
}

int cpu_refuse_option(const char *command, int option, const char *at)
{
	log_error("cpu %s: %s %s (try aerie cpu --help)", command, at,
		  option == ':' ? "needs a value" : "is not an option");
	return CLI_USAGE;
}

static int read_file(const char *path, char **ret, size_t *ret_len, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	size_t used = 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, -errno, "%s", path);
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX)
		return err_set(err, -EINVAL, "%s: not a regular file of at most %d bytes", path,
			       FILE_BYTES_MAX);
	_cleanup_free_ char *text = malloc((size_t)st.st_size + 1);
	if (!text)
		return err_sys(err, -ENOMEM, "%s", path);
	while (used < (size_t)st.st_size) {
		ssize_t n = read(fd, text + used, (size_t)st.st_size - used);
		if (n < 0 && errno != EINTR)
			return err_sys(err, -errno, "%s", path);
		if (n == 0)
			break;
		used += n > 0 ? (size_t)n : 0;
	}
	*ret = take_ptr(text);
	*ret_len = used;
	return 0;
}

static int read_this_machine(struct cpu_host *ret, struct err *err)
{
	_cleanup_close_ int fd = kvm_open(err);
	return fd < 0 ? err->code : cpu_host_read(fd, ret, err);
}

int cpu_host_load(const char *path, struct cpu_host **ret, struct err *err)
{
	_cleanup_free_ struct cpu_host *host = calloc(1, sizeof(*host));
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	if (!host)
		return err_sys(err, -ENOMEM, "cpu");
	int rc = path ? read_file(path, &text, &len, err) : read_this_machine(host, err);
	if (rc == 0 && path)
		rc = cpu_record_parse(path, text, len, host, err);
	if (rc == 0)
		*ret = take_ptr(host);
	return rc;
}

static int cpu_dump(int argc, char **argv)
{
	_cleanup_free_ struct cpu_host *host = NULL;
	struct err err = ERR_INIT;
	if (argc > 1) {
		log_error("cpu dump: unexpected argument %s (try aerie cpu --help)", argv[1]);
		return CLI_USAGE;
	}
	if (cpu_host_load(NULL, &host, &err))
		return cpu_fail(&err);
	_cleanup_free_ char *text = cpu_record_print(host);
	if (!text) {
		log_error("cpu dump: %s", strerror(ENOMEM));
		return CLI_FAILED;
	}
	print_out("%s", text);
	return print_flush() ? CLI_FAILED : CLI_OK;
}

int cli_cpu(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {{"list", cpu_list},
			{"show", cpu_show},
			{"dump", cpu_dump},
			{"compare", cpu_compare_hosts},
			{"baseline", cpu_baseline_hosts}};
	if (argc < 2) {
		log_error("cpu: a command is missing (try aerie cpu --help)");
		return CLI_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_out("%s", help);
		return print_flush() ? CLI_FAILED : CLI_OK;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(argv[1], commands[i].name) == 0) {
			optind = 0; /* glibc: begin anew */
			opterr = 0; /* base/log.h is the only place that prints */
			return commands[i].run(argc - 1, argv + 1);
		}
	}
	log_error("cpu: \"%s\" is not a command of it (try aerie cpu --help)", argv[1]);
	return CLI_USAGE;
}
