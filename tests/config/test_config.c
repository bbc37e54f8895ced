/* What the loader promises beyond single messages, which test_golden.c has. */
#include "base/cleanup.h"
#include "config/config.h"
#include "harness.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define KERNEL	 "tests/golden/config/kernel"
#define SMALLEST "{ \"boot\": { \"kernel\": \"" KERNEL "\" } }"

static int parse(const char *text, const char *const *set, size_t set_count, struct machine_config **ret,
		 struct err *err)
{
	return config_parse("x.json", text, strlen(text), set, set_count, ret, err);
}

static struct machine_config *parse_good(const char *text)
{
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	ck_assert_msg(parse(text, NULL, 0, &config, &err) == 0, "%s", err.text);
	return config;
}

START_TEST(defaults_are_those_of_the_reference)
{
	struct machine_config *config = parse_good(SMALLEST);
	ck_assert_str_eq(config->name, "aerie");
	ck_assert_uint_eq(config->cpus.count, 1);
	ck_assert_uint_eq(config->cpus.sockets * config->cpus.cores * config->cpus.threads, 1);
	ck_assert_uint_eq(config->memory.size_bytes, 512ULL << 20);
	ck_assert_int_eq(config->memory.hugepages, HUGEPAGES_OFF);
	ck_assert(!config->memory.prealloc && !config->memory.shared);
	ck_assert_str_eq(config->boot.kernel, KERNEL);
	ck_assert_ptr_null(config->boot.initrd);
	ck_assert_str_eq(config->boot.cmdline, "");
	ck_assert_uint_eq(config->boot.module_count, 0);
	ck_assert_int_eq(config->nested, NESTED_AUTO);
	ck_assert_str_eq(config->cpu.model, "host");
	ck_assert_uint_eq(config->cpu.require_count + config->cpu.prefer_count + config->cpu.disable_count,
			  0);
	ck_assert_uint_eq(config->cpu.tsc_khz, 0);
	ck_assert_int_eq(config->cpu.msr.unknown, MSR_UNKNOWN_FAULT);
	ck_assert_mem_eq(&config->cpu.hyperv, &(struct hyperv_config){.enabled = false},
			 sizeof(config->cpu.hyperv)); /* "off" leaves nothing on */
	ck_assert_uint_eq(config->serial_count, 1);
	ck_assert_int_eq(config->serial[0].kind, CHARDEV_STDIO);
	ck_assert_ptr_null(config->serial[0].path);
	ck_assert_uint_eq(config->device_count, 0);
	ck_assert(!config->debug.exit && !config->debug.has_console);
	config_free(config);
}
END_TEST

START_TEST(the_processor_arrives_in_its_fields)
{
	struct machine_config *config = parse_good(
		"{ \"boot\": { \"kernel\": \"" KERNEL "\" }, \"cpu\": { \"model\": \"x86-64-v3\", "
		"\"require\": [\"vmx-ept\"], \"prefer\": [\"npt\", \"vgif\"], \"disable\": [\"vmx-pml\"], "
		"\"tsc_khz\": 2000000, \"hyperv\": { \"synic\": false, \"evmcs\": true, \"vendor_id\": \"x\" "
		"}, "
		"\"msr\": { \"unknown\": \"ignore\", \"allow\": [ 27, \"0xC0010015\" ] } } }");
	const struct cpu_config *cpu = &config->cpu;
	ck_assert_str_eq(cpu->model, "x86-64-v3");
	ck_assert_uint_eq(cpu->require_count, 1);
	ck_assert_str_eq(cpu->require[0], "vmx-ept");
	ck_assert_uint_eq(cpu->prefer_count, 2);
	ck_assert_str_eq(cpu->prefer[1], "vgif");
	ck_assert_uint_eq(cpu->disable_count, 1);
	ck_assert_str_eq(cpu->disable[0], "vmx-pml");
	ck_assert_uint_eq(cpu->tsc_khz, 2000000);
	ck_assert_int_eq(cpu->msr.unknown, MSR_UNKNOWN_IGNORE);
	ck_assert_uint_eq(cpu->msr.allow_count, 2);
	ck_assert_uint_eq(cpu->msr.allow[0], 27);
	ck_assert_uint_eq(cpu->msr.allow[1], 0xc0010015);
	ck_assert(cpu->hyperv.enabled && cpu->hyperv.relaxed && cpu->hyperv.evmcs && cpu->hyperv.ipi);
	ck_assert(!cpu->hyperv.synic && !cpu->hyperv.stimer && !cpu->hyperv.stimer_direct);
	ck_assert_str_eq(cpu->hyperv.vendor_id, "x");
	ck_assert_uint_eq(cpu->hyperv.spinlock_retries, 8191);
	config_free(config);
}
END_TEST

START_TEST(every_value_arrives_in_its_field)
{
	struct machine_config *config = parse_good(
		"{ \"name\": \"l1\", \"cpus\": { \"count\": 24, \"sockets\": 2, \"cores\": 4, \"threads\": 3 "
		"},"
		"  \"memory\": { \"size\": \"3G\", \"hugepages\": \"1G\", \"prealloc\": true, \"shared\": "
		"true },"
		"  \"boot\": { \"kernel\": \"" KERNEL "\", \"initrd\": \"" KERNEL
		"\", \"cmdline\": \"quiet\","
		"    \"modules\": [{ \"path\": \"" KERNEL "\" }, { \"path\": \"" KERNEL
		"\", \"cmdline\": \"m\" }] },"
		"  \"nested\": \"vmx\","
		"  \"serial\": [{ \"file\": \"f\" }, { \"unix\": \"u\" }, { \"pty\": \"p\" }, \"null\"],"
		"  \"debug\": { \"exit\": true, \"console\": \"stderr\" } }");
	ck_assert_str_eq(config->name, "l1");
	ck_assert_uint_eq(config->cpus.count, 24);
	ck_assert_uint_eq(config->cpus.sockets, 2);
	ck_assert_uint_eq(config->cpus.cores, 4);
	ck_assert_uint_eq(config->cpus.threads, 3);
	ck_assert_uint_eq(config->memory.size_bytes, 3ULL << 30);
	ck_assert_int_eq(config->memory.hugepages, HUGEPAGES_1G);
	ck_assert(config->memory.prealloc && config->memory.shared);
	ck_assert_str_eq(config->boot.initrd, KERNEL);
	ck_assert_str_eq(config->boot.cmdline, "quiet");
	ck_assert_uint_eq(config->boot.module_count, 2);
	ck_assert_str_eq(config->boot.modules[0].cmdline, "");
	ck_assert_str_eq(config->boot.modules[1].path, KERNEL);
	ck_assert_str_eq(config->boot.modules[1].cmdline, "m");
	ck_assert_int_eq(config->nested, NESTED_VMX);
	ck_assert_uint_eq(config->serial_count, 4);
	ck_assert_int_eq(config->serial[0].kind, CHARDEV_FILE);
	ck_assert_str_eq(config->serial[0].path, "f");
	ck_assert_int_eq(config->serial[1].kind, CHARDEV_UNIX);
	ck_assert_str_eq(config->serial[1].path, "u");
	ck_assert_int_eq(config->serial[2].kind, CHARDEV_PTY);
	ck_assert_str_eq(config->serial[2].path, "p");
	ck_assert_int_eq(config->serial[3].kind, CHARDEV_NULL);
	ck_assert(config->debug.exit && config->debug.has_console);
	ck_assert_int_eq(config->debug.console.kind, CHARDEV_STDERR);
	config_free(config);
}
END_TEST

/* A count is taken only when its literal is a whole number within bounds: never what a double makes of it. */
START_TEST(numbers_are_exact)
{
	static const struct {
		const char *literal;
		uint32_t count; /* 0: refused */
	} cases[] = {
		{"1", 1},
		{"1024", 1024},
		{"0", 0},
		{"-0", 0},
		{"-1", 0},
		{"1025", 0},
		{"1.5", 0},
		{"1.0", 0},
		{"1e0", 0},
		{"1E2", 0},
		{"1e400", 0},
		{"1e-400", 0},
		{"4294967297", 0},
		{"9007199254740993", 0},
		{"18446744073709551617", 0},
		{"1.00000000000000000000001", 0},
		{"340282366920938463463374607431768211457", 0},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct machine_config *config = NULL;
		struct err err = ERR_INIT;
		char text[256];
		(void)snprintf(text, sizeof(text),
			       "{ \"cpus\": { \"count\": %s }, \"boot\": { \"kernel\": \"" KERNEL "\" } }",
			       cases[i].literal);
		int rc = parse(text, NULL, 0, &config, &err);
		ck_assert_msg(rc == (cases[i].count ? 0 : -EINVAL), "%s gives %d %s", cases[i].literal, rc,
			      err.text);
		if (cases[i].count)
			ck_assert_uint_eq(config->cpus.count, cases[i].count);
		else
			ck_assert_msg(strstr(err.text, cases[i].literal), "%s is not in: %s",
				      cases[i].literal, err.text);
		config_free(config);
	}
}
END_TEST

START_TEST(paths_are_resolved_beside_the_config)
{
	static const struct {
		const char *config, *path, *resolved;
	} cases[] = {
		{"x.json", "log", "log"},	    {"./x.json", "log", "./log"},
		{"a/b/x.json", "log", "a/b/log"},   {"/a/x.json", "log", "/a/log"},
		{"/x.json", "log", "/log"},	    {"a/x.json", "/log", "/log"},
		{"a/x.json", "../log", "a/../log"},
	};
	char *kernel = realpath(KERNEL, NULL);
	ck_assert_ptr_nonnull(kernel);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct machine_config *config = NULL;
		struct err err = ERR_INIT;
		char text[1024];
		int len = snprintf(text, sizeof(text),
				   "{ \"boot\": { \"kernel\": \"%s\" }, \"serial\": [{ \"file\": \"%s\" }] }",
				   kernel, cases[i].path);
		ck_assert_msg(config_parse(cases[i].config, text, (size_t)len, NULL, 0, &config, &err) == 0,
			      "%s", err.text);
		ck_assert_str_eq(config->serial[0].path, cases[i].resolved);
		config_free(config);
	}
	free(kernel);
}
END_TEST

/* What config_print says is read back as the same machine. */
START_TEST(print_and_parse_are_inverse)
{
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	ck_assert_int_eq(config_load("tests/golden/config/good-everything.json", NULL, 0, &config, &err), 0);
	char *first = config_print(config);
	ck_assert_ptr_nonnull(first);
	config_free(config);
	config = parse_good(first);
	char *second = config_print(config);
	ck_assert_str_eq(first, second);
	config_free(config);
	free(first);
	free(second);
}
END_TEST

START_TEST(paths_are_printed_absolute)
{
	struct machine_config *config = parse_good(
		"{\"name\": \"m\", \"boot\": {\"kernel\": \"tests/golden/config/good-everything.json\"}, "
		"\"serial\": [{\"file\": \"logs/a\"}, {\"unix\": \"/run/b\"}]}");
	char *text = config_print_in(config, "/folder");
	ck_assert_ptr_nonnull(text);
	ck_assert_ptr_nonnull(strstr(text, "\"/folder/logs/a\""));
	ck_assert_ptr_nonnull(strstr(text, "\"/run/b\""));
	ck_assert_ptr_nonnull(strstr(text, "\"/folder/tests/golden/config/good-everything.json\""));
	config_free(config);
	free(text);
}
END_TEST

/* Cut anywhere, a config is refused with a position, and nothing beyond its end is read (ASan watches the
 * heap). */
START_TEST(every_prefix_is_refused)
{
	static const char text[] =
		"{ \"name\": \"\\u00e9\\ud83d\\ude00\xc3\xa9\", \"cpus\": { \"count\": 12 },"
		" \"serial\": [null, true, -1.5e+3] }";
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		struct machine_config *config = NULL;
		struct err err = ERR_INIT;
		char *copy = malloc(len ? len : 1);
		ck_assert_ptr_nonnull(copy);
		memcpy(copy, text, len);
		ck_assert_int_eq(config_parse("x.json", copy, len, NULL, 0, &config, &err), -EINVAL);
		ck_assert_msg(strncmp(err.text, "x.json:1:", 9) == 0, "%zu bytes: %s", len, err.text);
		ck_assert_ptr_null(config);
		free(copy);
	}
}
END_TEST

/* Allocations that may still succeed before each fails; config_parse and config_print allocate through
 * cJSON's hooks only. */
static long allocations_left;

static void *scarce_malloc(size_t size)
{
	return allocations_left-- > 0 ? malloc(size) : NULL;
}

START_TEST(running_out_of_memory_anywhere_is_an_error)
{
	static const char *const set[] = {"serial.1.file=log", "cpus={\"count\":2}",
					  "boot.modules.0.path=golden/config/kernel", "name=7"};
	static const char text[] =
		"{ \"boot\": { \"kernel\": \"golden/config/kernel\", \"cmdline\": \"a\" } }";
	cJSON_Hooks scarce = {.malloc_fn = scarce_malloc, .free_fn = free};
	struct machine_config *config = NULL;
	long needed = 0;
	cJSON_InitHooks(&scarce);
	for (int rc = -ENOMEM; rc; needed++) {
		struct err err = ERR_INIT;
		allocations_left = needed;
		rc = config_parse("tests/x.json", text, strlen(text), set, ARRAY_LEN(set), &config, &err);
		ck_assert_msg(rc == 0 || rc == -ENOMEM, "%ld allocations: %d %s", needed, rc, err.text);
		ck_assert(rc == 0 || strstr(err.text, "Cannot allocate memory"));
	}
	ck_assert_int_gt(needed, 50);
	char *printed = NULL;
	for (needed = 0; !printed; needed++) {
		allocations_left = needed;
		printed = config_print(config);
	}
	ck_assert_int_gt(needed, 50);
	cJSON_InitHooks(NULL);
	free(printed);
	config_free(config);
}
END_TEST

/* A message goes to a terminal as one line, whatever the operator's words hold. */
START_TEST(messages_are_one_printable_line)
{
	static const char *const set[] = {"name=\x1b[2J\n"};
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	ck_assert_int_eq(config_load("/no/such\n\x1b[2J", NULL, 0, &config, &err), -ENOENT);
	ck_assert_str_eq(err.text, "/no/such??[2J: No such file or directory");
	err = ERR_INIT;
	ck_assert_int_eq(parse(SMALLEST, set, 1, &config, &err), -EINVAL);
	ck_assert_str_eq(err.text, "--set name=?[2J?: \"\\u001b[2J\\n\" has a control character");
}
END_TEST

/* An err that does not fit is cut, not overrun. */
START_TEST(long_names_are_cut)
{
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	char path[3001];
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	ck_assert_int_eq(config_parse(path, "{", 1, NULL, 0, &config, &err), -EINVAL);
	ck_assert_uint_eq(strlen(err.text), sizeof(err.text) - 1);
	err = ERR_INIT;
	ck_assert_int_eq(config_parse(path, "{}", 2, NULL, 0, &config, &err), -EINVAL);
	ck_assert_uint_eq(strlen(err.text), sizeof(err.text) - 1);
}
END_TEST

START_TEST(free_takes_null)
{
	config_free(NULL);
}
END_TEST

TEST_MAIN("config", defaults_are_those_of_the_reference, every_value_arrives_in_its_field,
	  the_processor_arrives_in_its_fields, numbers_are_exact, paths_are_resolved_beside_the_config,
	  print_and_parse_are_inverse, paths_are_printed_absolute, every_prefix_is_refused,
	  running_out_of_memory_anywhere_is_an_error, messages_are_one_printable_line, long_names_are_cut,
	  free_takes_null)
