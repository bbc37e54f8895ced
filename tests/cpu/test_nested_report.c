/* The vCPUs of a saved state, read as an inspector reads them: what is missing or cut is named. */
#include "base/cleanup.h"
#include "cpu/nested_view.h"
#include "harness.h"
#include "nested_blob.h"

enum { VCPUS = 2 };

static const struct kvm_regs regs = {.rip = 0xffffffff81a1c2b3};
static const struct kvm_sregs2 sregs = {.cr3 = 0x2a3e000};
static const struct kvm_vcpu_events events = {.nmi = {.pending = 1}};

struct how {
	size_t regs_bytes; /* of vCPU 1 */
	size_t nested_bytes;
	bool has_events;
};

static struct state_writer *write_state(const struct how *how, struct state_file *file)
{
	static uint8_t blob[BLOB_SVM];
	struct state_writer *writer = NULL;
	struct err err = ERR_INIT;
	const void *bytes = NULL;
	size_t len = 0;

	blob_svm(blob);
	ck_assert_int_eq(state_writer_create(&writer, &err), 0);
	state_begin(writer, "vcpus");
	for (uint32_t i = 0; i < VCPUS; i++) {
		state_begin_numbered(writer, "vcpu", i);
		state_write_bytes(writer, "regs", &regs, i ? how->regs_bytes : sizeof(regs));
		state_write_bytes(writer, "sregs2", &sregs, sizeof(sregs));
		if (i == 0 || how->has_events)
			state_write_bytes(writer, "events", &events, sizeof(events));
		if (i == 1)
			state_write_bytes(writer, "nested", blob, how->nested_bytes);
		state_end(writer);
	}
	state_end(writer);
	ck_assert_msg(state_writer_finish(writer, &bytes, &len, &err) == 0, "%s", err.text);
	ck_assert_msg(state_file_open(bytes, len, file, &err) == 0, "%s", err.text);
	return writer;
}

START_TEST(each_vcpu_is_reported)
{
	struct state_file file;
	struct err err = ERR_INIT;
	struct state_writer *writer = write_state(&(struct how){sizeof(regs), BLOB_SVM, true}, &file);
	_cleanup_free_ char *json = NULL, *text = NULL;

	ck_assert_msg(nested_report(&file, true, &json, &err) == 0, "%s", err.text);
	ck_assert_ptr_nonnull(strstr(json, "[{\"vcpu\": 0, \"nesting\": \"none\", \"runs\": \"L1\""));
	ck_assert_ptr_nonnull(strstr(json, "}, {\"vcpu\": 1, \"nesting\": \"svm\", \"runs\": \"L2\""));
	ck_assert_ptr_nonnull(strstr(json, "\"rip\": \"0xffffffff81a1c2b3\""));
	ck_assert_ptr_nonnull(strstr(json, "\"nmi-pending\": true"));
	ck_assert_int_eq(json[strlen(json) - 1], ']');
	ck_assert_int_eq(nested_report(&file, false, &text, &err), 0);
	ck_assert_ptr_nonnull(strstr(text, "\n\nvcpu                         1\n"));
	state_writer_destroy(writer);
}
END_TEST

static void check_refused(const struct how *how, const char *where, const char *what)
{
	struct state_file file;
	struct err err = ERR_INIT;
	struct state_writer *writer = write_state(how, &file);
	char *json = NULL;

	ck_assert_int_eq(nested_report(&file, true, &json, &err), -EINVAL);
	ck_assert_msg(strstr(err.text, where) && strstr(err.text, what), "%s", err.text);
	state_writer_destroy(writer);
}

START_TEST(damage_is_named)
{
	check_refused(&(struct how){sizeof(regs) - 8, BLOB_SVM, true}, "vcpu1", "regs");
	check_refused(&(struct how){sizeof(regs), BLOB_SVM, false}, "vcpu1", "events");
	check_refused(&(struct how){sizeof(regs), 64, true}, "vcpu1", "64 bytes");
	check_refused(&(struct how){sizeof(regs), BLOB_SVM - 1, true}, "vcpu1", "4224");
}
END_TEST

START_TEST(a_state_without_vcpus_is_refused)
{
	struct state_writer *writer = NULL;
	struct state_file file;
	struct err err = ERR_INIT;
	const void *bytes = NULL;
	char *json = NULL;
	size_t len = 0;

	ck_assert_int_eq(state_writer_create(&writer, &err), 0);
	state_begin(writer, "devices");
	state_end(writer);
	ck_assert_int_eq(state_writer_finish(writer, &bytes, &len, &err), 0);
	ck_assert_int_eq(state_file_open(bytes, len, &file, &err), 0);
	ck_assert_int_eq(nested_report(&file, true, &json, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "vcpus"));
	state_writer_destroy(writer);
}
END_TEST

TEST_MAIN("nested_report", each_vcpu_is_reported, damage_is_named, a_state_without_vcpus_is_refused)
