/*
 * A Check program in one macro: TEST_MAIN("bytes", writer_stops_at_its_end, reader_...). Each test is its own
 * tcase, so that the report names it.
 */
#ifndef AERIE_TESTS_HARNESS_H
#define AERIE_TESTS_HARNESS_H

#include <check.h>
#include <stdlib.h>

#define TEST_SKIP 77

static inline int harness_run(const char *suite_name, const TTest *const *tests, size_t count)
{
	Suite *suite = suite_create(suite_name);
	for (size_t i = 0; i < count; i++) {
		TCase *tcase = tcase_create(tests[i]->name);
		tcase_set_timeout(tcase, 60);
		tcase_add_test(tcase, tests[i]);
		suite_add_tcase(suite, tcase);
	}
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define TEST_MAIN(suite_name, ...)                                                                           \
	int main(void)                                                                                       \
	{                                                                                                    \
		const TTest *const tests[] = {__VA_ARGS__};                                                  \
		return harness_run(suite_name, tests, sizeof(tests) / sizeof(tests[0]));                     \
	}

#endif
