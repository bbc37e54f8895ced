/*
 * `aerie doctor`, its parts:
 *
 *	host/facts       what this host is (reads, concludes nothing)
 *	doctor_checks    facts -> findings, a table of checks; pure
 *	doctor_features  ... and its rows for what makes nesting fast
 *	doctor_fix       reloads the module and writes modprobe.d
 *	doctor_modprobe  what modprobe.d says
 *	doctor_users     which processes hold KVM
 *	doctor_print     findings -> text or JSON
 *	doctor           the command
 */
#ifndef AERIE_SRC_CLI_DOCTOR_H
#define AERIE_SRC_CLI_DOCTOR_H

#include "cpu/features.h"
#include "host/facts.h"

#include <limits.h>
#include <stddef.h>

/* FAIL: with this the host cannot nest. WARN: it can, but slower or less safely than it might. */
enum finding_status { FINDING_OK, FINDING_WARN, FINDING_FAIL };

struct finding {
	const char *id; /* static; a stable name for scripts */
	enum finding_status status;
	char fact[512];	  /* what is, in one sentence */
	char where[192];  /* where to type the remedy; "" for this host, as root */
	char remedy[384]; /* what to type; "" when there is nothing to do, or another finding says it */
};

#define FINDINGS_MAX 40

struct findings {
	size_t count;
	struct finding list[FINDINGS_MAX];
};

struct doctor_case {
	const char *root; /* NULL: this machine. Borrowed. */
	struct host_facts facts;
};

/* doctor_checks */

/* Append an empty OK finding; id is static. The table and its longest lists fit in FINDINGS_MAX. */
struct finding *findings_add(struct findings *findings, const char *id);
void finding_say(struct finding *finding, enum finding_status status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void finding_remedy(struct finding *finding, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void finding_where(struct finding *finding, const char *where);
size_t findings_with(const struct findings *findings, enum finding_status status);

/* Run every check that applies. The host can nest when none of the findings is a FAIL. */
void doctor_examine(const struct doctor_case *patient, struct findings *findings);

/* Options that --fix gives the module: "nested=1", on Intel VMCS shadowing too. NULL-terminated, static. */
const char *const *doctor_module_options(const struct host_facts *facts);

/*
 * Remedy: load the module with these options and `extra` ("ept=1"; NULL for none), or, where it is built in,
 * put them on the kernel's command line. Only for facts that name a module.
 */
void finding_remedy_reload(struct finding *finding, const struct host_facts *facts, const char *extra);

bool facts_kvm_usable(const struct host_facts *facts); /* opens, and speaks the API that aerie speaks */
bool facts_extension_visible(const struct host_facts *facts); /* vmx or svm in /proc/cpuinfo */

/* doctor_features */

void doctor_examine_features(const struct host_facts *facts, struct findings *findings);

/* The run log's word on the same for one L1: what is in use, and what each lack costs. At level info. */
void doctor_log_for_l1(const struct host_facts *facts, const struct cpu_report *report);

/* doctor_modprobe: what the files of modprobe.d say about one option of one module, in the order they take
 * effect. */

struct modprobe_setting {
	char file[256]; /* as seen from the root: "/etc/modprobe.d/kvm.conf" */
	int line;
	bool on;
};

#define MODPROBE_SETTINGS_MAX 16

struct modprobe_settings {
	size_t count; /* the last one wins */
	struct modprobe_setting list[MODPROBE_SETTINGS_MAX];
};

#define MODPROBE_OWN_FILE "/etc/modprobe.d/aerie-nested.conf"

/* Returns 0 or -errno (-ENOMEM, or -E2BIG when more files mention the option than fit). Missing folders are
 * empty. */
int modprobe_settings_read(const char *root, const char *module, const char *option,
			   struct modprobe_settings *ret);

/*
 * Make MODPROBE_OWN_FILE end in the effect of `options MODULE OPTIONS...`, by appending that line unless the
 * file says so already; every other line stays as it is. Returns 1 if written, 0 if it was there, -errno with
 * err.
 */
int modprobe_own_file_write(const char *root, const char *module, const char *const *options,
			    struct err *err);

/* doctor_users */

/* Processes with KVM open, as "qemu-system-x86 (pid 4711), ...", by pid. Returns how many; other users' only
 * for root. */
size_t doctor_kvm_users(const char *root, char *names, size_t size);

/* doctor_fix */

/*
 * Runs a program to its end: its exit status, or -errno. The tests put a fake here; with --root there is
 * none, and the fix says what it would run.
 */
struct doctor_runner {
	int (*run)(void *opaque, const char *const argv[]);
	void *opaque;
};

extern const struct doctor_runner doctor_runner_spawn;

/* Reload the module so that it nests; with `persist` see to it that it stays so. What was done becomes
 * findings, and patient->facts is gathered again. runner NULL: run nothing. */
void doctor_fix(struct doctor_case *patient, const struct doctor_runner *runner, bool persist,
		struct findings *done);

/* doctor_print; `done` NULL without --fix */

void doctor_print_text(const struct host_facts *facts, const struct findings *findings,
		       const struct findings *done);
int doctor_print_json(const struct host_facts *facts, const struct findings *findings,
		      const struct findings *done);

#endif
