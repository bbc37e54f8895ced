/* Intel's own compiler must read our tables, and compile what it read again without a complaint. */
#include "../../firmware/acpi.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "harness.h"
#include "scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static uint8_t area[LAYOUT_ACPI_BYTES];

static void write_table(uint64_t gpa, const char *path)
{
	const uint8_t *table = area + (gpa - LAYOUT_ACPI_GPA);
	FILE *file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(table, 1, load_le32(table + 4), file), load_le32(table + 4));
	ck_assert_int_eq(fclose(file), 0);
}

/* Run a command of the shell; its output must have no complaint, and `part` if that is not NULL. */
static void run(const char *command, const char *part)
{
	char output[65536];
	FILE *pipe = popen(command, "r");
	ck_assert_ptr_nonnull(pipe);
	output[fread(output, 1, sizeof(output) - 1, pipe)] = 0;
	int status = pclose(pipe);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: %s", command, output);
	static const char *const complaints[] = {"ncorrect", "nvalid",	  "Warning  ",
						 "Error  ",  "Could not", "xternal"};
	for (size_t i = 0; i < ARRAY_LEN(complaints); i++)
		ck_assert_msg(!strstr(output, complaints[i]), "%s: %s", command, output);
	ck_assert_msg(!part || strstr(output, part), "%s: %s", command, output);
}

static void check_config(const struct machine_config *config)
{
	struct err err = ERR_INIT;
	ck_assert_int_eq(acpi_write_tables(config, area, &err), 0);

	char folder[64];
	char command[256];
	ck_assert_ptr_nonnull(scratch_folder(folder, sizeof(folder), "iasl-XXXXXX"));
	int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(here, 0);
	ck_assert_int_eq(chdir(folder), 0);
	const uint8_t *xsdt = area + (load_le64(area + 24) - LAYOUT_ACPI_GPA);
	uint64_t fadt_gpa = load_le64(xsdt + 36);
	write_table(fadt_gpa, "facp.dat");
	write_table(load_le64(xsdt + 44), "apic.dat");
	write_table(load_le64(xsdt + 52), "mcfg.dat");
	write_table(load_le32(area + (fadt_gpa - LAYOUT_ACPI_GPA) + 40), "dsdt.dat");
	run("iasl -d dsdt.dat 2>&1", NULL);
	run("iasl -we -p again dsdt.dsl 2>&1", " 0 Errors, 0 Warnings");
	run("iasl -d facp.dat 2>&1 && iasl -d apic.dat 2>&1 && iasl -d mcfg.dat 2>&1", NULL);
	run("iasl -we facp.dsl 2>&1 && iasl -we apic.dsl 2>&1 && iasl -we mcfg.dsl 2>&1",
	    " 0 Errors, 0 Warnings");
	ck_assert_int_eq(fchdir(here), 0);
	close(here);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(small_machine)
{
	struct machine_config config = {.cpus = {.count = 1, .sockets = 1, .cores = 1, .threads = 1}};
	check_config(&config);
}
END_TEST

START_TEST(everything_present)
{
	struct machine_config config = {
		.cpus = {.count = 300, .sockets = 1, .cores = 300, .threads = 1},
		.serial_count = 4,
		.debug = {.exit = true, .has_console = true},
	};
	check_config(&config);
}
END_TEST

START_TEST(most_cpus)
{
	struct machine_config config = {
		.cpus = {.count = CONFIG_CPUS_MAX, .sockets = 1, .cores = CONFIG_CPUS_MAX, .threads = 1}};
	check_config(&config);
}
END_TEST

int main(void)
{
	if (system("command -v iasl >/dev/null") != 0) {
		puts("no iasl (apt install acpica-tools)");
		return TEST_SKIP;
	}
	const TTest *const tests[] = {small_machine, everything_present, most_cpus};
	return harness_run("iasl", tests, ARRAY_LEN(tests));
}
