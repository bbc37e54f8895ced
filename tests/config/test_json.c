/* The borders of what json_scan takes, from RFC 8259 and the table of well-formed UTF-8 in the Unicode
 * standard. */
#include "base/cleanup.h"
#include "config/json.h"
#include "config/json_scan.h"
#include "harness.h"

#include <string.h>

static int scan(const char *text)
{
	struct err err = ERR_INIT;
	size_t len = strlen(text);
	char *copy = malloc(len ? len : 1); /* no byte beyond the end, so that ASan sees one read there */
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, text, len);
	int rc = json_scan("x", copy, len, &err);
	free(copy);
	return rc;
}

static const char *const valid[] = {
	"0",
	"-0",
	"10",
	"-1.5",
	"1e5",
	"1E+05",
	"0.0e-0",
	"true",
	"false",
	"null",
	"\"\"",
	"[]",
	"{}",
	"[[]]",
	" \t\r\n[ 1 , 2 ] ",
	"{\"a\":{\"b\":[1,{}]},\"\":0}",
	"\"/\\/\\\"\\\\\\b\\f\\n\\r\\t\"",
	"\"\x7f\"",
	"123456789012345678901234567890123456789012345678901234567890",
	/* escapes: both cases of each hexadecimal letter, the borders of the surrogates */
	"\"\\u0001\\uabcd\\uefAB\\uCDEF\"",
	"\"\\ud7ff\\ue000\\uffff\"",
	"\"\\ud800\\udc00\\udbff\\udfff\"",
	/* the shortest and the longest of each length */
	"\"\xc2\x80\xdf\xbf\"",
	"\"\xe0\xa0\x80\xe0\xbf\xbf\"",
	"\"\xe1\x80\x80\xec\xbf\xbf\"",
	"\"\xed\x80\x80\xed\x9f\xbf\"",
	"\"\xee\x80\x80\xef\xbf\xbf\"",
	"\"\xf0\x90\x80\x80\xf0\xbf\xbf\xbf\"",
	"\"\xf1\x80\x80\x80\xf3\xbf\xbf\xbf\"",
	"\"\xf4\x80\x80\x80\xf4\x8f\xbf\xbf\"",
	"[[[[[[[[[[[[[[[[16]]]]]]]]]]]]]]]]",
};

START_TEST(valid_json_is_taken)
{
	for (size_t i = 0; i < ARRAY_LEN(valid); i++)
		ck_assert_msg(scan(valid[i]) == 0, "%s", valid[i]);
}
END_TEST

static const char *const invalid[] = {
	"",
	"-",
	"00",
	"-01",
	".5",
	"1.",
	"1.e1",
	"1e",
	"1e+",
	"+1",
	"1_",
	"1Z",
	"tru",
	"trues",
	"True",
	"NULL",
	"nul",
	"[",
	"]",
	"[1",
	"[,]",
	"[1,]",
	"[1 2]",
	"[1}",
	"{",
	"}",
	"{1}",
	"{\"a\"}",
	"{\"a\":}",
	"{\"a\":1,}",
	"{\"a\":1]",
	"{a:1}",
	"\"",
	"\"\\",
	"\"\\\"",
	"\"\\x\"",
	"\"\\u\"",
	"\"\\u123\"",
	"\"\\u123g\"",
	"\"\\u123G\"",
	"\"\\u12/4\"",
	"\"\\u12:4\"",
	"\"\\u12@4\"",
	"\"\\u12`4\"",
	"\"\\u0000\"",
	"\"\x01\"",
	"\"\x1f\"",
	"\"\t\"",
	"\"\n\"",
	"1 2",
	"1,",
	"[]]",
	"\f1",
	"\xc2\xa0"
	"1",
	"\xef\xbb\xbf",
	"\xef\xbb\xbf"
	"1",
	"\xff\xfe",
	"\xfe\xff"
	"1",
	"1234567890123456789012345678901234567890123456789012345678901",
	"\"\\ud800\"",
	"\"\\uD800\"",
	"\"\\udbff\"",
	"\"\\udc00\"",
	"\"\\udfff\"",
	"\"\\ud800\\ud800\"",
	"\"\\ud800\\udbff\"",
	"\"\\ud800\\ue000\"",
	"\"\\ud800x\"",
	"\"\\ud800\\n1234\"",
	"\"\\ud800xu1234\"",
	"\"\\ud800\\udc0\"",
	"\"\x80\"",
	"\"\xbf\"",
	"\"\xc0\x80\"",
	"\"\xc1\xbf\"",
	"\"\xc2\"",
	"\"\xc2\x7f\"",
	"\"\xc2\xc0\"",
	"\"\xe0\x9f\xbf\"",
	"\"\xe0\x80\x80\"",
	"\"\xe1\x80\"",
	"\"\xe1\x80\xc0\"",
	"\"\xed\xa0\x80\"",
	"\"\xed\xbf\xbf\"",
	"\"\xf0\x8f\xbf\xbf\"",
	"\"\xf4\x90\x80\x80\"",
	"\"\xf5\x80\x80\x80\"",
	"\"\xf1\x80\x80\"",
	"\"\xf1\x80\x80\xc0\"",
	"\"\xff\"",
	"\"\xe1\x80",
	"\"\xf1\x80\x80",
	"[[[[[[[[[[[[[[[[[17]]]]]]]]]]]]]]]]]",
};

START_TEST(anything_else_is_refused)
{
	for (size_t i = 0; i < ARRAY_LEN(invalid); i++)
		ck_assert_msg(scan(invalid[i]) == -EINVAL, "%s", invalid[i]);
}
END_TEST

/* Each number node keeps its own literal, whatever stands around it. */
START_TEST(literals_stay_with_their_numbers)
{
	static const char text[] = "{ \"1\": 1, \"\\\"-2\": [2.50, \"3\", -4e05, true], \"5\\\\\": { \"6\": "
				   "18446744073709551617 } }";
	_cleanup_json_ cJSON *root = NULL;
	struct err err = ERR_INIT;
	ck_assert_int_eq(json_parse("x", text, strlen(text), 3, &root, &err), 0);
	_cleanup_free_ char *printed = cJSON_PrintUnformatted(root);
	ck_assert_str_eq(
		printed,
		"{\"1\":1,\"\\\"-2\":[2.50,\"3\",-4e05,true],\"5\\\\\":{\"6\":18446744073709551617}}");
	ck_assert_int_eq(json_origin(root), 3);
	ck_assert_int_eq(json_origin(root->child->next->child->prev), 3);
}
END_TEST

TEST_MAIN("config/json", valid_json_is_taken, anything_else_is_refused, literals_stay_with_their_numbers)
