/* The table itself: nothing unnamed, nothing twice, and every need is a row. */
#include "../../src/cpu/feature_table.h"
#include "harness.h"

#include <errno.h>
#include <string.h>

START_TEST(every_row_has_a_name_and_a_line)
{
	for (size_t i = 0; i < cpu_feature_count(); i++) {
		const struct cpu_feature *feature = cpu_feature_at(i);
		ck_assert_ptr_nonnull(feature);
		ck_assert_ptr_nonnull(feature->name);
		ck_assert_msg(feature->about && feature->about[0], "%s", feature->name);
		ck_assert_msg(feature->about[strlen(feature->about) - 1] != '.', "%s", feature->name);
		ck_assert_uint_lt(strspn(feature->name, "abcdefghijklmnopqrstuvwxyz0123456789-."), 64);
		ck_assert_msg(
			feature->name[strspn(feature->name, "abcdefghijklmnopqrstuvwxyz0123456789-.")] ==
				'\0',
			"%s", feature->name);
	}
	ck_assert_ptr_null(cpu_feature_at(cpu_feature_count()));
}
END_TEST

START_TEST(no_two_rows_for_a_name_or_a_bit)
{
	for (int a = 1; a < F_COUNT; a++) {
		const struct feature_row *x = &feature_rows[a];
		for (int b = a + 1; b < F_COUNT; b++) {
			const struct feature_row *y = &feature_rows[b];
			ck_assert_str_ne(x->is.name, y->is.name);
			ck_assert_msg(x->word != y->word || !(feature_mask((enum feature_id)a) &
							      feature_mask((enum feature_id)b)),
				      "%s and %s", x->is.name, y->is.name);
		}
	}
}
END_TEST

START_TEST(no_feature_is_a_number)
{
	for (int id = 1; id < F_COUNT; id++) {
		const struct feature_word_info *word = &feature_words[feature_rows[id].word];
		ck_assert_msg(!(word->fields & feature_mask((enum feature_id)id)), "%s",
			      feature_rows[id].is.name);
		ck_assert_msg(word->kind == WORD_MSR || feature_rows[id].bit < 32, "%s",
			      feature_rows[id].is.name);
	}
}
END_TEST

START_TEST(words_are_distinct)
{
	for (int a = 0; a < WORD_COUNT; a++) {
		const struct feature_word_info *x = &feature_words[a];
		ck_assert_ptr_nonnull(x->label);
		for (int b = a + 1; b < WORD_COUNT; b++) {
			const struct feature_word_info *y = &feature_words[b];
			ck_assert_str_ne(x->label, y->label);
			if (x->kind == WORD_CPUID && y->kind == WORD_CPUID)
				ck_assert(x->function != y->function || x->index != y->index ||
					  x->reg != y->reg);
			else if (x->kind != WORD_CPUID && y->kind != WORD_CPUID)
				ck_assert_uint_ne(x->msr, y->msr);
		}
	}
}
END_TEST

/* Needs lead down and end: no feature needs itself, however far around. */
START_TEST(needs_have_no_circle)
{
	static int depth[F_COUNT];
	for (int round = 0; round < F_COUNT; round++)
		for (int id = 1; id < F_COUNT; id++)
			for (const uint16_t *need = feature_rows[id].needs; *need; need++)
				if (depth[*need] >= depth[id])
					depth[id] = depth[*need] + 1;
	for (int id = 1; id < F_COUNT; id++)
		ck_assert_msg(depth[id] < 16, "%s", feature_rows[id].is.name);
}
END_TEST

/* Whatever belongs to VMX or SVM goes with it. */
START_TEST(nested_words_need_their_root)
{
	for (int id = 1; id < F_COUNT; id++) {
		const struct feature_word_info *word = &feature_words[feature_rows[id].word];
		if (word->vendor == VENDOR_ANY)
			continue;
		int at = id;
		while (feature_rows[at].needs[0])
			at = feature_rows[at].needs[0];
		ck_assert_msg(at == (word->vendor == VENDOR_INTEL ? F_VMX : F_SVM), "%s ends at %s",
			      feature_rows[id].is.name, feature_rows[at].is.name);
	}
}
END_TEST

START_TEST(found_by_name_or_suggested)
{
	struct err err = ERR_INIT;
	size_t index;
	for (size_t i = 0; i < cpu_feature_count(); i++) {
		ck_assert_int_eq(cpu_feature_find(cpu_feature_at(i)->name, &index, &err), 0);
		ck_assert_uint_eq(index, i);
	}
	ck_assert_int_eq(cpu_feature_find("vmx-etp", &index, &err), -ENOENT);
	ck_assert_str_eq(err.text, "there is no CPU feature \"vmx-etp\" (did you mean \"vmx-ept\"?)");
	err = ERR_INIT;
	ck_assert_int_eq(cpu_feature_find("quantum-teleportation", &index, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "'aerie cpu list'"));
}
END_TEST

START_TEST(models_have_names)
{
	ck_assert_str_eq(cpu_model_at(0)->name, "host");
	for (size_t i = 0; cpu_model_at(i); i++)
		ck_assert_ptr_eq(&model_find(cpu_model_at(i)->name)->is, cpu_model_at(i));
	ck_assert_ptr_null(model_find("pentium"));
}
END_TEST

TEST_MAIN("features_table", every_row_has_a_name_and_a_line, no_two_rows_for_a_name_or_a_bit,
	  no_feature_is_a_number, words_are_distinct, needs_have_no_circle, nested_words_need_their_root,
	  found_by_name_or_suggested, models_have_names)
